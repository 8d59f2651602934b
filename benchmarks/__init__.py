"""Measures Nora beside nginx and other package indexes, on one machine and in one run: ``python -m benchmarks``."""
