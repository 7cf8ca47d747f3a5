"""Measure the effect of clients that attack the service on another client."""
