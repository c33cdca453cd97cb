"""The verb that says how strange pictures are: a table of bits per dimension, with errors, and what is left of them."""

import csv
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from framefill.cli.options import loaded
from framefill.errors import BadInput, MediaError, Stiff, printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from framefill.video.images.outliers import Judged


def score(
    folder: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])],
    reference: Path | None = None,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("scores.csv"),
    draws: int = 1,
    probes: int = 8,
    shuffle: tuple[int, ...] = (),
    seed: int = 0,
    device: str = "auto",
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """How strange pictures are to a flow: bits per dimension, the same less their complexity (S), and how typical.

    Writes a table with a line for each picture. Pictures are resized and cropped to the model's size, which changes
    their likelihood; the table says which were.

    Args:
        folder: A folder of pictures, or one picture.
        model: A flow: a run of `framefill train mrcnf`, or a model file.
        reference: Pictures like those the model learnt, not the very ones: adds typicality, the areas under the ROC
            curves by which the scores tell the folder from them, and histograms beside the table.
        output: The table (.csv).
        draws: Places in the bins of the levels to average over: 2 or more for an error that counts both draws.
        probes: Random directions for the trace of each.
        shuffle: Also score the pictures with patches of these sizes shuffled, such as 1 4 16.
        seed: Same seed, same scores.
        device: cpu, cuda, or auto.
        overwrite: Replace a table, or histograms, that are there.
        as_json: Print one JSON object.
    """
    from framefill.video.images import outliers
    from framefill.video.images.complexity import CODECS
    from framefill.video.images.flow_model import FlowModel

    _check([output, *([output.with_suffix(".png")] if reference else [])], overwrite)
    flow = loaded(model, device, FlowModel, "densities")
    found = _read(folder, flow)
    known = _read(reference, flow) if reference else None
    if known and len(known.names) < 2:
        raise BadInput(f"--reference {reference} has one picture; what is usual takes two or more")
    for size in shuffle:  # what cannot be shuffled is said before the work
        outliers.shuffled(found.pictures[:1], size)
    codecs = CODECS | {"planes": _planes}
    ask = partial(outliers.judge, flow, draws=draws, probes=probes, seed=seed, codecs=codecs)
    judged, found, stiff = _judged(ask, found)
    usual, known, others = _judged(ask, known) if known else (None, None, 0)
    _table(output, found, judged, usual)
    result: dict[str, Any] = {"table": str(output), "pictures": len(found.names), "left_out": found.left_out}
    result |= {"resized": sum(found.resized)} | _means(judged)
    if usual and known:
        result |= {"reference": {"pictures": len(known.names)} | _means(usual)} | _compared(output, usual, judged)
    if shuffle:
        made = outliers.probe(flow, found.pictures, shuffle, probes=probes, seed=seed)
        result["shuffled"] = {str(size): round(float(bits.mean()), 4) for size, bits in made.items()}
    print(json.dumps(result) if as_json else "\n".join(f"{key:12s} {value}" for key, value in result.items()))
    if stiff + others:
        raise BadInput(f"{stiff + others} pictures are too stiff to be scored, see above; {output} has the others")


@dataclass(frozen=True)
class _Found:
    """Pictures as the model takes them, their names, and which had another size; how many could not be read."""

    names: list[str]
    pictures: Any
    resized: list[bool]
    left_out: int

    def without(self, index: int) -> "_Found":
        """All but one."""
        keep = [i for i in range(len(self.names)) if i != index]
        names, resized = [self.names[i] for i in keep], [self.resized[i] for i in keep]
        return _Found(names, self.pictures[keep], resized, self.left_out + 1)


