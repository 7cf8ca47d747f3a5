"""HTTP without inference: dialects, codecs, health, and the one table of status codes."""
