"""Metrics, baselines, intervals and calibration on held-out rows."""
