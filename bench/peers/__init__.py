"""Servers of other projects, written as in their documentation, with their requirements."""
