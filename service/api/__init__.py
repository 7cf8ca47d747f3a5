"""HTTP: protocols, request bodies, health, and the one table of status codes."""
