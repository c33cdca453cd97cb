"""`PictureCodec`: pictures to bytes and back, of any size, in memory that does not grow with the network's work.

The symbols of the whole picture are held, its floats never. The encoder sees tiles with a margin and keeps their
middle; the decoder's tiles overlap and melt into each other (`latents.tiles`), under noise that is a function of the
place alone. Parts of up to 128 x 128 latents are messages of their own, so damage stays where it is.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.codec import alpha, cut, residual
from framefill.codec.container import Contents, Extra, ExtraKind, PartLost, pack, unpack
from framefill.codec.entropy import EntropyModel
from framefill.codec.header import STEPS, Colour, Depth, Header, Kind, Limits, Sampler
from framefill.codec.learned import Learned, fingerprints, noise_at
from framefill.codec.pictures import Picture
from framefill.errors import BadInput, CodecError
from framefill.latents.tiles import bands, spans

CHANNELS = {Colour.GREY: 1, Colour.GREY_ALPHA: 2, Colour.RGB: 3, Colour.RGBA: 4}
DEPTHS: dict[Depth, Any] = {Depth.BITS_8: np.uint8, Depth.BITS_16: np.uint16}
JOINED = 4096
TILING = (96, 8, 8)  # tile, halo and fade in latents; files with a bound lean on these


@dataclass(frozen=True)
class PictureCodec:
    """Compresses with `model`, decompresses what it or one of `others` made.

    Tiles have `tile` latents with a `halo` that is thrown away and a `fade`, as in `latents.tiles`. A picture of one
    part and fewer than `joined` bytes is one message: 12 bytes of format less, and too short to wait for its half.
    """

    model: Learned
    card: Any = None
    device: str = "cpu"
    others: tuple[Learned, ...] = ()
    tile: int = TILING[0]
    halo: int = TILING[1]
    fade: int = TILING[2]
    joined: int = JOINED

    @cached_property
    def known(self) -> dict[bytes, tuple[Learned, int]]:
        """Model and quality by fingerprint."""
        return {
            mark: (model, quality)
            for model in (*reversed(self.others), self.model)
            for quality, mark in enumerate(self.marks if model is self.model else fingerprints(model))
        }

    @cached_property
    def marks(self) -> list[bytes]:
        """The fingerprints of the model's qualities."""
        return fingerprints(self.model)

    def compress(
        self,
        picture: Picture,
        *,
        quality: int | None = None,
        steps: int = 0,
        seed: int = 0,
        max_error: int | None = None,
    ) -> bytes:
        """The file's bytes. `quality` 0 (smallest) to `model.qualities` - 1, by default the middle one.

        `steps` 0 (the faithful picture) to 31 and `seed` are how the file is decoded if nothing else is asked for.
        With `max_error` no level of the decoded picture is off by more, on any machine; 0 is lossless. A bound so tight
        that what is added does not lean on the network is by default at quality 0, which only serves as a preview then.
        """
        if quality is None and max_error is not None and max_error < residual.ROOM[picture.depth]:
            quality = 0
        quality = self._quality(quality)
        if max_error is not None and steps:
            raise BadInput(f"within {max_error} levels of the picture there is nothing to draw; leave the steps away")
        symbols = self._symbols(picture, quality)
        messages = self._messages(self.model.entropy, symbols, quality)
        if max_error is None and len(messages) == 1 and sum(map(len, messages[0])) < self.joined:
            messages = self._messages(self.model.entropy.joined(), symbols, quality)
        header = Header(
            Kind.IMAGE, self.marks[quality], picture.size[1], picture.size[0], depth=picture.depth,
            colour=picture.colour, layers=len(messages[0]) + (max_error is not None), seed=seed, steps=steps,
            sampler=Sampler.MODEL if steps else Sampler.MEAN,
        )  # fmt: skip
        if max_error is not None:
            for message, more in zip(messages, self._residuals(picture, symbols, header, max_error), strict=True):
                message.append(more)
        return pack(header, messages, _extras(picture))

    def fitted(
        self, picture: Picture, size: int, *, steps: int = 0, seed: int = 0, max_error: int | None = None
    ) -> bytes:
        """The file of the best quality that has at most `size` bytes; BadInput where even the lowest has more."""
        best, least, most = None, 0, self.model.qualities - 1
        while least <= most:
            quality = (least + most) // 2
            data = self.compress(picture, quality=quality, steps=steps, seed=seed, max_error=max_error)
            if len(data) <= size:
                best, least = data, quality + 1
            else:
                most = quality - 1
                smallest = len(data)
        if best is None:
            raise BadInput(f"the smallest file of this picture has {smallest} bytes, {size} are allowed; allow more")
        return best

    def decompress(
        self, data: bytes, *, steps: int | None = None, seed: int | None = None, limits: Limits | None = None
    ) -> Picture:
        """The picture in a file; `steps` (0: faithful) and `seed` instead of the sender's.

        Where parts are lost the rest is filled in, with a warning `PartLost`. CodecError for what cannot be used.
        """
        contents = self._opened(data, limits)
        header = contents.header
        if steps is not None or seed is not None:
            drawn = _decode_steps(header) if steps is None else steps
            header = replace(
                header, seed=header.seed if seed is None else seed, steps=drawn,
                sampler=Sampler.MODEL if drawn else Sampler.MEAN,
            )  # fmt: skip
        self._warn(contents)
        return self._picture(contents, header)

    def invented(
        self, data: bytes, *, samples: int = 8, steps: int | None = None, limits: Limits | None = None
    ) -> NDArray[np.float32]:
        """How far samples with seeds 0, 1, ... are apart at every pixel (H, W): standard deviation, 1 is full range.

        What is the same in all samples the file says; the rest is invented. BadInput for fewer than two samples, or
        for none (0 steps).
        """
        contents = self._opened(data, limits)
        steps = _decode_steps(contents.header) or 4 if steps is None else steps
        if samples < 2 or steps < 1:
            raise BadInput(f"{samples} samples of {steps} steps; give two or more of 1 to {STEPS}")
        self._warn(contents)
        mean: NDArray[Any] = np.zeros(1, np.float32)
        apart = mean
        for seed in range(samples):
            header = replace(contents.header, seed=seed, steps=steps, sampler=Sampler.MODEL)
            picture = self._picture(contents, header)
            own = picture.colours.astype(np.float32) / picture.top
            before, mean = mean, mean + (own - mean) / (seed + 1)
            apart = apart + (own - before) * (own - mean)
        return np.sqrt((apart / (samples - 1)).mean(-1))

    def _warn(self, contents: Contents) -> None:
        """Says what is lost, if anything is."""
        if contents.whole:
            return
        layers = contents.header.layers
        words: list[str] = []
        if contents.lost:
            first = min(chunk // contents.parts for chunk in contents.lost)
            words.append(
                f"{len(contents.lost)} of {len(contents.chunks)} chunks, from layer {first + 1} of {layers} on"
            )
        words += [f"{contents.extras_lost} extras"] if contents.extras_lost else []
        words += ["the bound is not kept there"] if contents.lost and self._missing(contents) else []
        what = ", ".join(words)
        warnings.warn(f"parts of the file are lost ({what}); what is missing was filled in", PartLost, stacklevel=3)

    def _quality(self, quality: int | None) -> int:
        count = self.model.qualities
        quality = count // 2 if quality is None else quality
        if not 0 <= quality < count:
            raise BadInput(f"quality {quality}; this model has 0 (smallest file) to {count - 1}")
        return quality

    def _told(self, quality: int) -> Tensor:
        return torch.tensor([quality], device=self.device)

    @torch.inference_mode()
    def _symbols(self, picture: Picture, quality: int) -> Tensor:
        """Symbols (S, h, w) int32 on the CPU, of the middles of tiles."""
        stride, model = self.model.stride, self.model
        h, w = (-(-side // stride) for side in picture.size)
        found = torch.empty(model.entropy.channels, h, w, dtype=torch.int32)
        core = self.tile - 2 * self.halo
        for top, left in product(range(0, h, core), range(0, w, core)):
            rows, columns = (cut.around(start, core, self.halo, end) for start, end in ((top, h), (left, w)))
            x = cut.floats(picture, rows, columns, stride).to(self.device)
            own = model.symbols(x, self._told(quality))[0].cpu()
            own = own[:, top - rows.start :, left - columns.start :][:, :core, :core]
            own = own[:, : h - top, : w - left]
            found[:, top : top + core, left : left + core] = own.to(torch.int32)
        return found

    def _messages(self, entropy: EntropyModel, symbols: Tensor, quality: int) -> list[list[bytes]]:
        told = self._told(quality)
        return [
            entropy.encode(symbols[None, :, rows, columns].long().to(self.device), told)[0]
            for rows, columns in cut.parts(*symbols.shape[1:])
        ]

    def _opened(self, data: bytes, limits: Limits | None) -> Contents:
        """A file taken apart; CodecError unless it is a picture of a model at hand and all numbers in it agree."""
        contents = unpack(data, limits=limits, known=self.known)
        header = contents.header
        if header.kind != Kind.IMAGE or header.colour not in CHANNELS or header.depth not in DEPTHS:
            raise CodecError(
                f"the file holds {describe(header)}, no picture; `framefill decompress FILE` brings it back"
            )
        model, _ = self.known[header.fingerprint]
        layers = self._entropy(header).layers
        expected = len(list(cut.parts(*_latents(header, model))))
        if header.layers - layers not in (0, 1) or contents.parts != expected:
            raise CodecError(
                f"the file has {contents.parts} parts of {header.layers} layers, a picture of its size {expected} of "
                f"{layers}; it was not written as docs/bitstream.md says"
            )
        return contents

    def _entropy(self, header: Header) -> EntropyModel:
        """The laws of a file's messages: a file of one layer has all in one."""
        entropy = self.known[header.fingerprint][0].entropy
        return entropy.joined() if header.layers == 1 else entropy

    def _decoded(self, contents: Contents) -> Tensor:
        """Symbols (S, h, w) int32; those that are lost are predicted."""
        model, quality = self.known[contents.header.fingerprint]
        size, entropy = _latents(contents.header, model), self._entropy(contents.header)
        found = torch.empty(model.entropy.channels, *size, dtype=torch.int32)
        for index, (rows, columns) in enumerate(cut.parts(*size)):
            shape = rows.stop - rows.start, columns.stop - columns.start
            decoded = entropy.decode([contents.part(index)[: entropy.layers]], shape, self._told(quality))
            found[:, rows, columns] = decoded.symbols[0].cpu().clamp(-(2**31), 2**31 - 1).to(torch.int32)
        return found

    def _residuals(self, picture: Picture, symbols: Tensor, header: Header, bound: int) -> Iterator[bytes]:
        """Of every part."""
        decoded = np.zeros_like(picture.colours)
        if bound >= residual.ROOM[header.depth]:
            self._paint(decoded, symbols, header)
        for rows, columns in cut.parts(*symbols.shape[1:]):
            place = cut.times(rows, self.model.stride), cut.times(columns, self.model.stride)
            yield residual.encode(picture.colours[place], decoded[place], bound, header.depth)

    def _picture(self, contents: Contents, header: Header) -> Picture:
        """The pixels, and what travels along."""
        channels = CHANNELS[header.colour]
        pixels = np.zeros((header.height, header.width, channels), DEPTHS[header.depth])
        colours = pixels[..., : channels - 1 + channels % 2]
        missing = self._missing(contents)
        if missing and _decode_steps(header):
            raise BadInput(
                "the file keeps the picture within a bound, so there is nothing to draw; leave the steps away"
            )
        if not missing or any(more is None or residual.leans(more) for more in missing):
            self._paint(colours, self._decoded(contents), header)
        if missing:
            self._complete(colours, contents, missing)
        extras = {extra.kind: extra.data for extra in contents.extras}
        if channels % 2 == 0:
            held = extras.get(ExtraKind.ALPHA)
            shape = (header.height, header.width)
            pixels[..., -1] = np.iinfo(pixels.dtype).max if held is None else alpha.decode(held, shape, pixels.dtype)
        return Picture(pixels, extras.get(ExtraKind.EXIF, b""), extras.get(ExtraKind.ICC, b""))

    def _missing(self, contents: Contents) -> list[bytes | None]:
        """The residuals of all parts; none where no bound was asked for."""
        layers = self._entropy(contents.header).layers
        return [contents.part(i)[layers] for i in range(contents.parts)] if contents.header.layers > layers else []

    def _complete(self, colours: NDArray[Any], contents: Contents, missing: list[bytes | None]) -> None:
        """Adds what is missing; over a decode only where all of that has arrived."""
        model, _ = self.known[contents.header.fingerprint]
        for index, (rows, columns) in enumerate(cut.parts(*_latents(contents.header, model))):
            more = missing[index]
            if more is None or (residual.leans(more) and None in contents.part(index)):
                continue
            place = cut.times(rows, model.stride), cut.times(columns, model.stride)
            colours[place] = residual.decode(more, colours[place])

    def _paint(self, colours: NDArray[Any], symbols: Tensor, header: Header) -> None:
        """Fills the levels (H, W, 1 or 3) with the decoded picture, band by band."""
        top = 0
        for band in self._bands(symbols, header):
            found = cut.levels(band[0, :, : header.height - top, : header.width], colours.shape[2], colours.dtype)
            colours[top : top + len(found)] = found
            top += len(found)

    @torch.inference_mode()
    def _bands(self, symbols: Tensor, header: Header) -> Iterator[Tensor]:
        """The picture (1, 3, rows, width) from top to bottom, in [-1, 1]."""
        model, quality = self.known[header.fingerprint]
        steps, told, stride = _decode_steps(header), self._told(quality), model.stride
        bounded = header.layers > model.entropy.layers
        tile, halo, fade = TILING if bounded else (self.tile, self.halo, self.fade)

        def part(rows: slice, columns: slice) -> Tensor:
            values = model.values(symbols[None, :, rows, columns].long().to(self.device), told)
            if not steps:
                return model.mean(values, told)
            return model.sample(values, told, noise_at(rows, columns, stride, header.seed, self.device), steps)

        down, across = (spans(n, tile=tile, halo=halo, fade=fade) for n in symbols.shape[1:])
        with torch.backends.cudnn.flags(allow_tf32=False):  # a bound is kept on any machine
            yield from bands(part, down, across, fade=fade, scale=stride)


def describe(header: Header) -> str:
    """What a file is, in words."""
    return f"a {header.kind.name.lower()} of {header.width}x{header.height} ({header.colour.name}, {header.depth.name})"


def _decode_steps(header: Header) -> int:
    """Steps of the decode that a header asks for; 0 for the faithful one."""
    return 0 if header.sampler == Sampler.MEAN else header.steps


def _latents(header: Header, model: Learned) -> tuple[int, int]:
    return -(-header.height // model.stride), -(-header.width // model.stride)


def _extras(picture: Picture) -> list[Extra]:
    planes = picture.alpha
    found = [Extra(ExtraKind.ALPHA, alpha.encode(planes))] if planes is not None else []
    found += [Extra(ExtraKind.EXIF, picture.exif)] if picture.exif else []
    return found + ([Extra(ExtraKind.ICC, picture.icc)] if picture.icc else [])
