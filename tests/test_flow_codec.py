"""Lossless coding by a flow: a stack that undoes itself, lengths as the likelihood says, damage noticed."""

import copy
import gzip
import math
import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.codec.flow_codec import MAGIC, FlowCodec
from framefill.codec.header import Limits
from framefill.codec.stack import WHOLE, Stack, even
from framefill.codec.tables import TOTAL, normalise
from framefill.density import dequantise
from framefill.errors import BadInput, CodecError
from framefill.flows.cnf import CNF
from framefill.flows.flow import Apart
from framefill.flows.maps import Chain, Logit, Marginals, Whiten
from framefill.flows.ode import Solver
from framefill.nets.fields import ConvField

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")


# ---- the stack -----------------------------------------------------------------------------------------------------


def tables(rng, count):
    """Starts of `count` random distributions of 2 to 300 symbols, some of them very uneven."""
    found = []
    for _ in range(count):
        weights = rng.integers(0, 2 ** rng.integers(1, 30), rng.integers(2, 300))
        weights[0] += 1
        found.append(np.append(0, np.cumsum(normalise(weights, WHOLE))))
    return found


def test_what_is_pushed_is_popped_in_reverse_at_the_cost_of_its_probabilities():
    rng = np.random.default_rng(0)
    every = tables(rng, 4000)
    symbols = [int(np.searchsorted(starts, rng.integers(WHOLE), "right")) - 1 for starts in every]
    stack, bits = Stack(), 0.0
    for starts, symbol in zip(every, symbols, strict=True):
        own = int(starts[symbol + 1] - starts[symbol])
        stack.push(int(starts[symbol]), own)
        bits += 24 - math.log2(own)
    message = stack.message()
    assert bits - 8 < 8 * len(message) < bits * 1.002 + 32
    again = Stack(message)
    assert [again.pop(starts) for starts in every[::-1]] == symbols[::-1]
    again.emptied()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 5, 8, 9, 401])
def test_bits_become_symbols_and_bits_again(length):
    """Also beyond the end of what is there, where zeros are."""
    rng = np.random.default_rng(length)
    message = bytes([7, *rng.integers(0, 256, length - 1).tolist()]) if length else b""
    every = tables(rng, 300)
    stack = Stack(message)
    found = [stack.pop(starts) for starts in every]
    assert length < 400 or len(set(found)) > 50
    for starts, symbol in list(zip(every, found, strict=True))[::-1]:
        stack.push(int(starts[symbol]), int(starts[symbol + 1] - starts[symbol]))
    assert stack.message() == message


def test_words_of_zeros_are_kept_and_leftovers_are_noticed():
    stack = Stack()
    for own in (1, WHOLE, 1, 1, 1, 1, 1):
        stack.push(WHOLE - own, own)
    for _ in range(9):
        stack.push(0, 1)
    again = Stack(stack.message())
    assert [again.pop(even(WHOLE)) for _ in range(9)] == [0] * 9
    with pytest.raises(CodecError, match="left over"):
        again.emptied()
    assert np.diff(even(1000)).min() == WHOLE // 1000
    assert even(7)[-1] == WHOLE
    assert normalise(np.array([1, 1, 2]), 64).sum() == 64
    assert normalise(np.array([1, 1, 2])).sum() == TOTAL


# ---- a flow in closed form -----------------------------------------------------------------------------------------


class Bend(nn.Module):
    """dv/dt = a sin(v) and a turn: neither linear nor still."""

    def __init__(self, size, turn=0.6):
        super().__init__()
        self.matrix = nn.Parameter(turn * torch.tril(torch.ones(size, size), -1) / size)

    def forward(self, t, v, cond):
        return 0.3 * torch.sin(2 * v) + v @ (self.matrix - self.matrix.T)


class Still(nn.Module):
    """Leaves everything where it is."""

    def __init__(self):
        super().__init__()
        self.rate = nn.Parameter(torch.zeros(()))

    def forward(self, t, v, cond):
        return self.rate * v


def drawn(count, seed, size=4, levels=12):
    """Neighbours that go together: levels of a Gaussian of covariance 0.9^|i - j|."""
    rng = np.random.default_rng(seed)
    place = np.arange(size)
    normal = rng.multivariate_normal(np.zeros(size), 0.9 ** np.abs(place[:, None] - place), count)
    return np.clip(np.round(2 * normal + levels / 2), 0, levels - 1).astype(np.int64)


@pytest.fixture(scope="module")
def codec():
    known = torch.from_numpy(drawn(4000, 1)).float()
    marginals = Marginals.fit(known, 12)
    white = Whiten.fit(marginals(dequantise(known, 1.0, Rng.batch(0, len(known))))[0])
    return FlowCodec(CNF([Bend(4)], before=Chain([marginals, white])), marginals, width=0.03)


def bits(codec, values, draws=8):
    flow = copy.deepcopy(codec.flow).double()
    flow.solver = Solver(rtol=1e-6, atol=1e-6)
    levels = torch.from_numpy(values)
    found = []
    with torch.no_grad():
        for draw in range(draws):
            x = dequantise(levels.double(), 1.0, Rng.batch(draw, len(values)))
            found.append(float(flow.bits(x, width=1.0).nats.mean()))
    return float(np.mean(found))


