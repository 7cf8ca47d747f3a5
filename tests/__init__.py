"""Tests, with one folder for each package; each one states a behavior."""
