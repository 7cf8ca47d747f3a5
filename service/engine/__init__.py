"""The inference engine, without HTTP: model repository, loading, batching and sessions."""
