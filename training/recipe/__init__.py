"""Recipes: complete descriptions of training runs."""
