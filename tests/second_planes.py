"""A second decoder of planes, written from docs/bitstream.md alone: plain Python, one number at a time."""

from functools import cache
from itertools import pairwise

from second_decoder import Damaged, Range, normal_grid

SHAPES = (((16, 0),), ((12, 0), (4, 8)), ((9, 0), (5, 9), (2, 17)), ((12, 0), (2, 12), (2, 24)))
REACH = (1, 2, 2, 3)
CROSS = [(0, -1), (0, 1), (-1, 0), (1, 0)]
FAR = [(0, -3), (0, 3), (-3, 0), (3, 0), (-2, -1), (-2, 1), (2, -1), (2, 1), (-1, -2), (-1, 2), (1, -2), (1, 2)]
DIAGONAL = [(-1, -1), (1, 1), (-1, 1), (1, -1)]
KNIGHT = [(-1, -3), (-1, 3), (1, -3), (1, 3), (-3, -1), (-3, 1), (3, -1), (3, 1)]
WINDOWS = [
    ((1, 1), [*DIAGONAL, *KNIGHT]),
    ((0, 1), [*CROSS, *FAR]),
    ((1, 0), [*CROSS, *DIAGONAL, *FAR]),
]
SCALES = [0] + [(8 + i % 8) * 2 ** (i // 8) for i in range(96)]


@cache
def row(number):
    """(frequencies, low) of a row, by its number."""
    for shape in range(4):
        for width in range(48):
            step = 2 ** max(width // 8 - 2, 0)
            if number < 16 // step:
                return frequencies(shape, width, number * step)
            number -= 16 // step
    raise Damaged("row")


def frequencies(shape, width, fraction):
    grid = normal_grid()
    size = lambda i: (8 + i % 8) * 2 ** (i // 8)  # noqa: E731

    def below(a, i):
        p = min(abs(a) * 2**25 // size(i), 2**26 - 1)
        u = grid[p >> 16] + ((grid[(p >> 16) + 1] - grid[p >> 16]) * (p % 2**16) >> 16)
        return u if a >= 0 else 2**32 - u

    reach = REACH[shape] * (1 + (5 * size(width) + 63) // 64)
    edges = [16 * (j - reach) - 8 - fraction for j in range(2 * reach + 3)]
    share = [sum(part * below(a, width + more) for part, more in SHAPES[shape]) for a in edges]
    starts = [j + ((s - share[0]) * (65536 - len(edges)) >> 36) for j, s in enumerate(share)] + [65536]
    return [b - a for a, b in pairwise(starts)], -reach


def number_of(shape, width, mean):
    """Row, base and low bits."""
    bits = max(width // 8 - 5, 0)
    width -= 8 * bits
    step = 2 ** max(width // 8 - 2, 0)
    mean = (mean + step // 2) // step * step
    if bits:
        mean = mean // 16 * 16
    first = sum(16 // 2 ** max(w // 8 - 2, 0) for s in range(4) for w in range(48) if (s, w) < (shape, width))
    return first + mean % 16 // step, mean // 16, bits


def index(size):
    size = max(size, 1)
    o = size.bit_length() - 1
    return 8 * o + (size * 8 >> o) - 8


def batches(axis, count):
    if axis == 0:
        order = [1, 0, *range(2, count)] if count > 2 else list(range(count))
        return [([c], [[k] for k in order[max(i - 2, 0) : i][::-1]], min(i, 2)) for i, c in enumerate(order)]
    found = [([0], [], 0)]
    for log in reversed(range((count - 1).bit_length())):
        s = 2**log
        own = list(range(s, count, 2 * s))
        after = [t + s if t + s < count else max(t - 3 * s, 0) for t in own]
        seen = [[t - s for t in own], after]
        if axis == 2:
            seen.append([t - 3 * s if t >= 3 * s else t - s for t in own])
            seen.append([t + 3 * s if t + 3 * s < count else a for t, a in zip(own, after, strict=True)])
            seen.append([-1] * len(own))
        found.append((own, seen, 1 + min(log, 2)))
    return found


def turned(stack, side):
    """The stack with this side first, and the others in order."""
    if side == 1:
        return [[plane[y] for plane in stack] for y in range(len(stack[0]))]
    if side == 2:
        return [[[line[x] for line in plane] for plane in stack] for x in range(len(stack[0][0]))]
    return stack


def turned_back(stack, side):
    """The inverse."""
    if side == 1:
        return turned(stack, 1)
    if side == 2:
        return [[[plane[n][y] for plane in stack] for y in range(len(stack[0][0]))] for n in range(len(stack[0]))]
    return stack


class Planes:
    def __init__(self, data, missing=None):
        self.data, self.place = data, 0
        version, self.axis, *shape = (self.varint() for _ in range(5))
        assert version in (1, 2)
        self.turn = 0
        if version == 2:
            self.axis, self.turn = 2, self.axis
            if missing is not None:
                missing = turned(missing, self.turn)
        code = self.varint() + (self.varint() << 32)
        low = -(code + 1) // 2 if code % 2 else code // 2
        count = self.varint()
        self.levels = None
        if count:
            self.levels = [low]
            while len(self.levels) < count:
                self.levels.append(self.levels[-1] + self.varint())
            self.reach, self.spare = count - 1, 0
        else:
            self.reach, self.spare = self.varint(), self.varint()
        assert self.spare == 0, "low bits are one call of zlib more"
        self.low, self.shape, self.missing = low, shape, missing
        self.x = [[[0] * shape[2] for _ in range(shape[1])] for _ in range(shape[0])]
        self.e = [[[0] * shape[2] for _ in range(shape[1])] for _ in range(shape[0])]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= byte % 128 << shift
            shift += 7
            if byte < 128:
                return value

    def passes(self):
        _, height, width = self.shape
        self.levels_of = min(5, (max(height, width) - 1).bit_length())
        for level in reversed(range(self.levels_of)):
            for kind, (corner, window) in enumerate(WINDOWS):
                if corner[0] << level < height and corner[1] << level < width:
                    yield level, 3 * min(level, 2) + kind, corner, window

    def laws(self):
        self.held = {}
        take = lambda n, width: self.coder.batch([number_of(3, width, 0)[0]] * n, row)  # noqa: E731

        def summed(values, start=0):
            total = []
            for value in values:
                start += value
                total.append(start)
            return total

        for _, seen, kind in batches(self.axis, self.shape[0]):
            for _, own, _, window in self.passes():
                if (kind, own) in self.held:
                    continue
                count = len(window) + 2 * len(seen)
                sort = take(1, 8)[0]
                weights = [[0] * count] * 5
                if sort:
                    sent = take(count * (5 if sort == 2 else 1), 47)
                    rows = [sent[i : i + count] for i in range(0, len(sent), count)]
                    weights = [[sum(r[j] for r in rows[: d + 1]) for j in range(count)] for d in range(len(rows))]
                    weights = weights * 5 if sort == 1 else weights
                scales = [SCALES[v + 12] for v in take(5 + 3 * len(seen), 40)]
                self.held[kind, own] = weights, scales, summed(take(32, 2), 2), summed(take(32, 2))

    def decode(self):
        if self.reach:
            length = self.varint()
            self.coder = Range(self.data[self.place : self.place + length])
            self.place += length
            count = self.varint()
            packed = int.from_bytes(self.data[self.place :], "little")
            self.bits = [packed >> i & 1 for i in range(count)]
            self.laws()
            known = []
            for slices, seen, kind in batches(self.axis, self.shape[0]):
                self.x.append(self.mean(self.x, known))
                self.e.append(self.mean(self.e, known))
                self.batch(slices, seen, kind)
                self.x.pop(), self.e.pop()
                known += slices
        value = (lambda v: self.levels[v]) if self.levels else (lambda v: v + self.low)
        gone = self.missing
        found = [
            [[0 if gone is not None and gone[n][y][x] else value(v) for x, v in enumerate(line)]
             for y, line in enumerate(plane)]
            for n, plane in enumerate(self.x[: self.shape[0]])
        ]  # fmt: skip
        return turned_back(found, self.turn)

    def mean(self, stack, known):
        """That of the known slices; it is slice -1 while a batch is read."""
        _, height, width = self.shape
        if not known:
            return []
        n = len(known)
        return [[(2 * sum(stack[k][y][x] for k in known) + n) // (2 * n) for x in range(width)] for y in range(height)]

    def batch(self, slices, seen, kind):
        _, height, width = self.shape
        list(self.passes())
        stride = 2**self.levels_of
        places = [
            (b, y, x) for b in range(len(slices)) for y in range(0, height, stride) for x in range(0, width, stride)
        ]
        means = [16 * (self.x[seen[0][b]][y][x] if seen else self.reach // 2) for b, y, x in places]
        laws = [(2, 8 * max(self.reach.bit_length() - 1, 0))] * len(places)
        self.fill(slices, places, means, laws, first=not seen)
        for level, own, corner, window in self.passes():
            s = 2**level
            weights, scales, shapes, shifts = self.held[kind, own]
            places = [
                (b, y, x) for b in range(len(slices))
                for y in range(corner[0] * s, height, 2 * s) for x in range(corner[1] * s, width, 2 * s)
            ]  # fmt: skip
            means, laws = [], []
            for b, y, x in places:
                mean, size = self.look(slices[b], [k[b] for k in seen], y, x, s, window, weights, scales)
                means.append(mean)
                i = index(size)
                laws.append((shapes[i >> 3], min(max(i - 24 + shifts[i >> 3], 0), 288)))
            self.fill(slices, places, means, laws)

    def look(self, n, seen, y, x, s, window, weights, scales):
        sides = [(v - 1) // s + 1 for v in self.shape[1:]]

        def inside(v, count):
            v = abs(v)
            v = 2 * (count - 1) - v if v >= count else v
            return min(max(v, 0), count - 1)

        spots = [(inside(y // s + a, sides[0]) * s, inside(x // s + b, sides[1]) * s) for a, b in window]
        values = [self.x[n][a][b] for a, b in spots]
        base = sum(values[:4]) >> 2
        d = [v - base for v in values]
        across = abs(d[0] - d[1]), abs(d[2] - d[3])
        sizes = [1, sum(across), sum(map(abs, d[:4])), sum(map(abs, d[4:])), sum(self.e[n][a][b] for a, b in spots[:4])]
        for k in seen:
            d.append(4 * self.x[k][y][x] - sum(self.x[k][a][b] for a, b in spots[:4]))
            sizes += [abs(d[-1]), self.e[k][y][x], sum(self.e[k][a][b] for a, b in spots[:4])]
            d.append(self.x[k][y][x] - base)
        a, b = across
        direction = 2 + (a > 2 * b) + (a > 5 * b) - (b > 2 * a) - (b > 5 * a)
        drift = sum(w * v for w, v in zip(weights[direction], d, strict=True)) >> 4
        mean = min(max(16 * base + drift, 0), 16 * self.reach)
        return mean, sum(w * v for w, v in zip(scales, sizes, strict=True)) >> 5

    def fill(self, slices, places, means, laws, first=False):
        gone = [self.missing is not None and self.missing[slices[b]][y][x] for b, y, x in places]
        rows = [number_of(*law, mean) for law, mean in zip(laws, means, strict=True)]
        there = [i for i in range(len(places)) if not gone[i]]
        found = self.coder.batch([rows[i][0] for i in there], row) if there else []
        values = {i: (means[i] + 8) >> 4 for i in range(len(places)) if gone[i]}
        for i, high in zip(there, found, strict=True):
            _, base, bits = rows[i]
            own, self.bits = self.bits[:bits], self.bits[bits:]
            values[i] = base + (high << bits) + sum(bit << j for j, bit in enumerate(own))
        for i, (b, y, x) in enumerate(places):
            self.x[slices[b]][y][x] = values[i]
            self.e[slices[b]][y][x] = 0 if first else abs(16 * values[i] - means[i])
