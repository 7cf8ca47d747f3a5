"""Tests of service.api.images."""
