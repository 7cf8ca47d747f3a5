"""Tests of training, one module for each of its modules."""
