"""The classifier of paper 1."""
