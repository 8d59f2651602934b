"""The groups of measurements."""