def _read(place: Path, flow: Any) -> _Found:
    """The pictures of a folder; those that cannot be scored are left out and named on standard error."""
    import numpy as np

    from framefill.video import stacks
    from framefill.video.images.album import pictures_in

    names, pictures, resized, left_out = [], [], [], 0
    for name in pictures_in(place):
        try:
            picture = stacks.of_8_bits(stacks.picture(place / name, deep=True))
            fitted = flow.fitted(picture)
        except Exception as error:  # the list of what Pillow raises is open
            left_out += 1
            print(f"framefill: {printable(str(place / name))} is left out: {printable(str(error))}", file=sys.stderr)
            continue
        names.append(name)
        pictures.append(fitted)
        resized.append(picture.shape[:2] != fitted.shape[:2])
    if not names:
        raise MediaError(f"{place}: none of {left_out} pictures can be scored; the lines above say why")
    return _Found(names, np.stack(pictures), resized, left_out)


def _judged(ask: "Callable[[Any], Judged]", found: _Found) -> "tuple[Judged, _Found, int]":
    """What is said of the pictures, those it is said of, and how many the solver had to give up, which are named."""
    given = len(found.names)
    while found.names:
        try:
            return ask(found.pictures), found, given - len(found.names)
        except Stiff as error:
            print(f"framefill: {printable(found.names[error.sample])} is left out: {error}", file=sys.stderr)
            found = found.without(error.sample)
    raise MediaError(f"none of {given} pictures can be scored, all are too stiff; train with stronger regularisers")


def _planes(picture: Any) -> int:
    """The bytes that our own lossless codec takes."""
    from framefill.codec.planes import encode_planes

    return len(encode_planes(picture.transpose(2, 0, 1)))


def _check(outputs: list[Path], overwrite: bool) -> None:
    """BadInput for a table of another kind or in no folder, and where it, or histograms, would replace something."""
    if outputs[0].suffix != ".csv":
        raise BadInput(f"scores are written as .csv, not {outputs[0]}")
    if not outputs[0].parent.is_dir():
        raise BadInput(f"{outputs[0]}: there is no folder {outputs[0].parent}; make it, or choose another place")
    for output in outputs:
        if output.exists() and not overwrite:
            raise BadInput(f"{output} is there already; choose another name, or add --overwrite")


def _table(output: Path, found: _Found, judged: "Judged", usual: "Judged | None") -> None:
    from framefill.atomic import replacing
    from framefill.metrics.detection import untypical

    columns: dict[str, Any] = {
        "bits": judged.bits, "error": judged.error, "complexity": judged.complexity, "S": judged.corrected,
    }  # fmt: skip
    if usual:
        columns["atypical"] = untypical(judged.bits, usual.bits)
    with replacing(output) as part, part.open("w", newline="", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["picture", *columns, "resized"])
        for i, (name, resized) in enumerate(zip(found.names, found.resized, strict=True)):
            writer.writerow([name, *(f"{column[i]:.5f}" for column in columns.values()), int(resized)])


def _means(judged: "Judged") -> dict[str, float]:
    means = {"bits": judged.bits, "complexity": judged.complexity, "S": judged.corrected}
    spread = float(judged.bits.std(ddof=1) / len(judged.bits) ** 0.5) if len(judged.bits) > 1 else None
    found = {name: round(float(values.mean()), 4) for name, values in means.items()}
    return found if spread is None else found | {"bits_error": round(spread, 4)}


def _compared(output: Path, usual: "Judged", judged: "Judged") -> dict[str, Any]:
    """Areas with their intervals, and the histograms drawn."""
    from framefill.curves import draw_histograms
    from framefill.video.images.outliers import areas

    result: dict[str, Any] = {}
    if len(judged.bits) > 1:  # one picture is more or less typical, and has no curve
        found = areas(usual, judged).items()
        result["auroc"] = {name: [round(value, 4) for value in area] for name, area in found}
    drawn = output.with_suffix(".png")
    both = {"reference": usual.bits, "pictures": judged.bits}
    if draw_histograms(both, drawn, title="bits per dimension"):
        result["histograms"] = str(drawn)
    return result
