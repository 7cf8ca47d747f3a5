"""Tests of the protocol of TensorFlow Serving and KServe, version 1."""
