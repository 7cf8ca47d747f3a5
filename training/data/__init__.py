"""Tables and their sources: reading, splitting, quality."""
