"""Tests of serving without HTTP."""
