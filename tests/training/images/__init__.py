"""Tests of training.images."""
