"""Tests of images over HTTP."""
