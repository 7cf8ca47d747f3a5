"""Benchmarks; compare the ratios of one run, because absolute figures depend on the machine."""
