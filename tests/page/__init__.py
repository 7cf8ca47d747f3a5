"""Tests of the page for browsers, in a real one."""
