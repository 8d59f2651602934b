"""Nora: a package-registry host whose registry formats are plugins."""

__version__ = "0.1.0"
