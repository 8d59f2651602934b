"""Credentials become an actor, and an actor has rights."""
