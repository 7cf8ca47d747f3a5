"""Models of other libraries as bundles."""
