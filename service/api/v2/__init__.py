"""The v2 protocol, the Open Inference Protocol, with Triton's extensions."""
