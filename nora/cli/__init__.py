"""The ``nora`` command."""
