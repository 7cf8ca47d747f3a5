"""Tests of training on pictures."""
