"""The verb that makes a codec for one kind of picture."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from framefill.cli.datasets import is_dataset
from framefill.errors import BadInput

FROM = "photos"
GENTLE = 5e-4  # the learning rate of what has been trained before


def fit(
    data: Annotated[str, tyro.conf.Positional],
    /,
    *,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    budget: str = "20m",
    from_: Annotated[str, tyro.conf.arg(name="from")] = FROM,
    seed: int = 0,
    device: str = "auto",
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """Trains a codec for your own kind of pictures, and writes the one file that both sides need.

    Run it again to go on where it stopped: its run folder stays beside the file. `framefill compress --model FILE` and
    `decompress --model FILE` use it.

    Args:
        data: A folder or .zip of pictures of one kind, thirty or more; 256 pixels along each side are enough.
        output: The model file, such as mine.safetensors.
        budget: How long it may take, such as 20m or 2h.
        from_: The codec to begin with: a shipped name or a model file.
        seed: Same seed, same codec.
        device: cpu, cuda, or auto.
        as_json: Print one JSON object at the end, and nothing else.
    """
    if output.suffix != ".safetensors":
        raise BadInput(f"--output is a model file; name it {output.stem or 'mine'}.safetensors, not {output}")
    if output.exists():
        raise BadInput(f"{output} is there already; choose another name")
    if is_dataset(data):
        raise BadInput(f"{data}: fields need no fitting; use: framefill compress {data} --max-error VARIABLE=BOUND")
    from framefill import checkpoint
    from framefill.cli.training import carry_out
    from framefill.recipes.compression import Compression
    from framefill.recipes.recipe import from_fields, to_fields

    tensors, card = checkpoint.read(checkpoint.locate(from_))
    if card.recipe != "compression" or card.fields.get("few"):
        raise BadInput(
            f"{from_} is a model of recipe {card.recipe}; --from takes one of recipe compression, not distilled"
        )
    recipe = replace(from_fields(Compression, card.fields), learning_rate=GENTLE).suited(data)
    run = output.with_suffix(".run")
    own = checkpoint.Card("compression", card.preset, to_fields(recipe), seed=seed, about={"data": data, "from": from_})
    start = {name: tensor.float() for name, tensor in tensors.items()}
    done, _ = carry_out(recipe, data, own, start=start, output=run, budget=budget, device=device, quiet=as_json)
    if not done:
        return
    made, said = checkpoint.read(checkpoint.locate(run))
    checkpoint.write(output, {name: tensor.half() for name, tensor in made.items()}, said)
    told = {"model": str(output), "bytes": output.stat().st_size, "steps": said.step, "run": str(run)}
    print(json.dumps(told) if as_json else "\n".join(f"{key:6s} {value}" for key, value in told.items()))
    if not as_json:
        print(f"now: framefill compress PICTURE --model {output}", file=sys.stderr)
