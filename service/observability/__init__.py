"""Metrics and logs of one process."""
