"""What video codecs spend on clips and what is left of them: the same frames in one run, rates from the sizes of files.

    python benchmarks/rate_distortion_video.py --clips clips --frames 48 --plug ours.py:ways -o rate-distortion-video

x264, x265 and SVT-AV1 through PyAV at several constant qualities (crf), 4:2:0, key frames where the encoder wants
them; and any function that makes bytes and frames of frames: `--plug FILE.py:NAME` calls NAME() for a list of objects
with `name`, `settings` and `code(frames, setting) -> (bytes, frames)`, uint8 (T, H, W, 3).

Bits per pixel: of the Matroska file over the pixels of all frames; its own kilobyte counts where clips are short and
small. PSNR of a clip (dB, from the mean squared error of all its frames), SSIMULACRA2 (libjxl's) of every `--every`-th
frame: means over clips. Marks as in rate_distortion.py.
"""

import argparse
import os
import platform
import sys
import time
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import torch
from rate_distortion import COLUMNS, Point, marks_table, signed, table, written
from rate_distortion_codecs import Way, plugged

from framefill.metrics.image import psnr
from framefill.metrics.rates import bits_per_pixel
from framefill.metrics.ssimulacra2 import ssimulacra2
from framefill.video.files import read_clip

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".y4m", ".gif")
ENCODERS = {
    "x264": ("libx264", (20, 26, 32, 38, 44), {"preset": "medium"}),
    "x265": ("libx265", (20, 26, 32, 38, 44), {"preset": "medium", "x265-params": "log-level=error:pools=none:info=0"}),
    "SVT-AV1": ("libsvtav1", (24, 34, 44, 54, 63), {"preset": "6", "svtav1-params": "lp=1"}),
}


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--clips", type=Path, required=True, help="a clip or a folder of clips")
    words.add_argument("--frames", type=int, default=48, help="the first so many frames of each")
    words.add_argument("--every", type=int, default=8, help="SSIMULACRA2 looks at every so many-th frame")
    words.add_argument("--limit", type=int, help="the first so many clips only")
    words.add_argument("--plug", nargs="*", default=[], help="FILE.py:NAME, a function that returns ways")
    words.add_argument("-o", "--output", type=Path)
    given = words.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("SVT_LOG", "1")  # errors only
    found = sorted(p for p in given.clips.iterdir() if p.suffix.lower() in SUFFIXES) if given.clips.is_dir() else None
    paths = (found or [given.clips])[: given.limit]
    truth = [even(read_clip(path, limit=given.frames).frames) for path in paths]
    ways = classical() + [way for word in given.plug for way in plugged(word)]
    points = []
    for codec, setting in ((way, setting) for way in ways for setting in way.settings):
        points.append(measured(codec, setting, truth, given.every))
        print(f"{codec.name} {setting}: {points[-1].bits:.4f} bits/px", file=sys.stderr)
    shapes = ", ".join("x".join(str(n) for n in clip.shape[:3]) for clip in truth)
    head = f"{platform.machine()}, PyAV {av.__version__}; {len(truth)} clips of {given.clips} (frames, height, width: "
    text = f"{head}{shapes})\n\n{table(points)}\n\n{marks_table(points)}"
    print(text)
    if given.output:
        firsts = [clip[len(clip) // 2] for clip in truth]
        written(given.output, text, points, [p.name for p in paths], firsts, 0.05)


def even(frames):
    """Frames without a last odd row or column: 4:2:0 has none."""
    return np.ascontiguousarray(frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2])


def classical():
    """The encoders that this PyAV has."""
    here = {name: held for name, held in ENCODERS.items() if held[0] in av.codecs_available}
    for name in ENCODERS.keys() - here.keys():
        print(f"without {name}: this PyAV has no {ENCODERS[name][0]}")
    return [Way(name, settings, encoder(codec, options)) for name, (codec, settings, options) in here.items()]


def encoder(codec, options):
    def code(frames, crf):
        file = BytesIO()
        with av.open(file, "w", format="matroska") as container:
            stream = container.add_stream(codec, rate=24, options={"crf": str(crf), **options})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            stream.codec_context.thread_count = 1
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        data = file.getvalue()
        with av.open(BytesIO(data)) as container:
            back = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return data, np.stack(back)

    return code


def measured(way, setting, truth, every):
    """One codec at one setting on all clips."""
    start = time.perf_counter()
    coded = [way.code(clip, setting) for clip in truth]
    spent = time.perf_counter() - start
    sizes = [clip[..., 0].size for clip in truth]
    for clip, (_, back) in zip(truth, coded, strict=True):
        assert back.shape == clip.shape, (way.name, back.shape)
        assert back.dtype == np.uint8, (way.name, back.dtype)
    pairs = [(back, clip) for clip, (_, back) in zip(truth, coded, strict=True)]
    scores = {
        "bits": [bits_per_pixel(len(file), n) for (file, _), n in zip(coded, sizes, strict=True)],
        "psnr": [min(float(psnr(*pair, axes=4)), 99.0) for pair in pairs],
        "ssimulacra2": [seen(*pair, every) for pair in pairs],
    }
    assert scores.keys() - {"bits"} <= COLUMNS.keys()
    rate = bits_per_pixel(sum(len(file) for file, _ in coded), sum(sizes))
    middles = [back[len(back) // 2] for back, _ in pairs]
    return Point(way.name, str(setting), rate, scores, spent / sum(sizes) * 1e6, middles)


def seen(made, truth, every):
    """Mean SSIMULACRA2 of every so many-th frame."""
    with torch.inference_mode():
        return float(
            np.mean([float(ssimulacra2(signed(made[t]), signed(truth[t]))[0]) for t in range(0, len(truth), every)])
        )


if __name__ == "__main__":
    main()
