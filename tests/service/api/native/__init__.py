"""Tests of service.api.native."""
