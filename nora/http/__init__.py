"""The HTTP side: everything that must never be forgotten is done here, once."""
