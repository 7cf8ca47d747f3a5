"""Networks, preprocessing, losses and optimizers of tables."""
