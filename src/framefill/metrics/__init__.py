"""Scores of filled-in sequences; every function is pure and states its formula."""
