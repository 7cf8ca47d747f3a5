"""Tests of service.observability."""
