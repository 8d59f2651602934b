"""Raw files for Nora: any file, by project and name."""
