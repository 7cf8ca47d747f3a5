"""Explanations of predictions over HTTP."""
