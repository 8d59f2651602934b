"""The public test kit: what a plugin's author needs to test a format against real clients and hostile upstreams."""
