"""Clients that try to hang, crash or starve the service, and what they do to another client."""
