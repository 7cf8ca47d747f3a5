"""Serving without HTTP: models found, proved, batched and run."""
