"""Recipes: what a run is, read from one complete file."""
