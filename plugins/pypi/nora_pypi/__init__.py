"""The PyPI format: Simple API in HTML and JSON, uploads, upstream proxying."""

__version__ = "0.1.0"
