"""Verbs that look and change nothing: info, recipes, doctor."""

import json
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import tyro


def info(
    model: Annotated[str, tyro.conf.Positional] = "",
    /,
    *,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """What a model is: recipe, training, data, licence, scores. Or what a compressed file holds.

    Args:
        model: A model file, a compressed file (.ffc), a run folder, or the name of a shipped model; nothing
            lists the shipped ones.
        as_json: Print one JSON object.
    """
    from framefill.cli import compressed

    if model and (compressed.is_ours(Path(model)) or (Path(model).suffix == ".ffc" and Path(model).is_file())):
        compressed.tell(Path(model), as_json=as_json)
        return
    from framefill import checkpoint

    names = [model] if model else list(checkpoint.shipped())
    cards = {name: vars(checkpoint.read_card(checkpoint.locate(name))) for name in names}
    if as_json:
        print(json.dumps(cards[model] if model else cards, indent=1))
        return
    for name, card in cards.items():
        about = card["about"]
        print(f"{name}: {card['recipe']} / {card['preset']}, step {card['step']}, seed {card['seed']}")
        for key, value in about.items():
            print(f"  {key}: {_short(value if isinstance(value, str) else json.dumps(value))}")
        if model:
            print("  " + ", ".join(f"{k}={v}" for k, v in card["fields"].items()))


def _short(text: str, most: int = 1200) -> str:
    """As much as one wants to read: the statistics of a grid have a number for every cell."""
    return text if len(text) <= most else f"{text[:most]}... (--json has all of it)"


def recipes(*, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Every recipe and preset with its number of parameters and the score its paper reports.

    Args:
        as_json: Print a JSON list with all fields.
    """
    from framefill import recipes as table

    rows = table.rows()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        name = f"{row['recipe']} {row['preset']}"
        print(f"{name:41s} {row['parameters']:>13,}  {row['data']:36s} {row['paper_score'] or ''}")


def doctor(*, as_json: Annotated[bool, tyro.conf.arg(name="json")] = False) -> None:
    """Whether this machine is fit: versions, device, bf16, codecs, shipped models.

    Args:
        as_json: Print one JSON object.
    """
    import av
    import torch

    from framefill import __version__, checkpoint
    from framefill.device import bf16_pays

    device = "cuda" if torch.cuda.is_available() else "cpu"
    report: dict[str, Any] = {
        "framefill": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "bf16": bf16_pays(device),
        "codecs": {c: c in av.codecs_available for c in ("libx264", "libvpx-vp9", "libsvtav1", "ffv1")},
        "models": {name: _sound(path) for name, path in checkpoint.shipped().items()},
    }
    fit = all(report["models"].values()) and report["codecs"]["libx264"]
    if as_json:
        print(json.dumps(report | {"fit": fit}, indent=1))
    else:
        for key, value in report.items():
            print(
                f"{key:10s} {value if not isinstance(value, dict) else ', '.join(f'{k} {v}' for k, v in value.items())}"
            )
        print("all well" if fit else "something is missing: see above")
    if not fit:
        sys.exit(1)


def _sound(path: Path) -> bool:
    from framefill import checkpoint
    from framefill.errors import CheckpointError

    try:
        checkpoint.read(path)
    except CheckpointError:
        return False
    return True
