"""Latents to bytes and back, the same on every machine: integer tables, integer networks, one file format.

docs/bitstream.md specifies all of it well enough to write a second decoder.
"""
