"""Offline training: a recipe and a table in, a published model bundle out."""
