"""Clients of other languages, as their users have them: default settings, nothing for our sake."""
