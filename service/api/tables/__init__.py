"""Tables that are scored as they stream: CSV and newline-delimited JSON, in and out."""
