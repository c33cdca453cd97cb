"""The frames between two: how things moved, where that puts them, and what repairs the rest."""
