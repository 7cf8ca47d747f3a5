"""Tests of service.server."""
