"""Several processes that are one service: who they are, and how they agree."""
