"""`framefill pose from-image`: the people in a picture as posed characters."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from framefill.cli.pose import NOWHERE, OWN, Out, To, Whose
from framefill.errors import BadInput

if TYPE_CHECKING:
    from PIL import Image

    from framefill.pose.characters import Character
    from framefill.pose.estimator import Person
    from framefill.pose.motion import Motion


def from_image(
    picture: Annotated[Path, tyro.conf.Positional],
    *,
    person: int = 0,
    most: int = 8,
    estimator: str = "",
    estimator_python: Path | None = None,
    who: Whose = OWN,
    out: To = NOWHERE,
) -> None:
    """The people in a picture as posed characters, by an estimator of keypoints that is installed apart.

    Args:
        picture: A .png, .jpg or other still that shows one person or several.
        person: Whom of several to take, counted from the left from 1; 0 takes all, and writes NAME-1, NAME-2, ...
        most: How many people to look for.
        estimator: Another estimator: a program and its words (docs/pose.md says what it must print).
        estimator_python: The Python interpreter that has mediapipe==0.10.21; else $FRAMEFILL_ESTIMATOR, else the one in
            ~/.cache/framefill/estimator.
        who: Whose pose it becomes; by default framefill's body in the shape of the person in the picture.
        out: Where results go; a .png shows picture and pose side by side.
    """
    from framefill.pose import estimator as estimators
    from framefill.pose import imaged

    character = who.load()
    out.check(character)
    if out.output is None and not out.as_json:
        raise BadInput("from-image makes a file; give -o with a name that ends in .glb, .bvh, .npz, .json or .png")
    photo = estimators.open_picture(picture)
    found = estimators.people(photo, estimators.command(estimator, estimator_python), most)
    if not 0 <= person <= len(found):
        raise BadInput(f"person {person} of {len(found)}; give 1 to {len(found)}, counted from the left, or 0 for all")
    chosen = found[person - 1 : person] if person else found
    targets = _targets(out, len(chosen), character)
    rig = character if who.character is not None or who.shape else None
    made = [imaged.worn(one, rig, who.gender) for one in chosen]
    for one, (wearer, motion), target in zip(chosen, made, targets, strict=True):
        _write(target, wearer, motion, photo, one)
    _say(out, made, targets, len(found))


def _targets(out: Out, count: int, character: "Character") -> list[Path | None]:
    """A file for every person; BadInput where one is there already."""
    if out.output is None or count == 1:
        return [out.output] * count
    names = [out.output.with_name(f"{out.output.stem}-{i}{out.output.suffix}") for i in range(1, count + 1)]
    for name in names:
        replace(out, output=name).check(character)
    return [*names]


def _write(
    target: Path | None, character: "Character", motion: "Motion", photo: "Image.Image", person: "Person"
) -> None:
    from framefill.atomic import replacing
    from framefill.pose import picture, results

    if target is None:
        return
    if target.suffix.lower() != ".png":
        results.write(target, character, motion)
        return
    drawing = picture.draw(motion.skeleton, motion.world()[0])
    with replacing(target) as part:
        picture.beside(photo, drawing, list(person.picture.values())).save(part, format="PNG")


def _say(out: Out, made: "list[tuple[Character, Motion]]", targets: list[Path | None], seen: int) -> None:
    from framefill.pose import results

    if not out.as_json:
        print(f"{seen} in the picture", file=sys.stderr)
        print("\n".join(str(target) for target in targets))
        return
    rows: list[dict[str, Any]] = [
        {"shape": [round(value, 4) for value in character.shape]}
        | ({"output": str(target)} if target else {})
        | results.described(motion)
        for (character, motion), target in zip(made, targets, strict=True)
    ]
    print(json.dumps({"seen": seen, "people": rows}))
