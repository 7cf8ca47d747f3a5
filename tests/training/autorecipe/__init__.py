"""Tests of training.autorecipe."""
