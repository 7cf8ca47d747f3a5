"""Tests of the bundle contract."""
