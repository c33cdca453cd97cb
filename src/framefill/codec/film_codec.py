"""`FilmCodec`: films to bytes and back, a group of eight frames at a time, in memory that does not grow with length.

A group is a chunk of its own: nothing in it leans on another, so damage stays where it is, and a cut file has all
frames before the cut. Its symbols are exact; floats come after them. Every frame is painted by itself, and the noise of
a realistic decode is a function of the place alone, the same in all frames: what is still stays still.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.codec import cut, groups, haar
from framefill.codec.container import PartLost
from framefill.codec.header import STEPS, Colour, Depth, Header, Kind, Sampler
from framefill.codec.learned import noise_at
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture
from framefill.codec.stamps import Stamps, taken
from framefill.codec.stream import Chunks, Opened
from framefill.errors import BadInput, CodecError
from framefill.latents.tiles import bands, spans

COLOURS = {1: Colour.GREY, 3: Colour.RGB}
CHANNELS = {colour: channels for channels, colour in COLOURS.items()}
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Shown:
    """A frame (H, W, 1 or 3), uint8 or uint16, and when it is shown, in seconds."""

    pixels: Pixels
    time: Fraction


@dataclass(frozen=True)
class FilmCodec:
    """Films with the model, tiles and device of a codec for pictures."""

    pictures: PictureCodec

    def header(self, quality: int | None, *, depth: Depth, steps: int = 0, seed: int = 0) -> Header:
        """What a file says of its decode, before its frames are seen. BadInput as in `PictureCodec.compress`."""
        count = self.pictures.model.qualities
        quality = count // 2 if quality is None else quality
        if not 0 <= quality < count or not 0 <= steps <= STEPS:
            raise BadInput(
                f"quality {quality}, {steps} steps; this model has qualities 0 (smallest file) to {count - 1}, and "
                f"steps are 0 (faithful) to {STEPS}"
            )
        return Header(
            Kind.VIDEO, self.pictures.marks[quality], 1, 1, depth=depth, seed=seed, steps=steps,
            sampler=Sampler.MODEL if steps else Sampler.MEAN,
        )  # fmt: skip

    def compress(self, frames: Iterable[Pixels], stamps: Stamps, header: Header, chunks: Chunks) -> Header:
        """Puts the groups of uint8 or uint16 frames (H, W, 1 or 3) into `chunks`, and gives the file's header."""
        stream, count = iter(frames), 0
        shape: tuple[int, ...] = ()
        quality = self.pictures.known[header.fingerprint][1]
        while group := list(islice(stream, groups.LENGTH)):
            shape = shape or group[0].shape
            if any(frame.shape != shape for frame in group) or len(shape) != 3 or shape[2] not in COLOURS:
                raise BadInput(f"frames of shapes {sorted({f.shape for f in group})}; give one, (H, W, 1 or 3)")
            chunks.add(stamps.of(count, len(group)) + self.message(group, quality))
            count += len(group)
        if not count:
            raise BadInput("there is not one frame to compress")
        rate = stamps.rate
        return replace(
            header, width=shape[1], height=shape[0], colour=COLOURS[shape[2]], pictures=count,
            rate=(rate.numerator, rate.denominator),
        )  # fmt: skip

    @torch.inference_mode()
    def message(self, group: Sequence[Pixels], quality: int) -> bytes:
        """The symbols of up to 8 frames."""
        model = _temporal(self.pictures)
        latents = torch.stack([self._latents(Picture(frame)) for frame in group])
        return groups.encode(model, groups.chosen(model, latents, quality), quality)

    def frames(self, file: Opened, *, steps: int | None = None, seed: int | None = None) -> Iterator[Shown]:
        """All frames of a film; `steps` (0: faithful) and `seed` instead of the sender's.

        A damaged group is a pause: the frame before is shown on, at the film's rate, or before all others the first
        that arrived. What is cut off behind is left out. Both with a warning `PartLost` at the end. CodecError for what
        is no film of a model at hand.
        """
        header = _asked(file.header, steps, seed)
        self._check(file)
        rate = Fraction(*header.rate)
        lost: list[int] = []
        last: Shown | None = None
        held = 0
        arrived, total = file.arrived(), file.chunks
        for index in range(arrived):
            first = index * groups.LENGTH
            count = min(groups.LENGTH, header.pictures - first)
            payload = file.chunk(index)
            if payload is None:
                lost.append(index)
                if last is None:
                    held += count
                    continue
                pixels, time = last.pixels, last.time
                for i in range(1, count + 1):
                    last = Shown(pixels, time + i / rate)
                    yield last
                continue
            for last in self.group(payload, first, header):
                if held:  # what was lost before the first sound group
                    yield from (Shown(last.pixels, last.time - i / rate) for i in range(held, 0, -1))
                    held = 0
                yield last
        if last is None:
            raise CodecError("the file is damaged: not one of its parts has a sound checksum; fetch it again")
        _warn(lost, arrived, total, header)

    def group(self, payload: bytes, first: int, header: Header) -> Iterator[Shown]:
        """The frames of one sound group that begins with frame number `first`."""
        count = min(groups.LENGTH, header.pictures - first)
        times, message = taken(payload, first, count, Fraction(*header.rate))
        model, quality = self.pictures.known[header.fingerprint]
        size = -(-header.height // model.stride), -(-header.width // model.stride)
        runs = groups.decode(_temporal(self.pictures, header), message, count, size, quality)
        done = 0
        for run in runs:
            told = groups.told(model, quality, len(run))
            for values in self._values(run, header):
                yield Shown(self._painted(values, header, told), times[done])
                done += 1

    @torch.inference_mode()
    def _values(self, run: groups.Run, header: Header) -> Tensor:
        """What the painter sees (T, C, h, w)."""
        model, quality = self.pictures.known[header.fingerprint]
        temporal = _temporal(self.pictures, header)
        told = [torch.tensor([temporal.setting(quality, kind)]) for kind in groups.kinds(len(run))]
        device = self.pictures.device
        return haar.inverse([
            model.values(band.to(device), setting.to(device)) for band, setting in zip(run, told, strict=True)
        ])  # fmt: skip

    @torch.inference_mode()
    def _painted(self, values: Tensor, header: Header, quality: int) -> Pixels:
        """A frame of its values (C, h, w), which are as fine as those of a picture of this quality."""
        codec, model = self.pictures, self.pictures.known[header.fingerprint][0]
        told, stride = torch.tensor([quality], device=values.device), model.stride
        drawn = 0 if header.sampler == Sampler.MEAN else header.steps

        def part(rows: slice, columns: slice) -> Tensor:
            own = values[None, :, rows, columns]
            if not drawn:
                return model.mean(own, told)
            return model.sample(own, told, noise_at(rows, columns, stride, header.seed, values.device), drawn)

        channels = CHANNELS[header.colour]
        pixels = np.zeros((header.height, header.width, channels), _dtype(header.depth))
        down, across = (spans(n, tile=codec.tile, halo=codec.halo, fade=codec.fade) for n in values.shape[1:])
        top = 0
        for band in bands(part, down, across, fade=codec.fade, scale=stride):
            found = cut.levels(band[0, :, : header.height - top, : header.width], channels, pixels.dtype)
            pixels[top : top + len(found)] = found
            top += len(found)
        return pixels

    def _latents(self, picture: Picture) -> Tensor:
        """Latents (C, h, w) of a frame, of the middles of tiles, as `PictureCodec` takes them."""
        codec, model = self.pictures, _temporal(self.pictures)
        stride, core = model.stride, codec.tile - 2 * codec.halo
        h, w = (-(-side // stride) for side in picture.size)
        found = torch.empty(model.entropy.channels, h, w)
        for top, left in product(range(0, h, core), range(0, w, core)):
            rows, columns = (cut.around(start, core, codec.halo, end) for start, end in ((top, h), (left, w)))
            own = model.latents(cut.floats(picture, rows, columns, stride).to(codec.device))[0]
            own = own[:, top - rows.start :, left - columns.start :][:, : min(core, h - top), : min(core, w - left)]
            found[:, top : top + core, left : left + core] = own.cpu()
        return found

    def _check(self, file: Opened) -> None:
        header = file.header
        if header.fingerprint not in self.pictures.known:
            raise CodecError(f"the file was made with model {header.fingerprint.hex()}, which is not here")
        expected = -(-header.pictures // groups.LENGTH)
        if header.kind != Kind.VIDEO or header.layers != 1 or header.colour not in CHANNELS or not header.rate[0]:
            raise CodecError("the file holds no film as docs/bitstream.md has them; use the verb or function for it")
        if file.chunks != expected:
            raise CodecError(f"the file has {file.chunks} groups, {header.pictures} frames are {expected}")


def depth_of(bits: int) -> Depth:
    """Of films of so many bits a level."""
    return {8: Depth.BITS_8, 10: Depth.BITS_10, 12: Depth.BITS_12}.get(bits, Depth.BITS_16)


def bits_of(depth: Depth) -> int:
    """Bits of a level."""
    return {Depth.BITS_8: 8, Depth.BITS_10: 10, Depth.BITS_12: 12}.get(depth, 16)


def _dtype(depth: Depth) -> Any:
    return np.uint8 if depth == Depth.BITS_8 else np.uint16


def _temporal(pictures: PictureCodec, header: Header | None = None) -> groups.Temporal:
    """The model, if it can do video; CodecError otherwise."""
    model: Any = pictures.model if header is None else pictures.known[header.fingerprint][0]
    if not all(hasattr(model, name) for name in ("latents", "steps", "setting")):
        raise CodecError("this model is for pictures only; name one that codes films too with --model")
    found: groups.Temporal = model
    return found


def _asked(header: Header, steps: int | None, seed: int | None) -> Header:
    if steps is not None:
        header = replace(header, steps=steps, sampler=Sampler.MODEL if steps else Sampler.MEAN)
    return header if seed is None else replace(header, seed=seed)


def _warn(lost: list[int], arrived: int, total: int, header: Header) -> None:
    words = [f"{len(lost)} of {total} groups are damaged, their frames stand still"] if lost else []
    if arrived < total:
        kept = min(arrived * groups.LENGTH, header.pictures)
        words.append(f"it is cut off behind frame {kept} of {header.pictures}")
    if words:
        warnings.warn(f"parts of the film are lost: {', '.join(words)}", PartLost, stacklevel=3)
