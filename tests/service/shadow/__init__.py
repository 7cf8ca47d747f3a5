"""Tests of service.shadow."""
