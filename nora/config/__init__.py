"""Configuration: command line, environment and TOML file become typed settings."""
