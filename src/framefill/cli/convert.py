"""The verb that turns checkpoints of others into framefill models."""

import json
from pathlib import Path
from typing import Annotated

import tyro


def convert(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    /,
    *,
    preset: str,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Turns a checkpoint of the MCVD authors (voletiv/mcvd-pytorch) into a framefill model; runs nothing in it.

    Args:
        checkpoint: Their file, such as checkpoint_700000.pt.
        preset: The published preset it was trained with, such as smmnist or bair-spatin (see `framefill recipes`).
        output: The model file to write; never overwritten.
        as_json: Print one JSON object, and nothing else.
    """
    from framefill.convert import convert_mcvd

    card = convert_mcvd(checkpoint, preset, output)
    result = {"model": str(output), "recipe": card.recipe, "preset": card.preset, "step": card.step} | card.about
    print(json.dumps(result) if as_json else "\n".join(f"{key:8s} {value}" for key, value in result.items()))
