"""The coordination of several worker processes of one service."""
