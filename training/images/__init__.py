"""Training on images."""
