"""Networks, preprocessing, losses and optimizers for tables."""
