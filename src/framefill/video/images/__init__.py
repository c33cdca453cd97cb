"""Pictures one by one: albums to learn from, and the model that draws new ones.

They live with video because a picture is a clip of one frame: the cache, the fitting to a size and the sheets are the
same, and rooms of one height do not meet.
"""
