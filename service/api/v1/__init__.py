"""The v1 protocol, of TensorFlow Serving and KServe."""
