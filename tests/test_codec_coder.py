"""Tables, the Gaussian rows and the range coder: against exact sums, scipy-free closed forms, and each other."""

import importlib.util
import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framefill.codec import coder, gaussian
from framefill.codec.coder import Decoder, Encoder, Native, Plain, shortest
from framefill.codec.tables import LARGEST, TOTAL, Tables, digits, normalise, unzigzag, zigzag
from framefill.errors import BadInput, CodecError

INSTALLED = importlib.util.find_spec("constriction")
ENGINES = [Plain, pytest.param(Native, marks=pytest.mark.skipif(INSTALLED is None, reason="needs constriction"))]


def some_tables(seed: int = 0, rows: int = 7) -> Tables:
    rng = np.random.default_rng(seed)
    counts = [(rng.dirichlet(np.full(n, 0.3)) * 10**6).astype(np.int64) for n in rng.integers(2, 300, rows)]
    return Tables([normalise(c) for c in counts], list(rng.integers(-200, 50, rows)))


def some_symbols(tables: Tables, count: int, seed: int = 0, escapes: float = 0.02):
    """Rows at random, symbols as their rows say, some far outside."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(tables), count)
    symbols = np.array([rng.choice(len(f := tables.row(r)), p=f / TOTAL) for r in rows], np.int64) + tables.lows[rows]
    wild = rng.random(count) < escapes
    symbols[wild] = rng.integers(-LARGEST, LARGEST + 1, int(wild.sum()))
    return symbols, rows


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_symbols_come_back_at_the_cost_their_tables_state(engine, count):
    tables = some_tables()
    symbols, rows = some_symbols(tables, count)
    writer = Encoder(engine)
    for part in np.array_split(np.arange(count), 3):
        writer.write(symbols[part], rows[part], tables)
    message = writer.message()
    reader = Decoder(message, engine)
    for part in np.array_split(np.arange(count), 3):
        assert np.array_equal(reader.read(rows[part], tables), symbols[part])
    assert tables.bits(symbols, rows).sum() - 8 <= 8 * len(message) <= tables.bits(symbols, rows).sum() + 9


@pytest.mark.skipif(INSTALLED is None, reason="needs constriction")
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 200))
def test_both_engines_write_the_same_bytes(seed, count):
    tables = some_tables(seed)
    symbols, rows = some_symbols(tables, count, seed)
    messages = []
    for engine in (Plain, Native):
        writer = Encoder(engine)
        writer.write(symbols, rows, tables)
        messages.append(writer.message())
    assert messages[0] == messages[1]


@pytest.mark.skipif(INSTALLED is None, reason="needs constriction")
def test_whole_numbers_pass_constriction_exactly():
    """After one symbol the state is step times frequency: the entries of Gaussian rows are read off it."""
    tables, step = gaussian.tables(), (2**64 - 1) >> 24
    for row in range(0, len(tables), 41):
        before = 0
        for entry, frequency in enumerate(tables.row(row).tolist()):
            writer = Native()
            writer.encode(np.array([entry]), tables, row)
            low, span, bits = writer.interval()
            moved = bits - 64  # 0, or 32 where the range fell below 2^32
            assert (low, span) == (step * (before << 8) << moved, step * (frequency << 8) << moved)
            before += frequency


@pytest.mark.skipif(INSTALLED is None, reason="needs constriction")
def test_a_constriction_that_codes_otherwise_is_not_used(monkeypatch):
    class Later(Native):
        def _table(self, tables, row):
            return self._model(tables.row(row).astype(float), perfect=False)

    monkeypatch.setattr(coder, "Native", Later)
    coder.native.cache_clear()
    assert not coder.native()
    assert isinstance(Encoder()._engine, Plain)
    monkeypatch.undo()
    coder.native.cache_clear()
    assert coder.native()


def test_a_carry_runs_through_full_words():
    """0xFFFFFFFF words that are already out are raised by a later symbol."""
    tables = Tables([np.array([1, TOTAL - 2, 1])], [0])
    found = set()
    for seed in range(400):
        entries = np.random.default_rng(seed).choice([0, 1, 2], 30, p=[0.1, 0.1, 0.8])
        engine = Plain()
        engine.encode(entries, tables, 0)
        whole, width, words = 0, (1 << 64) - 1, 0  # the same with one big integer instead of words
        ends = [0, 1, TOTAL - 1, TOTAL]
        for entry in entries:
            unit = width >> 24
            whole, width = whole + unit * (ends[entry] << 8), unit * ((ends[entry + 1] - ends[entry]) << 8)
            if width < 1 << 32:
                whole, width, words = whole << 32, width << 32, words + 1
        assert engine.interval() == (whole, width, 64 + 32 * words)
        found.add(0 in engine._done)
    assert found == {True, False}


def test_a_carry_passes_words_of_ones():
    engine, ones = Plain(), 2**32 - 1
    engine._done, engine._low = [5, ones, ones], 2**64 + 3
    engine._carry()
    assert (engine._done, engine._low) == ([6, 0, 0], 3)


@given(st.integers(0, 2**96 - 1), st.integers(2**32, 2**64 - 1))
def test_the_message_is_inside_its_interval_and_none_shorter_is(low, span):
    span = min(span, 2**96 - low)
    message = shortest(low, span, 96)
    value = int.from_bytes(message.ljust(12, b"\0"), "big")
    assert low <= value < low + span
    for length in range(len(message)):
        unit = 96 - 8 * length
        assert -(-low >> unit) << unit >= low + span


@pytest.mark.parametrize("engine", ENGINES)
def test_garbage_gives_symbols_or_an_error_and_never_more(engine):
    tables = some_tables()
    errors = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        reader = Decoder(rng.bytes(rng.integers(0, 60)) if seed % 3 else b"\xff" * seed, engine)
        try:
            symbols = reader.read(rng.integers(0, 7, 300), tables)
            assert len(symbols) == 300
            assert np.abs(symbols).max() <= LARGEST
        except CodecError as error:
            errors += "damaged" in str(error)
    assert errors


@pytest.mark.parametrize("engine", ENGINES)
def test_an_escape_of_too_many_digits_is_refused(engine):
    tables = Tables([np.array([1, TOTAL - 1])], [0])
    for codes in ([255] * 5, [255, 255, 255, 255, 127]):
        writer = engine()
        writer.encode(np.array([1]), tables, 0)
        for code in codes:
            writer.encode(np.array([code]), coder.BYTES, 0)
        with pytest.raises(CodecError, match="escaped symbol is larger"):
            Decoder(shortest(*writer.interval()), engine).read(np.array([0]), tables)


def test_what_cannot_be_written_is_refused():
    tables = some_tables()
    with pytest.raises(BadInput, match="the format takes"):
        Encoder(Plain).write(np.array([LARGEST + 1]), np.array([0]), tables)
    with pytest.raises(BadInput, match="not two lists"):
        Encoder(Plain).write(np.array([1, 2]), np.array([0]), tables)
    with pytest.raises(BadInput, match="of a set of 7"):
        Encoder(Plain).write(np.array([1]), np.array([7]), tables)


@pytest.mark.parametrize("bad", [[TOTAL], [TOTAL, 0], [TOTAL - 2, 1], [TOTAL - 1, 2], [TOTAL + 1, -1]])
def test_rows_that_are_no_distribution_are_refused(bad):
    with pytest.raises(BadInput, match=r"row of frequencies|tables need"):
        Tables([np.array(bad)], [0])
    with pytest.raises(BadInput, match="one lowest symbol"):
        Tables([np.array([1, TOTAL - 1])], [])


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=300).filter(any))
def test_counts_become_frequencies_near_them(counts):
    found = normalise(np.array(counts))
    assert found.sum() == TOTAL
    assert found.min() >= 1
    ideal = np.array(counts) / sum(counts) * (TOTAL - len(counts)) + 1
    assert np.all(found >= np.floor(ideal - 1e-6))
    assert np.count_nonzero(found > ideal + 1e-6) <= 1
    assert np.argmax(counts) == np.argmax(found) or found.max() == found[np.argmax(counts)]


def test_counts_that_say_nothing_are_refused():
    for counts in ([1], [0, 0], [1, -1], [2**46, 1]):
        with pytest.raises(BadInput, match="counts"):
            normalise(np.array(counts))


def test_zigzag_is_its_own_inverse_and_digits_are_its_bytes():
    values = np.array([0, -1, 1, -2, 63, -64, 64, -65, 8191, 8192, LARGEST, -LARGEST])
    assert zigzag(values)[:4].tolist() == [0, 1, 2, 3]
    assert np.array_equal(unzigzag(zigzag(values)), values)
    assert digits(values).tolist() == [max(1, math.ceil(int(z).bit_length() / 7)) for z in zigzag(values)]


def test_the_normal_distribution_is_exact_to_the_last_of_32_bits():
    grid = gaussian.distribution()
    assert (grid[0], grid[1024]) == (2**31, 2**32)
    exact = [math.erfc(-k / 128 / math.sqrt(2)) / 2 * 2**32 for k in range(1025)]
    assert max(abs(g - e) for g, e in zip(grid.tolist(), exact, strict=True)) <= 0.5 + 1e-5
    assert int(grid.astype("<i8").sum()) == 4181945783001  # every one of them, for other decoders


@pytest.mark.parametrize("index", [0, 5, 24, 40, 63])
@pytest.mark.parametrize("fraction", [0, 3, 8, 15])
def test_a_gaussian_row_is_the_gaussian(index, fraction):
    law = statistics.NormalDist(fraction / 16, gaussian.width(index) / 64)
    row, reach = gaussian.row(index, fraction), gaussian.radius(index)
    exact = [law.cdf(k + 0.5) - law.cdf(k - 0.5) for k in range(-reach, reach + 2)]
    assert len(row) == len(exact) + 1
    assert abs(row[:-1] / TOTAL - exact).max() < len(row) / TOTAL + 3e-5
    # what a message costs over the law itself: the rounding to 16 bits and the line between grid points
    exact, coded = np.array(exact), row[:-1] / TOTAL
    seen = exact > 0
    assert float((exact[seen] * np.log2(exact[seen] / coded[seen])).sum()) < 0.008


def test_widths_grow_by_an_eighth_at_most_and_mirror():
    widths = [gaussian.width(i) for i in range(64)]
    assert (widths[0], widths[24], widths[63]) == (8, 64, 1920)
    assert all(1 < b / a <= 1.125 for a, b in itertools.pairwise(widths))
    for index in (3, 30):
        row = gaussian.row(index, 8)  # a mean of one half: symmetric, but for the floor
        assert abs(row[:-1] - row[:-1][::-1]).max() <= 1
