"""Pictures through the codec: round trips, tiles without seams, damage that stays where it is, noise by place."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from codec_double import Blurred, Double, codec
from framefill.codec import alpha, counter, residual
from framefill.codec.container import Extra, PartLost, pack, truncated, unpack
from framefill.codec.cut import PART
from framefill.codec.header import Colour, Depth, Header, Kind, Limits, Sampler
from framefill.codec.learned import fingerprints
from framefill.codec.picture_codec import PictureCodec
from framefill.codec.pictures import Picture
from framefill.errors import BadInput, CodecError


def scene(height: int, width: int, channels: int = 3, dtype=np.uint8, seed: int = 0) -> Picture:
    """Smooth colours with an edge."""
    y, x = np.mgrid[:height, :width] / 40
    planes = [np.sin(y * (c + 1) + seed) + np.cos(x / (c + 1)) + (x > y) for c in range(channels)]
    top = np.iinfo(dtype).max
    return Picture(((np.stack(planes, -1) + 2) / 5 * top).round().astype(dtype))


def error(a: Picture, b: Picture) -> float:
    """Root mean square, in shares of full range, of the colours."""
    return float(np.sqrt(np.mean((a.colours / a.top - b.colours / b.top) ** 2)))


@pytest.mark.parametrize("size", [(1, 1), (7, 9), (8, 8), (33, 70), (130, 40)])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_kind_and_size_comes_back(size, channels, dtype):
    picture = replace(scene(*size, channels, dtype), exif=b"II*\0exif", icc=b"profile")
    there = codec()
    back = there.decompress(there.compress(picture, quality=3))
    assert back.pixels.shape == picture.pixels.shape
    assert back.pixels.dtype == dtype
    assert error(picture, back) < 0.05
    assert (back.exif, back.icc) == (picture.exif, picture.icc)
    if channels in (2, 4):
        np.testing.assert_array_equal(back.alpha, picture.alpha)


def test_16_bits_are_decoded_finer_than_8_could_be():
    y, x = np.mgrid[:64, :64]
    picture = Picture((20000 + 60 * x + 40 * y).astype(np.uint16)[..., None].repeat(3, 2))
    there = codec()
    back = there.decompress(there.compress(picture, quality=3))
    assert len(np.unique(back.pixels)) > 100  # 8 bits would have 25 levels here
    assert error(picture, back) < 1 / 255


def test_grey_is_the_mean_of_the_colours_that_are_decoded():
    picture, there = scene(40, 40, 1), codec(spread=0.5)
    data = there.compress(picture, quality=2, steps=1, seed=5)
    header = replace(unpack(data).header, colour=Colour.RGB)
    coloured = there.decompress(pack(header, [unpack(data).part(0)]))
    expected = coloured.pixels.astype(float).mean(-1)
    inside = (coloured.pixels > 0).all(-1) & (coloured.pixels < 255).all(-1)  # where nothing was clipped
    assert np.abs(there.decompress(data).pixels[..., 0] - expected)[inside].max() <= 1


@pytest.mark.parametrize("size", [(300, 220), (257, 511)])
def test_tiles_leave_no_trace_and_bound_what_a_network_sees(size):
    picture = scene(*size)
    for steps in (0, 2):
        whole, parts = Blurred(renoised=True), Blurred(renoised=True)
        one = PictureCodec(whole, tile=1000)
        many = PictureCodec(parts, tile=13, halo=2, fade=3)
        data = many.compress(picture, quality=2, steps=steps, seed=3)
        assert data == one.compress(picture, quality=2, steps=steps, seed=3)
        apart = many.decompress(data).pixels.astype(int) - one.decompress(data).pixels
        assert np.abs(apart).max() <= 1  # a rounding
        assert parts.largest <= (13 * 8) ** 2 < whole.largest


def test_without_its_margin_a_seam_would_show():
    picture = scene(300, 220)
    data = codec().compress(picture, quality=3)
    bare = PictureCodec(Blurred(), tile=13, halo=0, fade=1)
    smooth = PictureCodec(Blurred(), tile=1000)
    apart = bare.decompress(data).pixels.astype(int) - smooth.decompress(data).pixels
    assert np.abs(apart).max() > 1


def test_large_pictures_are_parts_of_their_own():
    picture = scene(8 * PART + 9, 30)
    there = codec()
    data = there.compress(picture, quality=2)
    contents = unpack(data)
    assert contents.parts == 2
    assert error(there.decompress(data), picture) < 0.05


def test_a_lost_part_is_filled_in_with_a_warning_and_the_others_are_as_they_were():
    picture = scene(2 * 8 * PART, 24)
    there = codec()
    data = there.compress(picture, quality=2)
    whole = there.decompress(data)
    contents = unpack(data)
    chunks = [list(contents.part(i)) for i in range(2)]
    bad = bytearray(data)
    place = data.index(chunks[1][0]) + len(chunks[1][0]) // 2
    bad[place] ^= 1
    with pytest.warns(PartLost, match="1 of 6 chunks, from layer 1 of 3 on"):
        damaged = there.decompress(bytes(bad))
    edge = 8 * (PART - there.halo - there.fade)
    np.testing.assert_array_equal(damaged.pixels[:edge], whole.pixels[:edge])
    assert np.abs(damaged.pixels[-500:].astype(int) - whole.pixels[-500:]).mean() > 5


def test_a_small_picture_is_one_message_and_20_bytes_of_format():
    picture, apart, together = scene(160, 136), codec(), codec(joined=10_000)
    layered, joined = (there.compress(picture, quality=2) for there in (apart, together))
    [[message]] = [unpack(joined).part(0)]
    assert len(joined) - len(message) == 20
    assert 10 <= len(layered) - len(joined) <= 14
    for there in (apart, together):  # what a file is, it says itself
        for file in (layered, joined):
            np.testing.assert_array_equal(there.decompress(file).pixels, apart.decompress(layered).pixels)
    size = sum(map(len, unpack(layered).part(0)))
    assert codec(joined=size).compress(picture, quality=2) == layered
    assert codec(joined=size + 1).compress(picture, quality=2) == joined
    bounded = together.compress(picture, quality=2, max_error=3)
    assert bounded == apart.compress(picture, quality=2, max_error=3), "a bound has its own layer, so all have"
    with pytest.raises(CodecError, match="not one of its parts"):
        together.decompress(joined[:-1])


def test_more_layers_are_a_better_picture():
    picture = scene(160, 160)
    there = codec()
    data = there.compress(picture, quality=2)
    found = []
    for layers in (1, 2, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PartLost)
            found.append(error(there.decompress(truncated(data, layers)), picture))
    assert found[0] > found[1] > found[2]


def test_quality_buys_bytes_and_fitted_finds_the_best_that_fits():
    picture, there = scene(120, 100), codec()
    files = [there.compress(picture, quality=q) for q in range(4)]
    errors = [error(there.decompress(f), picture) for f in files]
    assert sorted(map(len, files)) == list(map(len, files))
    assert sorted(errors, reverse=True) == errors
    for quality in range(4):
        assert there.fitted(picture, len(files[quality])) == files[quality]
        above = files[min(quality + 1, 3)]
        assert there.fitted(picture, len(above) - (quality < 3)) == files[quality]
    with pytest.raises(BadInput, match=f"smallest file of this picture has {len(files[0])} bytes"):
        there.fitted(picture, len(files[0]) - 1)


def test_the_sender_says_how_to_decode_and_the_receiver_may_do_otherwise():
    picture, there = scene(50, 60), codec()
    faithful, drawn = there.compress(picture, quality=2), there.compress(picture, quality=2, steps=2, seed=7)
    mean, sample = there.decompress(faithful).pixels, there.decompress(drawn).pixels
    assert (mean != sample).mean() > 0.5
    np.testing.assert_array_equal(there.decompress(faithful, steps=2, seed=7).pixels, sample)
    np.testing.assert_array_equal(there.decompress(drawn, steps=0).pixels, mean)
    assert (there.decompress(drawn, seed=8).pixels != sample).mean() > 0.5
    assert (there.decompress(drawn, steps=4).pixels != sample).mean() > 0.3
    assert unpack(faithful).header.sampler == Sampler.MEAN


def test_invented_is_the_spread_of_the_noise():
    picture = Picture(np.full((90, 100, 3), 128, np.uint8))
    there = PictureCodec(Double(spread=0.2), tile=8, halo=1, fade=1)
    found = there.invented(there.compress(picture, quality=3), samples=24, steps=1)
    assert found.shape == (90, 100)
    assert found.mean() == pytest.approx(0.1, rel=0.1)  # 0.2 of a range of 2; tiles that melt have a little less
    calm = PictureCodec(Double(spread=0.0))
    assert calm.invented(calm.compress(picture, quality=3), samples=3).max() < 1e-6
    for samples, steps in ((1, 2), (3, 0)):
        with pytest.raises(BadInput, match="two or more"):
            there.invented(there.compress(picture), samples=samples, steps=steps)


def test_models_are_known_by_the_quality_that_made_a_file():
    picture = scene(30, 30)
    first, second = Double(), Double(seed=1)
    assert len({*fingerprints(first), *fingerprints(second)}) == 8
    files = [PictureCodec(m).compress(picture, quality=q) for m in (first, second) for q in range(4)]
    both = PictureCodec(first, others=(second,))
    for file, model in zip(files, [first] * 4 + [second] * 4, strict=True):
        np.testing.assert_array_equal(both.decompress(file).pixels, PictureCodec(model).decompress(file).pixels)
    with pytest.raises(CodecError, match="which is not here"):
        PictureCodec(first).decompress(files[-1])


def test_noise_is_a_function_of_the_place_alone():
    whole = counter.field(slice(0, 50), slice(0, 61), seed=9)
    for rows, columns in ((slice(3, 17), slice(5, 6)), (slice(49, 50), slice(0, 61)), (slice(7, 8), slice(2, 59))):
        np.testing.assert_array_equal(counter.field(rows, columns, seed=9), whole[:, rows, columns])
    for channel, row in ((0, 0), (2, 31)):
        line = counter.normal([61], seed=9, stream=2**32 * channel + row)
        np.testing.assert_array_equal(whole[channel, row], line)
    assert abs(float(whole.mean())) < 0.03
    np.testing.assert_array_equal(
        counter.field(slice(0, 2), slice(0, 5), seed=9, channels=1, first=2)[0], whole[2, :2, :5]
    )
    with pytest.raises(BadInput, match="places are 0 or more"):
        counter.field(slice(-1, 2), slice(0, 5), seed=9)


def test_later_draws_are_other_noise_of_the_same_place():
    """Draw k of colour c is channel 3 k + c; a grey 0 with a spread shows it."""
    flat = Picture(np.full((16, 24, 3), 128, np.uint8))
    there = codec(spread=0.3, renoised=True)
    for steps in (1, 2, 3):
        made = there.decompress(there.compress(flat, quality=3, steps=steps, seed=4)).pixels
        noise = counter.field(slice(0, 16), slice(0, 24), seed=4, channels=3, first=3 * (steps - 1))
        expected = 128 + 127.5 * 0.3 / steps * noise.transpose(1, 2, 0)
        assert np.abs(made - expected.clip(0, 255)).max() < 2


def test_what_cannot_be_is_refused():
    picture, there = scene(20, 20), codec()
    for options in ({"quality": 4}, {"quality": -1}, {"steps": 32}, {"steps": -1}, {"seed": -1}):
        with pytest.raises(BadInput):
            there.compress(picture, **options)
    data = there.compress(picture)
    with pytest.raises(CodecError, match="400 pixels"):
        there.decompress(data, limits=Limits(pixels=399))
    mark, part = unpack(data).header.fingerprint, list(unpack(data).part(0))
    head = Header(Kind.IMAGE, mark, 20, 20, layers=3)
    for bad in (
        replace(head, colour=Colour.BT709),
        replace(head, depth=Depth.FLOAT_32),
        replace(head, kind=Kind.VIDEO),
    ):
        with pytest.raises(CodecError, match="no picture"):
            there.decompress(pack(bad, [part]))
    with pytest.raises(CodecError, match="2 parts of 3 layers"):
        there.decompress(pack(head, [part, part]))
    with pytest.raises(CodecError, match="1 parts of 2 layers"):
        there.decompress(pack(replace(head, layers=2), [part[:2]]))
    for held, words in (
        (b"nonsense", "planes"),
        (alpha.encode(np.zeros((20, 21), np.uint8)), "limits"),
        (alpha.encode(np.zeros((19, 21), np.uint8)), "transparency"),
        (alpha.encode(np.full((20, 20), 256, np.uint16)), "transparency"),
    ):
        with pytest.raises(CodecError, match=words):
            there.decompress(pack(replace(head, colour=Colour.RGBA), [part], [Extra(5, held)]))


def test_a_decoder_that_gives_no_numbers_is_not_believed():
    class Broken(Double):
        def mean(self, values, quality):
            return super().mean(values, quality) * float("nan")

    data = codec().compress(scene(20, 20))
    with pytest.raises(CodecError, match="not numbers"):
        PictureCodec(Broken()).decompress(data)


def test_a_file_without_its_alpha_is_opaque():
    picture, there = scene(20, 20, 4), codec()
    data = there.compress(picture)
    with pytest.warns(PartLost, match="1 extras"):
        back = there.decompress(data[:-2])
    assert (back.alpha == 255).all()


def test_symbols_do_not_depend_on_threads():
    picture = scene(200, 210)
    files = set()
    before = torch.get_num_threads()
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        files.add(codec().compress(picture, quality=2))
    torch.set_num_threads(before)
    assert len(files) == 1


@pytest.mark.parametrize("bound", [0, 1, 9])
@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint8), (4, np.uint16)])
def test_a_bound_is_kept(bound, channels, dtype):
    rng = np.random.default_rng(bound)
    picture = scene(30, 40, channels, dtype)
    rough = picture.pixels + rng.integers(-9, 10, picture.pixels.shape)
    picture = Picture(rough.clip(0, picture.top).astype(dtype))
    there = PictureCodec(Blurred().eval(), tile=9, halo=1, fade=1)  # a bound does not lean on these
    data = there.compress(picture, quality=1, max_error=bound)
    found = codec_of(Blurred()).decompress(data)
    apart = np.abs(found.colours.astype(int) - picture.colours)
    assert apart.max() <= bound
    if channels == 4:
        np.testing.assert_array_equal(found.alpha, picture.alpha)
    assert len(data) <= len(there.compress(picture, quality=1, max_error=max(bound - 1, 0)))
    for verb in (there.decompress, there.invented):
        with pytest.raises(BadInput, match="nothing to draw"):
            verb(data, steps=2)


def codec_of(model) -> PictureCodec:
    return PictureCodec(model.eval())


@pytest.mark.parametrize(("dtype", "bound"), [(np.uint8, 3), (np.uint16, 11)])
def test_a_bound_is_kept_where_the_decode_drifts_as_between_machines(dtype, bound):
    """Floats that are 1e-4 apart move a level, in 16 bits three."""

    class Drifting(Double):
        def mean(self, values, quality):
            made = super().mean(values, quality)
            rng = torch.Generator().manual_seed(0)
            return made + 1e-4 * (2 * torch.rand(made.shape, generator=rng) - 1)

    noise = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 48, 3), dtype)
    picture = codec().decompress(codec().compress(Picture(noise), quality=3))  # what the codec knows best
    data = codec().compress(picture, quality=3, max_error=bound)
    assert residual.leans(unpack(data).part(0)[3]) == residual.Base.DECODE
    found = codec_of(Drifting()).decompress(data)
    assert (found.pixels != codec().decompress(data).pixels).any()
    assert np.abs(found.pixels.astype(int) - picture.pixels).max() <= bound


def test_without_room_for_drift_the_bound_would_break(monkeypatch):
    monkeypatch.setitem(residual.ROOM, Depth.BITS_16, 0)
    test_broken = pytest.raises(AssertionError)
    with test_broken:
        test_a_bound_is_kept_where_the_decode_drifts_as_between_machines(np.uint16, 11)


def test_a_lossless_file_needs_no_network(monkeypatch):
    picture, there = scene(40, 40), codec()
    data = there.compress(picture, max_error=0)
    assert data == there.compress(picture, max_error=0, quality=0), "what is added does not lean on it: the least"
    assert there.compress(picture, max_error=1) == there.compress(picture, max_error=1, quality=2)
    monkeypatch.setattr(Double, "mean", lambda *a: pytest.fail("decoded"))
    np.testing.assert_array_equal(there.decompress(data).pixels, picture.pixels)


def test_a_lost_residual_leaves_the_decode_and_says_so():
    picture, there = scene(40, 40), codec()
    data = there.compress(picture, quality=2, max_error=0)
    with pytest.warns(PartLost, match="bound is not kept"):
        damaged = there.decompress(data[:-3])
    np.testing.assert_array_equal(damaged.pixels, there.decompress(there.compress(picture, quality=2)).pixels)


def test_a_residual_over_what_is_lost_is_left_out():
    there = codec()
    noise = Picture(np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8))
    data = there.compress(there.decompress(there.compress(noise, quality=3)), quality=3, max_error=3)
    first = unpack(data).part(0)[0]
    bad = bytearray(data)
    bad[data.index(first)] ^= 1
    with pytest.warns(PartLost, match="from layer 1 of 4 on"):
        damaged = there.decompress(bytes(bad))
    flat = np.abs(damaged.pixels.astype(int) - 128)
    assert flat.max() <= 1  # nothing arrived, and nothing was added to it


def test_bounds_that_cannot_be_and_residuals_that_are_none():
    picture, there = scene(16, 16), codec()
    with pytest.raises(BadInput, match="a bound of -1 levels"):
        there.compress(picture, max_error=-1)
    wide = there.compress(picture, max_error=255)
    assert wide == there.compress(picture, max_error=10**30)  # more than the levels there are is no other bound
    with pytest.raises(BadInput, match="nothing to draw"):
        there.compress(picture, max_error=1, steps=1)
    good = residual.encode(picture.pixels, picture.pixels, 0, Depth.BITS_8)
    np.testing.assert_array_equal(residual.decode(good, np.zeros_like(picture.pixels)), picture.pixels)
    for bad in (b"\x02" + good[1:], good[:1] + b"\x02" + good[2:]):
        with pytest.raises(CodecError, match="residual has step"):
            residual.decode(bad, picture.pixels)
    with pytest.raises(CodecError, match="residual has shape"):
        residual.decode(residual.encode(picture.pixels[:8], picture.pixels[:8], 0, Depth.BITS_8), picture.pixels)
