"""Recipes drafted from an unknown table or image folder."""
