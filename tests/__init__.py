"""Tests, one folder a package; each states a behaviour."""
