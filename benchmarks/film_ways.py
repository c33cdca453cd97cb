"""Our codec for rate_distortion_video.py: --plug film_ways.py:ways, the model named by $FRAMEFILL_CODEC (else shipped).

`ways` are the faithful decode at every other quality, with groups of up to 8 frames; `singly` the same with every frame
by itself, which shows what the transform along time is worth.
"""

import io
import os
from fractions import Fraction

import numpy as np
from rate_distortion_codecs import Way

from framefill import codecs
from framefill.codec import groups
from framefill.codec.film_codec import FilmCodec
from framefill.codec.header import Depth
from framefill.codec.stamps import Stamps
from framefill.codec.stream import Chunks, opened


def ways():
    """One way, several qualities."""
    codec = FilmCodec(codecs.codec(os.environ.get("FRAMEFILL_CODEC", "")))
    return [Way("framefill", tuple(range(0, codec.pictures.model.qualities, 2)), coder(codec, groups.RUNS))]


def singly():
    """Every frame by itself."""
    codec = FilmCodec(codecs.codec(os.environ.get("FRAMEFILL_CODEC", "")))
    return [Way("framefill, T = 1", tuple(range(0, codec.pictures.model.qualities, 2)), coder(codec, (1,)))]


def coder(codec, runs):
    def code(frames, quality):
        usual, groups.RUNS = groups.RUNS, runs
        try:
            file = io.BytesIO()
            with Chunks() as chunks:
                start = codec.header(quality, depth=Depth.BITS_8)
                chunks.write(file, codec.compress(frames, Stamps(Fraction(24)), start, chunks))
        finally:
            groups.RUNS = usual
        data = file.getvalue()
        return data, np.stack([shown.pixels for shown in codec.frames(opened(data))])

    return code
