"""Tests of the tables that stream."""
