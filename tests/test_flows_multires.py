"""Pyramids against explicit matrices, multi-resolution flows against the autograd Jacobian, and the published sizes."""

import math

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.flows.cnf import CNF
from framefill.flows.flow import Flow
from framefill.flows.maps import Logit
from framefill.flows.multires import MultiRes, average, gain, merge, split
from framefill.flows.ode import Solver
from framefill.flows.trace import Exact, Gaussian, Rademacher
from framefill.nets.fields import ConvField, mrcnf

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
KINDS = ("unimodular", "haar")
every_kind = pytest.mark.parametrize("kind", KINDS)
c = 2 ** (2 / 3)
MATRICES = {
    "unimodular": torch.tensor(
        [
            [1 / c, 1 / c, -1 / c, -1 / c],
            [1 / c, -1 / c, 1 / c, -1 / c],
            [1 / c, -1 / c, -1 / c, 1 / c],
            [0.25, 0.25, 0.25, 0.25],
        ],
        dtype=torch.float64,
    ),
    "haar": torch.tensor([[1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1], [1, 1, 1, 1]], dtype=torch.float64) / 2,
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@every_kind
def test_a_block_is_split_by_the_published_matrix(kind):
    x = noise(1, 1, 2, 2)
    y, coarse = split(x, kind)
    expected = MATRICES[kind] @ x.flatten()
    torch.testing.assert_close(torch.cat([y.flatten(), coarse.flatten()]), expected)
    # a channel's three details follow each other by detail, then by channel
    two = split(torch.cat([x, 10 * x], 1), kind)[0].flatten()
    torch.testing.assert_close(two, torch.stack([expected[:3], 10 * expected[:3]], 1).flatten())


@every_kind
@pytest.mark.parametrize("shape", [(2, 3, 6, 10), (1, 1, 2, 2), (2, 2, 3, 4, 6)], ids=str)
def test_merge_inverts_split(kind, shape):
    x = noise(*shape)
    y, coarse = split(x, kind)
    assert y.numel() == 3 * coarse.numel() == 3 * x.numel() // 4
    torch.testing.assert_close(merge(y, coarse, kind), x)
    torch.testing.assert_close(coarse[..., 0, 0], x[..., :2, :2].mean((-1, -2)) * gain(kind))
    torch.testing.assert_close(coarse, average(x) * gain(kind))


@every_kind
def test_a_split_keeps_volume_and_haar_keeps_angles(kind):
    def flat(v):
        y, coarse = split(v.reshape(1, 2, 4, 2), kind)
        return torch.cat([y.flatten(), coarse.flatten()])

    jacobian = torch.autograd.functional.jacobian(flat, noise(16))
    assert torch.linalg.slogdet(jacobian).logabsdet.item() == pytest.approx(0, abs=1e-12)
    assert abs(MultiRes([ConstantFlow()] * 3, kind).log_det()) < 1e-12
    orthogonal = torch.allclose(jacobian @ jacobian.T, torch.eye(16, dtype=torch.float64))
    assert orthogonal == (kind == "haar")


def test_range_of_the_unimodular_details():
    """An average stays in the range of the pixels; details of [0, 1] reach 2^(1/3) (facts, errata of 4.3.2)."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).reshape(16, 1, 2, 2)
    y, coarse = split(corners, "unimodular")
    assert (coarse.min(), coarse.max()) == (0, 1)
    assert y.abs().max().item() == pytest.approx(2 ** (1 / 3))


class ConstantFlow(Flow):
    def follow(self, x, cond=None, rng=None):
        raise NotImplementedError

    def decode(self, z, cond=None):
        raise NotImplementedError


def stirred(flow, scale=0.1):
    generator = torch.Generator().manual_seed(0)
    for p in flow.parameters():
        p.data = scale * torch.randn(p.shape, generator=generator)
    return flow.double()


def small(kind="unimodular", scales=3, trace=None, tolerance=1e-6):
    settings = {"trace": trace or Exact(), "solver": Solver(rtol=tolerance, atol=tolerance)}
    finer = [CNF([ConvField(3, 1, hidden=(4,))], **settings) for _ in range(scales - 1)]
    reach = 8.0 * gain(kind) ** (scales - 1)
    return stirred(MultiRes([*finer, CNF([ConvField(1, hidden=(4,))], before=Logit(-reach, reach), **settings)], kind))


@every_kind
def test_log_det_is_that_of_the_autograd_jacobian(kind):
    flow, x = small(kind), noise(1, 1, 8, 4)
    with torch.no_grad():
        z, log_det = flow.encode(x)
    assert z.shape == x.shape
    jacobian = torch.autograd.functional.jacobian(flow.decode, z).reshape(32, 32)
    assert log_det.item() == pytest.approx(-torch.linalg.slogdet(jacobian).logabsdet.item(), abs=1e-4)
    torch.testing.assert_close(flow.decode(z), x, rtol=0, atol=1e-4)


@every_kind
def test_density_is_the_chain_of_the_scales(kind):
    flow, x = small(kind, scales=2), noise(3, 1, 4, 4)
    y, coarse = split(x, kind)
    expected = flow.scales[0].log_prob(y, coarse).nats + flow.scales[1].log_prob(coarse).nats
    torch.testing.assert_close(flow.log_prob(x).nats, expected)
    free = {"kinetic": 0.0, "jacobian": 0.0}
    pieces = list(zip(flow.scales, flow.parts(x), strict=True))
    apart = sum(f.loss(part, given, **free) * part[0].numel() for f, (part, given) in pieces)
    torch.testing.assert_close(flow.loss(x, **free) * 16, apart)


def test_errors_add_in_quadrature():
    flow, x = small(scales=2, trace=Rademacher(50)), noise(1, 1, 4, 4)
    end = flow.follow(x, rng=Rng.batch(0, 1))
    streams = Rng.batch(0, 1)
    each = [f.follow(part, given, streams) for f, (part, given) in zip(flow.scales, flow.parts(x), strict=True)]
    assert end.error.item() == pytest.approx(math.hypot(*(e.error.item() for e in each)))
    assert end.evaluations == sum(e.evaluations for e in each)
    torch.testing.assert_close(end.kinetic, each[0].kinetic + each[1].kinetic)


@every_kind
@pytest.mark.parametrize("times", [1, 2])
def test_finer_images_average_to_the_coarse_one(kind, times):
    flow, coarse = small(kind).float(), noise(2, 1, 3, 5).float()
    with torch.no_grad():
        fine = flow.upscale(coarse, Rng.batch(0, 2), times=times)
        other = flow.upscale(coarse, Rng.batch(1, 2), times=times, temperature=0.5)
    assert fine.shape == (2, 1, 3 << times, 5 << times)
    assert (average(fine, times) - coarse).abs().max() < 1e-5
    assert (average(other, times) - coarse).abs().max() < 1e-5
    assert (fine - other).abs().max() > 0.1
    # what is drawn is white noise on the other side, and depends on the coarse image
    assert (flow.upscale(coarse + 3, Rng.batch(0, 2)) - flow.upscale(coarse, Rng.batch(0, 2)) - 3).abs().max() > 1e-3


@every_kind
def test_upscaled_details_are_those_of_the_flow(kind):
    """The details of an upscaled image encode to the very noise that was drawn."""
    flow, coarse = small(kind, scales=2), noise(2, 1, 2, 2)
    fine = flow.upscale(coarse, Rng.batch(0, 2))
    y, given = split(fine, kind)
    z, _ = flow.scales[0].encode(y, given)
    torch.testing.assert_close(z, Rng.batch(0, 2).normal((3, 2, 2)).double(), rtol=0, atol=1e-4)


def test_noise_stays_white_across_scales():
    """With fields that stand still, z of white x is white for "haar": the multi-resolution noise is no-op."""
    still = MultiRes([CNF([Zero()]), CNF([Zero()])], "haar")
    x = noise(5, 1, 4, 4)
    torch.testing.assert_close(still.encode(x)[0], x)
    torch.testing.assert_close(still.log_prob(x).nats, torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2, 3)))
    other = MultiRes([CNF([Zero()]), CNF([Zero()])], "unimodular")
    y, coarse = split(x, "unimodular")
    normal = torch.distributions.Normal(0.0, 1.0)
    expected = normal.log_prob(y).sum((1, 2, 3)) + normal.log_prob(coarse).sum((1, 2, 3))
    torch.testing.assert_close(other.log_prob(x).nats, expected)


class Zero(nn.Module):
    def forward(self, t, v, cond):
        return 0 * v


def test_a_grown_stack_shares_its_scales_and_keeps_their_densities():
    one = small(scales=1)
    two = one.grown(stirred(CNF([ConvField(3, 1, hidden=(4,))])))
    assert two.scales[1] is one.scales[0]
    x = noise(2, 1, 4, 4)
    y, coarse = split(x, "unimodular")
    expected = one.log_prob(coarse).nats + two.scales[0].log_prob(y, coarse).nats
    torch.testing.assert_close(two.log_prob(x).nats, expected)


def test_samples_come_from_their_seeds():
    flow = small(scales=2)
    both = flow.sample((1, 4, 4), Rng.batch(0, 3))
    torch.testing.assert_close(both[1:2], flow.sample((1, 4, 4), Rng.batch(0, 3).pick([1])), rtol=0, atol=1e-5)


SIZES = {
    (1, 2): 158_268,
    (1, 4): 316_536,
    (1, 14): 1_107_876,
    (2, 8): 1_335_744,
    (2, 20): 3_339_360,
    (2, 40): 6_678_720,
    (3, 6): 1_528_812,
    (3, 8): 2_038_416,
    (3, 20): 5_096_040,
}


@pytest.mark.parametrize(("scales", "blocks"), SIZES)
def test_published_sizes(scales, blocks):
    """Table 4.1 of thesis 001."""
    assert sum(p.numel() for p in mrcnf(scales, blocks).parameters()) == SIZES[scales, blocks]


def test_the_published_flow_takes_dequantised_pixels_at_their_extremes():
    for kind in KINDS:
        flow = mrcnf(2, 1, kind=kind)
        assert isinstance(flow.scales[0].trace, Gaussian)
        x = torch.full((1, 3, 4, 4), 1 + 0.99 / 255)
        for sign in (1, -1):
            assert flow.log_prob(sign * x, rng=Rng.batch(0, 1)).nats.isfinite().all()
        with pytest.raises(BadInput, match="outside of"):
            flow.log_prob(2 * x, rng=Rng.batch(0, 1))


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: split(noise(1, 1, 3, 4), "haar"), "even H and W, got .1, 1, 3, 4."),
        (lambda: split(noise(1, 4, 4), "haar"), "needs .B, C"),
        (lambda: split(noise(1, 1, 4, 4), "db4"), "no pyramid 'db4'; there are unimodular and haar"),
        (lambda: merge(noise(1, 2, 4, 4), noise(1, 1, 4, 4), "haar"), "three times its channels"),
        (lambda: MultiRes([]), "at least one scale"),
        (lambda: small().upscale(noise(1, 1, 2, 2), Rng.batch(0, 1), times=3), "1 to 2 times, got 3"),
        (lambda: small(scales=1).upscale(noise(1, 1, 2, 2), Rng.batch(0, 1)), "got 1"),
    ],
)
def test_bad_input(act, told):
    with pytest.raises(BadInput, match=told):
        act()
