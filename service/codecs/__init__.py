"""Values to arrays and back, without HTTP: features, rows, tensors, images, outputs, CSV, JSON."""
