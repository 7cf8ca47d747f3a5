"""Requests a second relative to the floor, ours among the peers, as a picture for the README."""
from bench.results import Results


def draw(results: Results) -> None:
    """todo."""
