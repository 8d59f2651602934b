"""What exists: one immutable manifest per change of a project."""
