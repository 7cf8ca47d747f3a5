"""Models of other libraries, and generated graphs, imported and compared with the originals."""
