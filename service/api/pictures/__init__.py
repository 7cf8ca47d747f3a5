"""Pictures over HTTP: files, forms, text in JSON, and pixels."""
