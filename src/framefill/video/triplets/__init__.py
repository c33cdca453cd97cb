"""Training data for frame interpolation: two frames, and one of those between."""
