"""Tests of training.importing."""
