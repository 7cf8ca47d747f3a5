"""Tests of service.explain."""
