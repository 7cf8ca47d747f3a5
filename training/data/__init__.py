"""Read data sets, split their rows, and encode them as numbers."""
