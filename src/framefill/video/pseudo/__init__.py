"""Pseudo-videos (paper 000): an image, and ever more corrupted versions of it, told backwards as a clip."""
