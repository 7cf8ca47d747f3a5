"""Tests of service.imaging."""
