"""The peers, each as its own documentation writes a server, and the packages that it needs."""
