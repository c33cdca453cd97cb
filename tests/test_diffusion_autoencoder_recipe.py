"""The recipe of seed 002: the paper's weights, presets of the published size, and a training from end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import framefill
from framefill import checkpoint, recipes
from framefill.arrays import Rng
from framefill.checkpoint import Card
from framefill.codec.diffusion_coder import Coded
from framefill.diffusion.sample import DDPM, DPMSolver
from framefill.diffusion.weight import constant
from framefill.errors import BadInput, MediaError
from framefill.nets.asymmetric import LARGE
from framefill.recipes.autoencoder import Autoencoder
from framefill.recipes.diffusion_autoencoder import PRESETS, TARGETS, TINY, WEIGHTS
from framefill.recipes.recipe import from_fields, to_fields
from framefill.recipes.texts import Texts
from framefill.training import train

CODER = Autoencoder(height=64, width=64, codes=16, features=4, multipliers=(1, 1, 2), blocks=1, attention=(False,) * 3,
                    groups=4, latent_channels=2, perceptual=0.0, adversary=0.0)  # fmt: skip
TOY = replace(
    TINY, widths=(8, 16), down=(1, 1), up=(1, 1), code_channels=3, pretrained=False, batch_size=2, warmup=1, steps=4,
    calls=2,
).after(to_fields(CODER))  # fmt: skip
VIDEO = replace(TOY, frames=4, shortened=2)


class Waves:
    """A source of smooth pictures, or clips of them moving."""

    def sample(self, seed, *, length=1, strides=(1,)):
        rng = np.random.default_rng(seed)
        a, b, c = rng.uniform(0.02, 0.2, 3)
        y, x, t = np.meshgrid(np.arange(64), np.arange(64), np.arange(length), indexing="ij")
        wave = np.sin(a * x + b * y + c * t + np.arange(3)[:, None, None, None])
        return ((wave.transpose(3, 1, 2, 0) + 1) * 127.5).round().astype(np.uint8)


class Means(torch.nn.Module):
    """Stands in for an image network, which says nothing before it is trained."""

    def forward(self, x):
        return torch.nn.functional.avg_pool2d(x, 32).repeat(1, 427, 1, 1)[:, :1280]


def card(recipe):
    return Card("diffusion-autoencoder", "tiny", to_fields(recipe), seed=3)


def stirred(recipe):
    """A model whose last layer is not zero."""
    torch.manual_seed(0)
    model = recipe.model()
    torch.nn.init.normal_(model.denoiser.network.network.leave.weight, std=0.1)
    model.encoder.features = Means()
    return model.eval()


@pytest.mark.parametrize("target", ["x", "eps", "v"])
def test_weights_are_the_papers_on_the_error_of_the_target(target):
    log_snr = torch.linspace(-8, 8, 33, dtype=torch.float64)
    alpha, sigma = log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt()
    ratio = log_snr.exp()
    x, n, wrong = (torch.tensor(value, dtype=torch.float64) for value in (0.7, -0.3, 0.9))
    x_t = alpha * x + sigma * n
    of = TARGETS[target].of
    answer, truth = of(wrong, (x_t - alpha * wrong) / sigma, alpha, sigma), of(x, n, alpha, sigma)
    error = (answer - truth) ** 2  # of a network that takes x for `wrong`
    own = {"x": 1.0, "eps": ratio, "v": 1 + ratio}[target]
    expected = {
        "constant": 1.0, "p2": 1 / (1 + ratio), "min-snr": ratio.clamp(max=5) / own,
        "sech": 1 / torch.cosh(log_snr / 2),
    }  # fmt: skip
    error = error.expand(33)
    for name, factor in expected.items():
        found = WEIGHTS[name](target)(ratio) * (wrong - x) ** 2
        torch.testing.assert_close(found, factor * error, rtol=1e-9, atol=1e-12)


def test_presets_have_the_published_sizes():
    assert PRESETS["paper-3b"][0].plan() == LARGE  # whose size test_asymmetric counts
    assert recipes.parameters(PRESETS["paper-700m"][0]) == 699_471_248 + 20_177_488 + 1280 * 16
    for name, count in {"middle": 28, "small": 10.7, "tiny": 3.9}.items():
        assert recipes.parameters(PRESETS[name][0]) / 1e6 == pytest.approx(count, rel=0.01), name
    words = PRESETS["paper-1536"][0].quantiser()
    assert 24 * 32 * 32 / np.log2(words.book.size) == 1536  # bits of f32 pixels over those of an index


def test_what_cannot_be_is_refused():
    for fields, message in (
        ({"target": "y"}, "the targets are x, eps, v"),
        ({"weight": "p3"}, "weight 'p3'"),
        ({"step": 0.5, "signs": True}, "one way"),
        ({"levels": (3, 3)}, r"one per channel of the code \(3\), got 2"),
        ({"text_length": 2}, "text_length and text_width"),
        ({"text_length": 2, "text_width": 3, "frames": 4}, "texts are of pictures"),
        ({"rate": 0.1}, "a rate is that of an entropy model"),
        ({"rate": 0.1, "words": 16}, "a rate is that of an entropy model"),
    ):
        with pytest.raises(BadInput, match=message):
            replace(TOY, **fields)
    with pytest.raises(BadInput, match="has no codes"):
        TOY.after({"features": 3})
    with pytest.raises(BadInput, match="--set texts=FOLDER"):
        replace(TOY, text_length=2, text_width=3).source("pictures", "train")
    with pytest.raises(BadInput, match="weights=FILE"):
        replace(TOY, mobile=False, pretrained=True).taken({})
    assert from_fields(type(TOY), to_fields(TOY)) == TOY
    assert TOY.follows
    assert isinstance(replace(TOY, calls=30).sampler, DDPM)
    assert isinstance(TOY.sampler, DPMSolver)


@pytest.mark.parametrize("recipe", [TOY, VIDEO, replace(TOY, step=0.5, rate=0.1, variable=True, pyramid=True)])
def test_trains_from_a_first_stage_saves_and_loads(recipe, tmp_path):
    coder = CODER.model()
    start = recipe.taken(coder.state_dict())
    losses = [p.loss for p in train(recipe, Waves(), tmp_path / "run", card=card(recipe), start=start)]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    product = framefill.load(tmp_path / "run")
    for name, tensor in coder.state_dict().items():
        assert torch.equal(product.model.first.state_dict()[name], tensor), name
    frames = Waves().sample(1, length=recipe.frames or 1)
    given = frames[None] if recipe.frames else frames
    coded = product.encode(given)
    again = framefill.load(tmp_path / "run").decode(coded, seed=5)
    assert again.shape == given.shape
    assert np.array_equal(product.decode(coded, seed=5), again)
    assert product.bits(coded) > 0
    assert recipe.sheet(product, Waves()).size[0] > 100
    checkpoint.save(product, tmp_path / "model.safetensors")
    assert np.array_equal(framefill.load(tmp_path / "model.safetensors").decode(coded, seed=5), again)


def test_must_begin_with_a_first_stage(tmp_path):
    with pytest.raises(BadInput, match="--from"):
        list(train(TOY, Waves(), tmp_path, card=card(TOY)))
    beside = {"autoencoder.a": torch.zeros(1), "discriminator.b": torch.zeros(1)}
    assert set(TOY.taken(beside)) == {"first.a"}


def test_learns_what_the_code_says():
    """Of pictures of one grey each: the right codes make for much smaller errors than those of other pictures."""
    recipe = replace(TOY, target="x", weight="constant", dropped=0.0)
    model = stirred(recipe).train()
    model.signal = lambda x: x[:, :2, ::4, ::4]
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for step in range(60):
        loss = recipe.loss(model, greys(8, step), Rng.batch(0, 8, step)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    x, t = greys(16, 1000), torch.full((16,), 0.95, dtype=torch.float64)
    codes = model.codes(x)
    right, wrong = (
        model.denoiser.loss(model.signal(x), t, model.condition(c), constant, Rng(range(16))).mean().item()
        for c in (codes, codes.roll(1, 0))
    )
    assert right < 0.4 * wrong


def greys(count, seed):
    values = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return values.expand(-1, 3, 64, 64)


# ---- the product ---------------------------------------------------------------------------------------------------


def test_any_size_goes_and_streams_are_per_picture():
    product = TOY.product(stirred(TOY))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    coded = product.encode(pictures)
    assert coded.symbols.shape == (2, 3, 2, 3)
    assert coded.symbols.dtype == torch.float16
    assert product.bits(coded) == 2 * 3 * 2 * 3 * 16
    both = product.decode(coded, seed=4)
    assert both.shape == pictures.shape
    assert np.array_equal(product.decode(Coded(coded.symbols[:1], coded.size), seed=4), both[:1])
    assert not np.array_equal(product.decode(coded, seed=5), both)
    halved = product.encode(np.concatenate([pictures, pictures], 2), share=0.5)
    assert halved.symbols.shape == (2, 3, 1, 2)
    assert product.decode(halved, seed=4).shape == (2, 50, 140, 3)


def test_guidance_leads_away_from_what_is_drawn_without_the_code():
    model = stirred(TOY)
    pictures = Waves().sample(1)
    plain, guided = (replace(TOY, guidance=g).product(model) for g in (1.0, 3.0))
    coded = plain.encode(pictures)
    assert not np.array_equal(plain.decode(coded), guided.decode(coded))
    nothing = Coded(torch.zeros_like(coded.symbols), coded.size)
    difference = plain.decode(nothing).astype(int) - guided.decode(nothing)
    assert np.abs(difference).max() <= 1  # away from itself is nowhere


def test_clips_of_any_length_are_coded_whole_and_drawn_in_windows():
    model = stirred(replace(VIDEO, frames=8))
    product = replace(VIDEO, frames=8).product(model)
    clip = Waves().sample(2, length=21)[None]
    coded = product.encode(clip)
    assert coded.symbols.shape == (1, 3, 11, 2, 2)  # 22 frames, 2 each
    whole = replace(product, window=64).encode(clip)
    torch.testing.assert_close(coded.symbols.float(), whole.symbols.float(), atol=2e-3, rtol=2e-3)
    drawn = product.decode(coded, seed=1)
    assert drawn.shape == clip.shape
    # the first frames are in one window only, and see no farther than that
    start = product.decode(Coded(coded.symbols[:, :, :4], (8, 64, 64)), seed=1)
    assert start.shape == (1, 8, 64, 64, 3)
    short = clip[:, :1]
    assert product.decode(product.encode(short)).shape == short.shape


def test_windows_of_a_decoder_without_a_view_of_time_join_without_a_trace():
    recipe = replace(VIDEO, frames=8)
    product = recipe.product(stirred(recipe))

    class Echo(torch.nn.Module):
        def forward(self, x, label, cond):
            return x * 0.5 + cond[:, :1, ::2].mean((3, 4), keepdim=True)

    product.model.denoiser.network = Echo()
    z = torch.zeros(1, 4, 16, 16, 16)
    cond = torch.randn(1, 3, 32, 2, 2)
    pieces = product._drawn(cond, z, Rng([3]))
    whole = replace(product, window=64)._drawn(cond, z, Rng([3]))
    torch.testing.assert_close(pieces, whole, atol=1e-5, rtol=1e-5)


def test_product_refuses_what_is_not_its_own():
    product, video = TOY.product(stirred(TOY)), VIDEO.product(stirred(VIDEO))
    with pytest.raises(BadInput, match=r"takes uint8 \(N, H, W, 3\)"):
        product.encode(np.zeros((1, 64, 64, 3)))
    with pytest.raises(BadInput, match=r"\(N, T, H, W, 3\)"):
        video.encode(np.zeros((1, 64, 64, 3), np.uint8))
    codes = video.encode(Waves().sample(0, length=4)[None]).symbols
    with pytest.raises(BadInput, match="of no picture or clip of size"):
        video.decode(Coded(codes, (64, 64)))
    with pytest.raises(BadInput, match="of no picture or clip of size"):
        video.decode(Coded(codes, (5, 64, 64)))
    long = video.encode(Waves().sample(0, length=12)[None])
    with pytest.raises(BadInput, match="cannot share 4; give fewer"):
        replace(video, window=4, overlap=4).decode(long)


def test_bits_of_every_kind_of_symbol():
    pictures = Waves().sample(3)
    for fields, per_place in (({"levels": (5, 5, 5)}, np.log2(125)), ({"signs": True}, 3.0), ({"words": 16}, 4.0)):
        product = (recipe := replace(TOY, **fields)).product(stirred(recipe))
        assert product.bits(product.encode(pictures)) == pytest.approx(4 * per_place), fields
    loose = (recipe := replace(TOY, step=0.5)).product(stirred(recipe))
    with pytest.raises(BadInput, match="uniform steps have no bound"):
        loose.bits(loose.encode(pictures))


# ---- texts ---------------------------------------------------------------------------------------------------------


def test_texts_go_with_their_pictures(tmp_path):
    from PIL import Image

    for i in range(6):
        (tmp_path / "data" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "val").mkdir(exist_ok=True)
        for part in ("train", "val"):
            Image.new("RGB", (64, 64), (40 * i, 0, 0)).save(tmp_path / "data" / part / f"{i}.png")
    texts = np.arange(6, dtype=np.float32)[:, None, None] * 40 / 255 + np.zeros((1, 2, 4), np.float32)
    np.save(tmp_path / "train.npy", texts)
    recipe = replace(TOY, heads=(0, 2), text_length=2, text_width=4, text_features=8, texts=str(tmp_path))
    source = recipe.source(tmp_path / "data", "train", cache=tmp_path / "cache")
    batch = recipe.batch(source, range(20))
    red, words = (batch[:, :1] + 1) / 2, batch[:, 3 * 64 * 64 :]
    torch.testing.assert_close(words, red.expand(-1, 8), atol=1e-5, rtol=0)
    assert len(set(words[:, 0].tolist())) > 3
    model = stirred(recipe)
    heard = []
    model.condition = lambda values, text: heard.append(text) or type(model).condition(model, values, text)
    assert recipe.loss(model, batch[:2], Rng([0, 1])).isfinite().all()
    assert heard[0].shape == (2, 2, 4)
    with pytest.raises(MediaError, match=r"val\.npy cannot be read"):
        recipe.source(tmp_path / "data", "val", cache=tmp_path / "cache")
    np.save(tmp_path / "val.npy", texts[:2])
    with pytest.raises(BadInput, match=r"give floats of shape \(6, 2, 4\)"):
        recipe.source(tmp_path / "data", "val", cache=tmp_path / "cache")


def test_texts_are_mirrored_as_the_album_says(tmp_path):
    class Row:
        flip = True

        def pictures(self):
            return np.arange(4, dtype=np.uint8).reshape(1, 1, 4, 1).repeat(3, 3)

    texts = Texts(Row(), np.zeros((1, 1, 1), np.float32))
    firsts = {int(texts.sample(seed)[0, 0, 0, 0]) for seed in range(20)}
    assert firsts == {0, 3}
