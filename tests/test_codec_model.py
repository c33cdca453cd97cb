"""The learned codec: what it is before training, what its parts may see, and what its fingerprint stands for."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from framefill.arrays import Rng
from framefill.codec import transform
from framefill.codec.model import Compressor, Sizes
from framefill.diffusion.consistency import Multistep
from framefill.diffusion.sample import DPMSolver
from framefill.errors import BadInput
from framefill.recipes import find
from framefill.recipes.compression import Compression

SMALL = Sizes(6, 2, (16, 24), (1, 1), (16, 24), (1, 1), (1, 1), 2, 12)


def fresh(steps=(0.4, 0.1), seed=0) -> Compressor:
    torch.manual_seed(seed)
    return Compressor(SMALL, steps).eval()


def stirred(seed=0) -> Compressor:
    """One whose zero layers are not zero."""
    model = fresh(seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    return model


def pictures(*shape: int, seed=0) -> torch.Tensor:
    """Smooth in [-1, 1]."""
    x = torch.nn.functional.interpolate(
        torch.randn(shape[0], 3, 4, 4, generator=torch.Generator().manual_seed(seed)), shape[2:], mode="bicubic"
    )
    return (0.4 * x).clamp(-1, 1)


# ---- transform ---------------------------------------------------------------------------------------------------


def test_cosines_are_those_of_scipy():
    block = np.random.default_rng(0).normal(size=(8, 8))
    basis = transform.cosines().numpy()
    assert np.allclose(basis @ block @ basis.T, dctn(block, norm="ortho"))


def test_all_channels_are_inverted():
    x = pictures(2, 3, 24, 16)
    z = torch.nn.functional.conv2d(x, transform.analysis(64, 64), stride=8)
    back = torch.nn.functional.conv_transpose2d(z, transform.synthesis(64, 64), stride=8)
    assert z.shape == (2, 192, 3, 2)
    assert torch.allclose(back, x, atol=1e-5)


def test_few_channels_keep_grey_slopes():
    """A grey ramp has luma of low frequency only."""
    ramp = torch.linspace(-1, 1, 8).expand(1, 3, 8, 8)
    z = torch.nn.functional.conv2d(ramp, transform.analysis(21, 3), stride=8)
    back = torch.nn.functional.conv_transpose2d(z, transform.synthesis(21, 3), stride=8)
    assert float((back - ramp).abs().max()) < 0.03


def test_channels_rise_in_frequency_and_have_all_colours():
    order = transform.channels(10, 3)
    assert len(order) == len(set(order)) == 16
    assert order[0] == (0, 0, 0)
    assert {colour for colour, v, u in order[:5]} == {0, 1, 2}
    for colour in range(3):
        own = [v + u for c, v, u in order if c == colour]
        assert own == sorted(own)


@pytest.mark.parametrize(("luma", "chroma"), [(0, 0), (65, 1), (4, 5)])
def test_impossible_transforms_are_refused(luma, chroma):
    with pytest.raises(BadInput, match="no more chroma than luma"):
        transform.analysis(luma, chroma)


# ---- the model ---------------------------------------------------------------------------------------------------


def test_untrained_it_is_a_transform_codec():
    model, x, quality = fresh(), pictures(1, 3, 32, 48).expand(2, -1, -1, -1), torch.tensor([0, 1])
    step = torch.tensor([0.4, 0.1])[:, None, None, None]
    z = torch.nn.functional.conv2d(x, transform.analysis(6, 2), stride=8)
    symbols = model.symbols(x, quality)
    assert torch.equal(symbols, (z / step - 0.03 * z.sign()).round().long())
    expected = torch.nn.functional.conv_transpose2d(symbols * step, transform.synthesis(6, 2), stride=8)
    made = model.mean(model.values(symbols, quality), quality)
    assert torch.allclose(made, expected, atol=1e-5)
    errors = (made - x).square().mean((1, 2, 3))
    assert errors[1] < errors[0]


def test_a_picture_does_not_depend_on_its_batch_or_on_what_is_far_away():
    model, quality = stirred(), torch.tensor([1, 0])
    x = pictures(2, 3, 32, 160)
    both, values = model.symbols(x, quality), None
    alone = model.symbols(x[1:], quality[1:])
    assert torch.equal(both[1:], alone)
    values = model.values(both, quality)
    with torch.no_grad():
        made = model.mean(values, quality)
        assert torch.allclose(made[1:], model.mean(values[1:], quality[1:]), atol=1e-5)
        changed = values.clone()
        changed[..., -2:] += 1
        apart = (model.mean(changed, quality) - made).abs().amax((0, 1, 2))
    assert float(apart[:64].max()) == 0
    assert float(apart[-8:].max()) > 0.01


def test_sides_that_the_painter_does_not_halve_are_padded_and_cut():
    """Far from the edge nothing changes, near it little."""
    torch.manual_seed(4)
    model, quality = (
        Compressor(Sizes(6, 2, (16, 24), (1, 1), (8, 8, 8), (1, 1, 1), (1, 1, 1), 2, 12), [0.2]),
        torch.tensor([0]),
    )
    with torch.no_grad():
        model.painter.network.leave.weight.normal_(std=0.05)
        values = torch.randn(1, 10, 25, 25)
        longer = torch.nn.functional.pad(values, (0, 1, 0, 1), mode="replicate")
        made, whole = model.mean(values, quality), model.mean(longer, quality)
    assert made.shape == (1, 3, 200, 200)
    apart = (made - whole[..., :200, :200]).abs()
    assert float(apart[..., :64, :64].max()) < 1e-5 < float(apart[..., -8:, :].max())


def noises(seed: int, *shape: int):
    """Draw k of a seed."""
    return lambda k: torch.randn(shape, generator=torch.Generator().manual_seed(1000 * seed + k))


@pytest.mark.parametrize("sampler", [DPMSolver, Multistep])
def test_quality_and_noise_and_values_all_count(sampler):
    model, x = stirred(), pictures(1, 3, 32, 32)
    model.sampler = sampler
    one, two = torch.tensor([0]), torch.tensor([1])
    values = model.values(model.symbols(x, two), two)
    noise, other = noises(3, 1, 3, 32, 32), noises(4, 1, 3, 32, 32)
    with torch.no_grad():
        first = model.sample(values, two, noise, 3)
        assert torch.equal(first, model.sample(values, two, noise, 3))
        for changed in (
            model.sample(values, one, noise, 3),
            model.sample(values + 0.1, two, noise, 3),
            model.sample(values, two, other, 3),
            model.sample(values, two, noise, 4),
        ):
            assert not torch.allclose(first, changed, atol=1e-6)


def test_draws_are_asked_for_in_order_and_only_if_needed():
    """The sampler of a distilled model renoises before every step but the first; worked out by hand for two steps."""
    model, quality = stirred(), torch.tensor([1])
    values = model.values(model.symbols(pictures(1, 3, 32, 32), quality), quality)
    asked, noise = [], noises(5, 1, 3, 32, 32)

    def counted(k):
        asked.append(k)
        return noise(k)

    with torch.no_grad():
        model.sample(values, quality, counted, 4)
        assert asked == [0]
        model.sampler = Multistep
        asked.clear()
        made = model.sample(values, quality, counted, 2)
        assert asked == [0, 1]
        x, cond = None, model.condition(values, quality)
        for k, t in enumerate((1.0, 0.5)):
            alpha, sigma = (float(v) for v in model.denoiser.schedule(torch.tensor([t])))
            x = alpha * (model.painter.plain(values) if x is None else x) + sigma * noise(k)
            x = model.denoiser(x, torch.tensor([t], dtype=torch.float64), cond)
    assert torch.allclose(made, x, atol=1e-5)


def test_gradients_reach_all_parts():
    model, recipe = fresh(), find("compression", "tiny").recipe
    model = recipe.model()
    recipe.loss(model, pictures(4, 3, 64, 64), Rng([1, 2, 3, 4])).sum().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # layers behind zero layers, and widths of passes that a small latent does not have
    assert all(any(part in name for part in ("analysis", "denoiser.network.network", "entropy")) for name in silent), (
        silent
    )
    assert model.log_steps.grad is not None


def test_denoising_teaches_the_painter_only():
    recipe = Compression(
        side=64,
        noisy=1.0,
        **{
            k: getattr(find("compression", "tiny").recipe, k)
            for k in ("luma", "chroma", "encoder", "encoder_blocks", "widths", "down", "up", "groups", "hidden")
        },
    )
    model, x = recipe.model(), pictures(2, 3, 64, 64)
    quality = torch.tensor([0, 1])
    symbols = model.coded(x, quality)
    values = model.values(symbols, quality)
    lost = recipe._denoising(model, x, values.detach(), quality, Rng([5, 6]))
    assert bool((lost > 0).all())
    lost.sum().backward()
    assert model.analysis.line.grad is None
    assert model.painter.line.grad.any()


def test_the_loss_is_rate_and_distance():
    recipe = find("compression", "tiny").recipe
    recipe = Compression(**{**vars(recipe), "similarity": 0.0, "denoising": 0.0})
    model, x = recipe.model(), pictures(3, 3, 64, 64)
    quality = Rng([7, 8, 9]).integers(recipe.qualities)
    with torch.no_grad():
        lost = recipe.loss(model, x, Rng([7, 8, 9]))
        symbols = model.symbols(x, quality)
        bits = torch.tensor([8.0 * sum(map(len, layers)) for layers in model.entropy.encode(symbols, quality)])
        error = (127.5 * (model.mean(model.values(symbols, quality), quality) - x)).square().mean((1, 2, 3))
    rates = torch.tensor(recipe.rates)[quality]
    assert torch.allclose(lost, (bits / 64**2 + 0.053 * rates**1.65 * error) / rates**0.75, rtol=0.01)
    assert math.isclose(recipe.rates[0], recipe.lowest)
    assert math.isclose(recipe.rates[-1], recipe.highest)


def test_distance_is_zero_for_equal_pictures_and_worth_more_at_high_rates():
    recipe = Compression()
    x, y = pictures(2, 3, 64, 64), pictures(2, 3, 64, 64, seed=1)
    assert float(recipe.distance(x, x, torch.tensor([0, 7])).abs().max()) < 1e-3
    low, high = (recipe.distance(y, x, torch.tensor([q, q])) for q in (0, 7))
    assert bool((high > low).all())


def test_the_fingerprint_names_weights_and_quality():
    model = fresh()
    names = {model.fingerprint(0), model.fingerprint(1), fresh(seed=1).fingerprint(0)}
    assert len(names) == 3
    assert fresh().fingerprint(0) in names
    with torch.no_grad():
        model.log_steps[0, 0] += 1e-3
    assert model.fingerprint(0) not in names


@pytest.mark.parametrize(
    ("shape", "quality", "word"),
    [((1, 3, 12, 16), [0], "multiples of 8"), ((1, 1, 16, 16), [0], "multiples of 8"), ((1, 3, 16, 16), [2], "0..1"),
     ((2, 3, 16, 16), [0], "one quality")],
)  # fmt: skip
def test_other_pictures_and_qualities_are_refused(shape, quality, word):
    with pytest.raises(BadInput, match=word):
        fresh().symbols(torch.zeros(shape), torch.tensor(quality))


def test_numbers_that_are_none_and_steps_that_are_none_are_refused():
    x = torch.zeros(1, 3, 16, 16)
    x[0, 0, 3, 3] = math.nan
    with pytest.raises(BadInput, match="NaN"):
        fresh().symbols(x, torch.tensor([0]))
    for steps in ((), (0.1, 0.0)):
        with pytest.raises(BadInput, match="positive step"):
            Compressor(SMALL, steps)


@pytest.mark.parametrize("change", [{"lowest": 0.0}, {"qualities": 0}, {"side": 40}, {"noisy": 0.0}, {"highest": 0.01}])
def test_impossible_recipes_are_refused(change):
    with pytest.raises(BadInput, match="bits per pixel"):
        Compression(**change)


def test_temperature_is_of_the_noise():
    """At 0 nothing is drawn, whatever the noise; at 1/2 half of it."""
    model, quality = stirred(), torch.tensor([1])
    values = model.values(model.symbols(pictures(1, 3, 32, 32), quality), quality)
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))

    def drawn(temperature, noise):
        model.temperature = temperature
        return model.sample(values, quality, lambda k: noise, 3)

    with torch.no_grad():
        assert torch.equal(drawn(0.5, noise), drawn(1.0, noise / 2))
        assert torch.equal(drawn(0.0, noise), drawn(0.0, -noise))
        assert not torch.equal(drawn(1.0, noise), drawn(0.5, noise))
