"""Where everything is kept: content-addressed blobs, manifests, cached upstream documents."""
