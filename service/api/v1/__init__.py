"""The protocol of TensorFlow Serving and of KServe, version 1."""
