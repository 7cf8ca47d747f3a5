"""HTTP: protocols, routes, request bodies, errors, and OpenAPI."""
