"""Tests of training.recipe."""
