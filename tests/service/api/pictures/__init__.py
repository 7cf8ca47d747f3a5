"""Tests of service.api.pictures."""
