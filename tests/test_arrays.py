"""Random streams that belong to a sample, not to its batch; and per-sample numbers against a batch."""

import itertools

import pytest
import torch

from framefill.arrays import Rng, continued, derive, expand

DRAWS = {
    "normal": lambda rng: rng.normal((3, 2)),
    "normal, long": lambda rng: rng.normal((40,)),
    "uniform": lambda rng: rng.uniform((5,)),
    "uniform scalar": lambda rng: rng.uniform(),
    "integers": lambda rng: rng.integers(1000, (4,)),
}
every_draw = pytest.mark.parametrize("draw", list(DRAWS.values()), ids=list(DRAWS))


@every_draw
def test_a_sample_is_the_same_in_every_batch(draw):
    seeds = [7, 0, 123, 2**32 - 1, 99]
    together = Rng(seeds)
    alone = [Rng([s]) for s in seeds]
    for _ in range(3):
        batch = draw(together)
        assert torch.equal(batch, torch.cat([draw(r) for r in alone]))
        assert len({tuple(row.flatten().tolist()) for row in batch}) == len(seeds)


@every_draw
def test_equal_seeds_give_equal_numbers_and_draws_move_on(draw):
    first, second = Rng.batch(5, 4, 1, 2), Rng.batch(5, 4, 1, 2)
    a, b = draw(first), draw(first)
    assert not torch.equal(a, b)
    assert torch.equal(a, draw(second))
    assert torch.equal(b, draw(second))


@every_draw
def test_pick_shares_the_streams(draw):
    seeds = [3, 1, 4, 15, 9]
    whole, reference = Rng(seeds), [Rng([s]) for s in seeds]
    part = whole.pick([3, 0])
    assert len(part) == 2
    assert part.seeds == (15, 3)
    assert torch.equal(draw(part), torch.cat([draw(reference[3]), draw(reference[0])]))
    # The streams picked have advanced in `whole` too; the others have not.
    assert torch.equal(draw(whole), torch.cat([draw(r) for r in reference]))
    assert torch.equal(draw(part), torch.cat([draw(reference[3]), draw(reference[0])]))


def test_a_batch_is_a_prefix_of_a_larger_batch():
    small, large = Rng.batch(11, 3, 8), Rng.batch(11, 9, 8)
    assert large.seeds[:3] == small.seeds
    assert torch.equal(large.normal((6,))[:3], small.normal((6,)))
    assert small.seeds == tuple(derive(11, 8, i) for i in range(3))


def test_derive_has_no_collisions_and_no_order():
    grid = [(s, *keys) for n in range(4) for s in range(-2, 13) for keys in itertools.product(range(-1, 12), repeat=n)]
    grid += [(1, 23), (12, 3), (123,), (1, 2, 3), (2**63, 0), (2**64, 0), (0, 2**63)]
    grid = list(dict.fromkeys(grid))
    seeds = [derive(*g) for g in grid]
    assert len(grid) > 35_000
    assert len(set(seeds)) == len(grid)
    assert min(seeds) >= 0
    assert max(seeds) < 2**63
    # Each bit is fair: 63 coins, 4 standard errors each.
    bits = torch.tensor([[s >> b & 1 for b in range(63)] for s in seeds], dtype=torch.float64)
    assert (bits.mean(0) - 0.5).abs().max() < 4 * 0.5 / len(grid) ** 0.5


def test_derive_is_a_fixed_function():
    # Seeds are in published results: the function may never change.
    assert derive(0) == 4246866556266386882
    assert derive(1, 2, 3) == 1517167407554927345
    assert derive(True, 2) == derive(1, 2)


def test_neighbouring_streams_are_unrelated():
    n = 4000
    draws = Rng.batch(0, 24).normal((n,)).double()
    correlation = torch.corrcoef(draws) - torch.eye(24)
    assert correlation.abs().max() < 4.5 / n**0.5
    # Nor is a stream related to itself one draw later.
    assert ((draws[:, 1:] * draws[:, :-1]).mean(1)).abs().max() < 4 / n**0.5


def test_normal_moments():
    z = Rng.batch(1, 40).normal((5000,)).double()
    n = z.numel()
    assert abs(z.mean()) < 4 / n**0.5
    assert abs(z.square().mean() - 1) < 4 * (2 / n) ** 0.5
    assert abs(z.pow(3).mean()) < 4 * (15 / n) ** 0.5
    assert abs(z.pow(4).mean() - 3) < 4 * (96 / n) ** 0.5
    below = [(z < q).double().mean() for q in (-2, -1, 0, 1, 2)]
    expected = torch.special.ndtr(torch.tensor([-2.0, -1, 0, 1, 2], dtype=torch.float64))
    for share, p in zip(below, expected, strict=True):
        assert abs(share - p) < 4 * (p * (1 - p) / n) ** 0.5


def test_uniform_moments_and_range():
    u = Rng.batch(2, 40).uniform((5000,)).double()
    n = u.numel()
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 1 / 2) < 4 * (1 / 12 / n) ** 0.5
    assert abs(u.square().mean() - 1 / 3) < 4 * (4 / 45 / n) ** 0.5
    shares = torch.histc(u, 20, 0, 1) / n
    assert (shares - 0.05).abs().max() < 4 * (0.05 * 0.95 / n) ** 0.5


@pytest.mark.parametrize("high", [1, 2, 7, 1000])
def test_integers_are_uniform_below_high(high):
    draws = Rng.batch(3, 20).integers(high, (2000,))
    counts = torch.bincount(draws.flatten(), minlength=high).double()
    assert draws.min() >= 0
    assert len(counts) == high
    expected = draws.numel() / high
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square <= (high - 1) + 4 * (2 * (high - 1)) ** 0.5


def test_draws_follow_their_example():
    like = torch.zeros(2, 3, dtype=torch.float64, device="meta")
    assert Rng([1, 2]).normal((3,), like).device.type == "meta"
    assert Rng([1, 2]).uniform((3,), like).device.type == "meta"


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 4, 5)])
def test_expand_scales_sample_by_sample(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([2.0, -1.0, 0.5])
    assert torch.equal(expand(values, x) * x, torch.stack([v * row for v, row in zip(values, x, strict=True)]))


@pytest.mark.parametrize("shape", [(2, 3, 5, 8), (2, 4, 3, 8, 7)])
def test_pictures_are_continued_by_their_last_row_and_column(shape):
    x = torch.randn(shape)
    H, W = shape[-2:]
    made = continued(x, 4)
    assert made.shape == (*shape[:-2], 8, 8)
    rows, columns = torch.arange(8).clamp(max=H - 1), torch.arange(8).clamp(max=W - 1)
    assert torch.equal(made, x[..., rows, :][..., columns])
