"""SSIMULACRA2: against recorded scores of libjxl's own program, its filter against the recursion, and its gradients."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from framefill.errors import BadInput
from framefill.metrics.ssimulacra2 import LIBJXL, PYPI, SCALES, WEIGHTS, _norms, ssimulacra2, ssimulacra2_distance

GOLDEN = Path(__file__).parent / "golden" / "ssimulacra2"
SCORES = json.loads((GOLDEN / "scores.json").read_text())
NAMES = list(SCORES["scores"])


def pictures(height=None, width=None):
    """Every picture of the sheet, (5, 3, H, W) in [-1, 1]; the first is the photo."""
    sheet = np.asarray(Image.open(GOLDEN / "sheet.png"))
    parts = np.stack(np.split(sheet, len(NAMES), axis=1))[:, :height, :width]
    return torch.from_numpy(parts).movedim(-1, 1).float() / 127.5 - 1


@pytest.mark.parametrize(("group", "size"), [("scores", (None, None)), ("corners of 45 x 27", (27, 45))])
def test_scores_are_those_of_libjxl(group, size):
    made = pictures(*size)
    found = ssimulacra2(made, made[:1].expand_as(made))
    assert found.tolist() == pytest.approx(list(SCORES[group].values()), abs=0.01)
    assert found[0] == pytest.approx(100, abs=1e-4)
    assert len({round(score) for score in SCORES[group].values()}) > 3  # the table is not flat


@pytest.mark.parametrize(("group", "size"), [("pypi", (None, None)), ("pypi, corners of 45 x 27", (27, 45))])
def test_scores_are_those_of_the_package(group, size):
    made = pictures(*size)
    found = ssimulacra2(made, made[:1].expand_as(made), program=PYPI)
    assert found.tolist() == pytest.approx(list(SCORES[group].values()), abs=0.005)


def test_a_score_belongs_to_its_picture_not_to_the_batch_and_is_not_symmetric():
    made = pictures()
    truth = made[:1].expand_as(made)
    alone = torch.cat([ssimulacra2(m[None], t[None]) for m, t in zip(made, truth, strict=True)])
    torch.testing.assert_close(ssimulacra2(made, truth), alone, atol=1e-3, rtol=0)
    assert (ssimulacra2(truth, made) - alone).abs().max() > 0.1


def recursion(signal, sigma=1.5):
    """The filter as libjxl runs it: three oscillators, a sum of two samples into each, zeros outside."""
    N = round(3.2795 * sigma + 0.2546)
    omega = np.array([1, 3, 5]) * np.pi / (2 * N)
    p = np.array([1, -1, 1]) / np.tan(omega / 2)
    r = np.array([1, -1, 1]) * p * p / np.sin(omega)
    zeta = [(p[1] * r[2] - r[1] * p[2]), (p[2] * r[0] - r[2] * p[0])] / (p[0] * r[1] - r[0] * p[1])
    rho = np.exp(-(sigma**2) / 2 * omega**2) / N
    beta = np.linalg.solve([p, r, [*zeta, 1]], [1, N**2 - sigma**2, zeta @ rho[:2] + rho[2]])
    padded = np.concatenate([np.zeros(2 * N), signal, np.zeros(2 * N)])
    out = np.zeros((3, len(padded)))
    for n in range(N + 1, len(padded) - N):
        fed = padded[n - N - 1] + padded[n + N - 1]
        out[:, n] = -beta * np.cos(omega * (N + 1)) * fed + 2 * np.cos(omega) * out[:, n - 1] - out[:, n - 2]
    return out.sum(axis=0)[2 * N : -2 * N]


def test_nine_taps_are_the_recursive_filter():
    signal = np.random.default_rng(0).normal(size=40)
    assert np.convolve(signal, LIBJXL.taps, "same") == pytest.approx(recursion(signal), abs=1e-12)
    assert sum(LIBJXL.taps) == pytest.approx(1)
    assert sum(tap * place**2 for tap, place in zip(LIBJXL.taps, range(-4, 5), strict=True)) == pytest.approx(1.5**2)


def test_the_score_falls_as_the_distance_rises():
    truth = pictures()[:1].expand(12, -1, -1, -1)
    noise = torch.randn(truth.shape[1:], generator=torch.Generator().manual_seed(0))
    made = truth + noise * torch.linspace(0, 0.6, 12)[:, None, None, None]
    distance, score = ssimulacra2_distance(made, truth), ssimulacra2(made, truth)
    assert distance[0] == pytest.approx(0, abs=1e-4)
    assert (distance.diff() > 0).all()
    assert (score.diff() < 0).all()
    # With all six scales there is one formula between the two.
    torch.testing.assert_close(score, bent(distance), atol=1e-2, rtol=0)


def bent(distance):
    x = 0.9562382616834844 * distance
    return 100 - 10 * (2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3) ** 0.62763365


def test_a_small_picture_leaves_weights_out():
    made, truth = pictures(32, 32)[1:], pictures(32, 32)[:1].expand(4, -1, -1, -1)
    table = torch.tensor(WEIGHTS).reshape(3, SCALES, 6)
    whole = _norms(made, truth, LIBJXL)
    assert whole.shape[2] == 4
    padded = torch.zeros(4, 3, SCALES, 6)
    padded[:, :, :4] = whole
    torch.testing.assert_close(ssimulacra2_distance(made, truth), (padded * table).sum(dim=(1, 2, 3)))


def hard():
    """Pairs on which roots and quotients have no slope of their own: equal, flat, black, beyond white and black."""
    generator = torch.Generator().manual_seed(1)
    grain = torch.rand(3, 32, 40, generator=generator) * 2 - 1
    flat, half = torch.full_like(grain, 0.25), grain.clone()
    half[..., :20] = -1
    black = torch.full_like(grain, -1)
    return {
        "equal": (grain, grain), "flat and equal": (flat, flat), "flat": (flat, flat + 0.5), "black": (black, black),
        "half black": (half, black), "beyond": (3 * grain, grain), "far below": (5 * black, black),
        "one pixel": (flat + (torch.arange(40) == 7), flat), "barely": (flat + 1e-6 * grain, flat),
    }  # fmt: skip


@pytest.mark.parametrize("score", [ssimulacra2, ssimulacra2_distance])
@pytest.mark.parametrize("name", list(hard()))
def test_gradients_are_finite_everywhere(name, score):
    made, truth = (x[None].clone().requires_grad_() for x in hard()[name])
    found = score(made, truth)
    found.sum().backward()
    assert found.isfinite().all()
    assert made.grad.isfinite().all()
    assert truth.grad.isfinite().all()


def test_values_beyond_black_and_white_are_drawn_back():
    truth = pictures(32, 32)[:1]
    for beyond in (truth.abs() * 0 - 1.2, truth * 0 + 1.2):
        made = beyond.clone().requires_grad_()
        ssimulacra2_distance(made, truth.clamp(-0.9, 0.9)).sum().backward()
        assert (made.grad.sum() * beyond.flatten()[0]) > 0


def test_the_gradient_is_the_slope():
    made = pictures(24, 24)[1:2]
    truth = pictures(24, 24)[:1]
    step = torch.randn(made.shape, generator=torch.Generator().manual_seed(2)) * 1e-3
    made.requires_grad_()
    (slope,) = torch.autograd.grad(ssimulacra2_distance(made, truth).sum(), made)
    ahead, behind = (ssimulacra2_distance(made.detach() + s * step, truth) for s in (1, -1))
    assert float((slope * step).sum()) == pytest.approx(float(ahead - behind) / 2, rel=0.02)


def test_half_precision_around_it_changes_nothing():
    made = pictures(64, 64)[2:3]
    truth = pictures(64, 64)[:1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ssimulacra2(made, truth)
    assert found.dtype == torch.float32
    assert torch.equal(found, ssimulacra2(made, truth))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 7, 32), (2, 3, 32, 32)])
def test_other_shapes_are_told(shape):
    with pytest.raises(BadInput, match="give \\(B, 3, H, W\\) twice"):
        ssimulacra2(torch.zeros(shape), torch.zeros((1, 3, 32, 32) if shape[0] == 2 else shape))
