"""The published network: its size to the number, what it must be blind to, and each part written out by hand."""

import pytest
import torch

from framefill.nets import protores
from framefill.nets.protores import LOOK_AT, POSITION, ROTATION, Block, Encoder, Handles, Norm, ProtoRes


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def net() -> ProtoRes:
    torch.manual_seed(0)
    return ProtoRes(width=32).double().eval()


def handles(effectors: int = 6, batch: int = 2) -> Handles:
    rng = torch.Generator().manual_seed(4)
    kind = torch.tensor([POSITION, POSITION, POSITION, ROTATION, LOOK_AT, LOOK_AT]).repeat(effectors)[:effectors]
    values = torch.randn(batch, effectors, 6, generator=rng, dtype=torch.float64)
    values[:, kind == POSITION, 3:] = 0
    weight = 10 + 990 * torch.rand(batch, effectors, generator=rng, dtype=torch.float64)
    joint = torch.randint(24, (batch, effectors), generator=rng)
    return Handles(values, 1 / weight, weight, joint, kind.expand(batch, -1))


def shape(batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 10, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


GENDER = torch.tensor([0, 2])


def picked(given: Handles, which: list[int]) -> Handles:
    return Handles(*(getattr(given, name)[:, which] for name in ("values", "tolerance", "weight", "joint", "kind")))


def test_the_published_size():
    with torch.device("meta"):
        net = ProtoRes()
    assert count(net.encoder) == 13_814_784
    assert count(net.places) == 12_845_294
    assert count(net.turns) == 13_214_294
    assert count(net.joint_embedding) + count(net.kind_embedding) == 4_224
    assert count(net) == 39_878_596


def test_the_order_of_effectors_does_not_matter(net):
    given = handles()
    for made, other in zip(
        net(given, shape(), GENDER), net(picked(given, [3, 5, 0, 4, 1, 2]), shape(), GENDER), strict=True
    ):
        torch.testing.assert_close(made, other, atol=1e-12, rtol=0)


def test_effectors_of_weight_zero_are_not_seen(net):
    given = handles(8)
    given.weight[:, 6:] = 0
    given.values[:, 6:] *= 1000
    without = net(picked(given, list(range(6))), shape(), GENDER)
    for made, other in zip(net(given, shape(), GENDER), without, strict=True):
        torch.testing.assert_close(made, other, atol=1e-12, rtol=0)


def test_poses_move_with_their_effectors(net):
    given, step = handles(), torch.tensor([3.0, -20.0, 7.0], dtype=torch.float64)
    moved = given.values.clone()
    moved[..., :3] += step * (given.kind != ROTATION)[..., None]
    places, turns = net(given, shape(), GENDER)
    there, same = net(Handles(moved, given.tolerance, given.weight, given.joint, given.kind), shape(), GENDER)
    torch.testing.assert_close(there, places + step)
    torch.testing.assert_close(same, turns)


def test_everything_that_is_given_is_used(net):
    given = handles()
    base = torch.cat([x.flatten(1) for x in net(given, shape(), GENDER)], 1)
    parts = {name: getattr(given, name) for name in ("values", "tolerance", "weight", "joint", "kind")}
    changes = {"values": parts["values"] + 0.1, "tolerance": parts["tolerance"] + 0.05,
               "joint": (parts["joint"] + 1) % 24,
               "kind": (parts["kind"] + 1) % 3, "weight": parts["weight"] * torch.linspace(1, 2, 6)}  # fmt: skip
    for name, value in changes.items():
        made = net(Handles(**(parts | {name: value})), shape(), GENDER)
        assert (torch.cat([x.flatten(1) for x in made], 1) - base).abs().max() > 1e-6, name
    for made in (net(given, shape() + 0.1, GENDER), net(given, shape(), GENDER + 1)):
        assert (torch.cat([x.flatten(1) for x in made], 1) - base).abs().max() > 1e-6


def test_samples_of_a_batch_do_not_meet(net):
    given = handles()
    alone = Handles(*(getattr(given, n)[1:] for n in ("values", "tolerance", "weight", "joint", "kind")))
    torch.testing.assert_close(net(given, shape(), GENDER)[1][1:], net(alone, shape()[1:], GENDER[1:])[1])


def test_without_positions_nothing_is_centred():
    given = picked(handles(), [3, 4, 5])
    centred, centre = given.centred()
    assert centre.abs().max() == 0
    torch.testing.assert_close(centred.values, given.values)


def test_the_centroid_is_weighted():
    given = picked(handles(), [0, 1])
    w, x = given.weight, given.values[..., :3]
    expected = (w[:, :1] * x[:, 0] + w[:, 1:] * x[:, 1]) / w.sum(1, keepdim=True)
    torch.testing.assert_close(given.centred()[1], expected)


def test_the_norm_uses_the_unbiased_deviation():
    x = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)
    torch.testing.assert_close(Norm(3).double()(x), (x - 3) / (7.0**0.5 + 1e-6))


def test_a_block_skips_what_it_normalises():
    torch.manual_seed(1)
    block, x = Block(5, 8, 2, 3, 0.0, norm=True).double().eval(), torch.randn(4, 5).double()
    first, second = block.body.layers
    h = torch.nn.functional.leaky_relu(second(torch.nn.functional.leaky_relu(first(block.norm(x)))))
    on, forecast = block(x)
    torch.testing.assert_close(on, (h + block.skip(x)).clamp_min(0))
    torch.testing.assert_close(forecast, block.forecast(h))


def test_prototypes_use_the_running_sum():
    torch.manual_seed(2)
    encoder, x = Encoder(5, 8, 3, 2, 0.0).double().eval(), torch.randn(1, 3, 5).double()
    w = torch.tensor([[1.0, 2.0, 5.0]], dtype=torch.float64)
    mean = lambda e: (w[..., None] * e).sum(1, keepdim=True) / 8  # noqa: E731
    b1, f1 = encoder.blocks[0](x)
    b2, f2 = encoder.blocks[1]((b1 - mean(f1)).clamp_min(0))
    _, f3 = encoder.blocks[2]((b2 - mean(f1 + f2) / 2).clamp_min(0))
    torch.testing.assert_close(encoder(x, w), mean(f1 + f2 + f3)[:, 0])


def test_a_small_network_learns_one_pose():
    torch.manual_seed(3)
    net = ProtoRes(width=16, blocks=2, layers=2, dropout=0.0)
    given = Handles(*(x.float() if x.is_floating_point() else x for x in vars(handles()).values()))
    target = torch.randn(2, protores.JOINTS, 6)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (net(given, shape().float(), GENDER)[1] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
