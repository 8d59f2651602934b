"""The way to the upstreams: HTTP client, cached documents, shared downloads, freshness."""
