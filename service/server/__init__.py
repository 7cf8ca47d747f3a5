"""The server: connections, HTTP/1.1, and the fast path into the application."""
