"""Tests of service.codecs."""
