"""Clients in other languages with their default settings."""