def test_a_file_is_as_long_as_the_likelihood_says(codec):
    values = drawn(40, 2)
    data = codec.encode(values)
    assert (codec.decode(data) == values).all()
    before = codec.encode(values[:5])
    assert 8 * (len(data) - len(before)) / values[5:].size == pytest.approx(bits(codec, values[5:]), rel=0.08)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_few_samples_and_strange_ones_come_back(codec, count):
    values = np.random.default_rng(count).choice([0, 11], (count, 4))
    assert (codec.decode(codec.encode(values)) == values).all()
    assert codec.decode(codec.encode(values)).shape == (count, 4)


def test_a_flow_that_is_wrong_costs_no_exactness(codec):
    """g need not be what the data look like, nor the inverse of encode: here the field turns the other way."""
    wrong = FlowCodec(CNF([Bend(4, turn=-3.0)], before=codec.flow.before), codec.marginals, width=0.02)
    values = drawn(8, 4)
    assert (wrong.decode(wrong.encode(values)) == values).all()


def test_damage_and_other_models_are_told_in_one_line(codec):
    values = drawn(8, 5)
    data = codec.encode(values)
    rng = np.random.default_rng(0)
    for _ in range(6):
        place, bit = int(rng.integers(len(MAGIC) + 2, len(data))), int(rng.integers(8))
        harmed = bytearray(data)
        harmed[place] ^= 1 << bit
        with pytest.raises(CodecError) as told:
            codec.decode(bytes(harmed))
        assert "\n" not in str(told.value)
    for harmed in (data[:-1], data[:9], data + b"\0"):
        with pytest.raises(CodecError):
            codec.decode(harmed)
    other = FlowCodec(CNF([Bend(4, turn=0.61)], before=codec.flow.before), codec.marginals)
    for wrong in (other, FlowCodec(codec.flow, codec.marginals, width=0.11)):
        with pytest.raises(CodecError, match="another model"):
            wrong.decode(data)
    with pytest.raises(CodecError, match="not a file of a flow codec"):
        codec.decode(b"PK\x03\x04" + data)
    with pytest.raises(CodecError, match="ends inside its header"):
        codec.decode(b"\xf1")
    with pytest.raises(CodecError, match="claims 8 samples"):
        codec.decode(data, Limits(pictures=7))
    with pytest.raises(CodecError, match="claims 1 samples, 2 of them plain"):
        codec.decode(MAGIC + bytes([1, 2]) + bytes(20))


def test_samples_that_cannot_be_coded_are_refused(codec):
    for values, told in (
        (drawn(2, 0)[:, :3], "whole levels"),
        (drawn(2, 0) / 2, "whole levels"),
        (drawn(2, 0) + 12, "from 0 to 11"),
        (drawn(2, 0) - 12, "from 0 to 11"),
    ):
        with pytest.raises(BadInput, match=told):
            codec.encode(values)
    with pytest.raises(BadInput, match="at most 1024 elements"):
        FlowCodec(codec.flow, Marginals(torch.ones(1025, 2)))
    with pytest.raises(BadInput, match="width 0"):
        FlowCodec(codec.flow, codec.marginals, width=0)

    with pytest.raises(BadInput, match="Jacobian is not finite"):
        FlowCodec(Cusp(codec.flow), codec.marginals).encode(drawn(1, 0))


class Cusp(Apart):
    """A flow whose way back has no slope."""

    def decode(self, z, cond=None):
        return super().decode(z, cond) + (z - z.detach()).abs().sqrt()


def test_pictures_of_a_flow_without_histograms():
    """Levels equally likely, on another scale: the flow of a logit knows a little less."""
    marginals = Marginals(torch.ones(1, 2, 2, 4), first=-1.0, width=2 / 3)
    flow = CNF([ConvField(1, hidden=(2,))], before=Logit(-4 / 3, 4 / 3))
    values = np.random.default_rng(0).integers(0, 4, (12, 1, 2, 2))
    assert (FlowCodec(flow, marginals).decode(FlowCodec(flow, marginals).encode(values)) == values).all()


def digits_file():
    """The file that FRAMEFILL_DIGITS names, or that of an installed scikit-learn, which is not imported; or None."""
    found = find_spec("sklearn")
    places = [os.environ.get("FRAMEFILL_DIGITS"), found and Path(found.origin).parent / "datasets/data/digits.csv.gz"]
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.mark.slow
def test_digits_take_what_their_likelihood_says():
    """As `benchmarks/flow_digits.py` does it, with the Gaussian copula for a flow, which needs no training."""
    place = digits_file()
    if place is None:
        pytest.skip("needs digits.csv.gz of scikit-learn: install that, or name the file in FRAMEFILL_DIGITS")
    with gzip.open(place, "rt") as lines:
        values = np.loadtxt(lines, delimiter=",")[:, :64].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(values))
    fit, test = torch.from_numpy(values[order[:1500]]).float(), values[order[1500:1600]]
    marginals = Marginals.fit(fit, 17)
    white = Whiten.fit(marginals(dequantise(fit, 1.0, Rng.batch(0, len(fit))))[0])
    codec = FlowCodec(CNF([Still()], before=Chain([marginals, white])), marginals, width=0.15)
    data = codec.encode(test)
    assert (codec.decode(data) == test).all()
    assert 8 * len(data) / test.size < 1.03 * bits(codec, test, 2)  # all bytes counted, also those that begin
