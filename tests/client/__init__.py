"""The client in Python against running services."""
