"""From numbers of clips to figures with intervals.

Clips are the independent units: every interval comes from drawing clips anew, with all samples of a clip together. A
Frechet distance has a bias that such draws add once more, so its interval is reflected; see metrics/distribution.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from framefill.evaluate.parts import Numbers
from framefill.evaluate.protocol import Protocol
from framefill.metrics.distribution import (
    Interval,
    bootstrap,
    frechet_distance,
    half_samples,
    precision_recall,
    too_small,
)

ROUNDS = 1000
FRECHET_ROUNDS = {512: 100, 2048: 20}  # by the number of features: a distance on 1280 of them takes seconds
NAMES = {"I3D-K400 logits": "FVD", "EfficientNet-Lite0": "FD-EffLite0"}
HIGHER = ("psnr", "ssim", "precision", "recall", "density", "coverage")


@dataclass(frozen=True)
class Figure:
    """One number of the table: `low` to `high` is its 95 % interval, `better` "up", "down" or "one"."""

    method: str
    score: str
    value: float
    low: float
    high: float
    better: str


def figures(cases: Sequence[Numbers], methods: Sequence[str], protocol: Protocol, seed: int) -> list[Figure]:
    """Every figure of every method."""
    table: list[Figure] = []
    for method in methods:
        own = {name.split("/", 1)[1] for name in cases[0] if name.startswith(f"{method}/")}
        taken = {name: np.stack([case[f"{method}/{name}"] for case in cases]) for name in own}
        found = {**_scores(taken, protocol, seed), **_ensemble(taken, seed)}
        for name in sorted(taken):
            if ":" in name:
                truth = np.stack([case[f"truth/{name}"] for case in cases])
                found |= _distributions(name, truth, taken[name], protocol, seed)
        table += [Figure(method, score, i.value, i.low, i.high, _better(score)) for score, i in found.items()]
    return table


def warnings(cases: Sequence[Numbers], methods: Sequence[str]) -> list[str]:
    """What a reader must know of the sizes: one line for every kind of features of too few samples."""
    lines = []
    for name, value in cases[0].items():
        method, kind = name.split("/", 1)
        if ":" in kind and method == methods[0]:
            samples = len(cases) * int(np.prod(value.shape[:-1]))
            warning = too_small(min(samples, len(cases) * int(np.prod(cases[0][f"truth/{kind}"].shape[:-1]))),
                                value.shape[-1])  # fmt: skip
            lines += [f"{_named(kind)}: {warning}"] if warning else []
    return lines


def _scores(taken: Numbers, protocol: Protocol, seed: int) -> dict[str, Interval]:
    """Means over samples, and the best of N by the protocol's choice."""
    plain = [name for name, values in taken.items() if values.ndim == 2 and ":" not in name]
    found = {name: bootstrap(np.mean, taken[name], rounds=ROUNDS, seed=seed) for name in sorted(plain, key=_order)}
    if plain and taken["psnr"].shape[1] > 1:
        rows, chosen = np.arange(len(taken["psnr"])), taken["psnr"].argmax(axis=1)
        for name in sorted(plain, key=_order):
            values = taken[name]
            extreme = values.max(axis=1) if _better(name) == "up" else values.min(axis=1)
            best = extreme if protocol.best == "each" else values[rows, chosen]
            found[f"{name}, best of {values.shape[1]}"] = bootstrap(np.mean, best, rounds=ROUNDS, seed=seed)
    return found


def _ensemble(taken: Numbers, seed: int) -> dict[str, Interval]:
    found = {}
    if "crps" in taken:
        found["crps"] = bootstrap(np.mean, taken["crps"], rounds=ROUNDS, seed=seed)
    if "variance" in taken and taken["error"].all():  # of an exact mean there is no ratio
        ratio: Callable[..., float] = lambda v, e: float(np.sqrt(v.mean() / e.mean()))  # noqa: E731
        found["spread-skill"] = bootstrap(
            ratio, taken["variance"], taken["error"], rounds=ROUNDS, seed=seed, paired=True
        )
    return found


def _distributions(
    kind: str, truth: NDArray[np.float64], made: NDArray[np.float64], protocol: Protocol, seed: int
) -> dict[str, Interval]:
    rounds = next((r for most, r in FRECHET_ROUNDS.items() if made.shape[-1] <= most), 10)
    name, samples = _named(kind), made.shape[1]
    single = bootstrap(_of_single_samples, truth, made, rounds=max(rounds // samples, 10), seed=seed, paired=True)
    found = {name: single.reflected()}
    if protocol.pooled:
        together = bootstrap(frechet_distance, truth, made, rounds=rounds, seed=seed, paired=True)
        found = {name: together.reflected(), f"{name}, mean of single samples": single.reflected()}
    if kind.startswith("pictures:"):
        for score in ("precision", "recall"):
            one: Callable[..., float] = lambda r, m, score=score: getattr(precision_recall(r, m), score)  # noqa: E731
            found[score] = half_samples(one, truth, made, rounds=10, seed=seed, paired=True)
    return found


def _of_single_samples(truth: NDArray[np.float64], made: NDArray[np.float64]) -> float:
    return float(np.mean([frechet_distance(truth, made[:, n]) for n in range(made.shape[1])]))


def _named(kind: str) -> str:
    network = kind.split(":", 1)[1]
    return NAMES.get(network, f"Frechet distance ({network})")


def _better(score: str) -> str:
    return "one" if score == "spread-skill" else "up" if score.startswith(HIGHER) else "down"


def _order(name: str) -> tuple[bool, str]:
    return name not in ("psnr", "ssim"), name
