"""The frames between two: when they are shown, what makes them, and the film that comes of it, frame by frame."""
