"""Tests of v1, the protocol of TensorFlow Serving and KServe."""
