"""The verbs of `framefill pose` that begin from a file of motion: recover, retarget, fit-shape, between, evaluate."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.cli.pose import NOWHERE, OWN, To, Who, Whose, numbers
from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.pose.characters import Character
    from framefill.pose.recover import Recovered
    from framefill.pose.retarget import Rig

File = Annotated[Path, tyro.conf.Positional]


def recover(
    motion: File,
    *,
    frame: int = 0,
    most: int = 6,
    enough: float = 0.0,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """The few handles that tell a pose, in the order of what they are worth, and the error after each.

    Args:
        motion: A .bvh, .glb, .amc (its .asf beside it) or AMASS .npz.
        frame: Which frame, counted from 0.
        most: How many handles at most.
        enough: Stop at this error, in millimetres.
        output: A .csv of the handles, for `pose solve --handles`; a .json; or a .png of the curve's pose.
        overwrite: Replace a result that is already there.
        as_json: Print one JSON object.
    """
    from framefill.pose import habits, results
    from framefill.pose.recover import recover as search
    from framefill.pose.retarget import Rig

    _free(output, overwrite, (".csv", ".json", ".png"))
    pose = results.motion_of(motion)
    if not 0 <= frame < len(pose):
        raise BadInput(f"frame {frame} of {len(pose)}; give 0 to {len(pose) - 1}")
    rig = Rig.of(pose.skeleton)
    if note := habits.note(rig):
        print(note, file=sys.stderr)
    found = search(pose.skeleton, pose.local[frame], pose.root[frame], habits.worn(rig), most=most, enough=enough)
    rows = [
        {"joint": handle.joint, "kind": results.KINDS[type(handle)], "error_mm": round(error, 3)}
        for handle, error in zip(found.handles, found.errors, strict=True)
    ]
    if output is not None:
        _write_recovered(output, found, rows, rig)
    if as_json:
        print(json.dumps({"handles": rows}))
    else:
        print("\n".join(f"{row['joint']:24s} {row['kind']:10s} {row['error_mm']:8.1f} mm" for row in rows))


def _write_recovered(path: Path, found: "Recovered", rows: list[dict[str, Any]], rig: "Rig") -> None:
    from framefill.atomic import replacing
    from framefill.pose import picture
    from framefill.pose.effectors import Place
    from framefill.pose.files import handles

    if path.suffix == ".csv":
        handles.write(path, found.handles)
    elif path.suffix == ".png":
        places = [handle.target for handle in found.handles if isinstance(handle, Place)]
        picture.write(path, rig.skeleton, found.pose.positions, places)
    else:
        with replacing(path) as part:
            part.write_text(json.dumps({"handles": rows}) + "\n")


def retarget(
    motion: File, *, onto: Path | None = None, sliding: bool = False, who: Whose = OWN, out: To = NOWHERE
) -> None:
    """A motion put on another skeleton: joints matched by role, lengths in proportion, feet where they were.

    Args:
        motion: A .bvh, .glb, .amc (its .asf beside it) or AMASS .npz.
        onto: The .bvh or .glb that shall wear it; by default framefill's body, of --shape and --gender.
        sliding: Carry the turns alone, and let the feet end where they do.
    """
    from dataclasses import replace

    from framefill.pose import results
    from framefill.pose.retarget import Rig
    from framefill.pose.retarget import retarget as put

    character = (replace(who, character=onto) if onto else who).load()
    out.check(character)
    source = results.motion_of(motion)
    rig = Rig.of(source.skeleton)
    worn = put(source, rig, character.rig, feet=not sliding)
    shared = sorted(role for role in rig.roles if role in character.rig.roles)
    if not out.as_json and out.output is None:
        raise BadInput("retarget makes a file; give -o with a name that ends in .bvh, .glb, .npz or .json")
    print(f"{len(shared)} joints correspond: {', '.join(shared)}", file=sys.stderr)
    out.tell(character, worn, {"shared": shared})


def fit_shape(
    rig: File,
    *,
    method: Literal["optimise", "kernel"] = "optimise",
    gender: Literal["neutral", "female", "male"] = "neutral",
    fixed_size: bool = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """The shape of framefill's body that has a rig's bones.

    Args:
        rig: A .bvh or .glb, or SMPL's .pkl or .npz.
        method: By least squares over all bones, or by the paper's kernel from six lengths of the right side.
        gender: Of which body.
        fixed_size: Keep the scale 1: shape alone has to explain the size.
        as_json: Print one JSON object.
    """
    from framefill.pose import characters, inversion
    from framefill.pose.human import human

    given = characters.load(rig).rig
    body = human(gender)
    if method == "kernel":
        found = inversion.by_kernel(given, body)
    else:
        found = inversion.by_optimisation(given, body, scaled=not fixed_size)
    if as_json:
        print(json.dumps(asdict(found)))
        return
    print(f"--gender {gender} --shape={','.join(f'{value:.3f}' for value in found.shape)}   scale {found.scale:.4f}")
    print(f"mean bone error {found.error:.2f} mm")
    for bone, (made, true) in found.bones.items():
        print(f"{bone:32s} {1000 * made:7.1f} mm, the rig's {1000 * true:7.1f}")


def between(
    keys: File,
    *,
    times: str = "",
    fps: float = 30.0,
    sliding: bool = False,
    who: Whose = OWN,
    out: To = NOWHERE,
) -> None:
    """The frames between keyframes: smooth through every key, and feet that stand in two keys stand between them.

    Args:
        keys: A .bvh, .glb or AMASS .npz whose frames are the keys.
        times: The seconds of every key, such as 0,0.4,1.2; by default the file's own.
        fps: Frames per second of the result.
        sliding: Do not hold feet.
    """
    from framefill.pose import results, tween

    if who.shape or who.gender != OWN.gender or (who.character and keys.suffix.lower() != ".npz"):
        raise BadInput(f"{keys} says whose pose it is; leave --character, --shape and --gender away")
    character = _in_take(keys, who) if keys.suffix.lower() == ".npz" else _character_of(keys)
    out.check(character)
    found = results.motion_of(keys, character)
    if set(found.skeleton.names) == set(character.rig.skeleton.names):  # a .bvh has its joints limb by limb
        found = found.ordered(character.rig.skeleton)
    moments = numbers(times, "--times") or [frame * found.seconds for frame in range(len(found))]
    if not out.as_json and out.output is None:
        raise BadInput("between makes a file; give -o with a name that ends in .bvh, .glb, .npz or .json")
    made = tween.between(found, moments, fps, feet=not sliding)
    out.tell(character, made, {"frames": len(made)})


def _in_take(path: Path, who: Who) -> "Character":
    """Whoever is in an AMASS .npz: its shape on framefill's own body, or on the one that --character names."""
    from framefill.pose import characters
    from framefill.pose.files import amass
    from framefill.pose.human import human

    take = amass.read(path)
    body = who.load().body if who.character else human(take.gender)
    if body is None:
        raise BadInput(f"{who.character} has no shape, which {path} gives; leave --character out, or give an SMPL body")
    return characters.wearing(body, take.shape.tolist(), take.gender)


def _character_of(path: Path) -> "Character":
    """Whoever is in the file; framefill's own body, in its shape, if its bones are that body's."""
    from dataclasses import replace

    from framefill.pose import characters

    found = characters.load(path)
    own = characters.own(found.rig.skeleton)
    return replace(own, file=found.file) if own else found


def evaluate(
    clips: File,
    *,
    poses: int = 300,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False,
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False,
) -> None:
    """How well held-out poses come back from six places, by the protocol of docs/pose.md.

    Args:
        clips: DeepMimic's clips in one .npz: an array (T, 44) for each.
        poses: How many held-out poses, evenly over all.
        output: A .csv or .json of the table.
        overwrite: Replace a result that is already there.
        as_json: Print one JSON object.
    """
    from framefill.atomic import replacing
    from framefill.pose import deepmimic, protocol

    _free(output, overwrite, (".csv", ".json"))
    case = protocol.Case.of(deepmimic.Clips(clips), poses=poses)
    table = {name: round(value, 4) for name, value in protocol.table(case, *protocol.run(case)).items()}
    if output is not None:
        with replacing(output) as part, part.open("w", newline="") as file:
            if output.suffix == ".csv":
                csv.writer(file).writerows([table.keys(), table.values()])
            else:
                file.write(json.dumps(table) + "\n")
    print(json.dumps(table) if as_json else "\n".join(f"{name:18s} {value:10.3f}" for name, value in table.items()))


def _free(path: Path | None, overwrite: bool, suffixes: tuple[str, ...]) -> None:
    if path is None:
        return
    if path.suffix not in suffixes:
        raise BadInput(f"{path}: this verb writes {', '.join(suffixes)}; choose a name that ends so")
    if path.exists() and not overwrite:
        raise BadInput(f"{path} is already there; give --overwrite to replace it, or choose another name")


VERBS: dict[str, Any] = {
    "recover": recover, "retarget": retarget, "fit-shape": fit_shape, "between": between, "evaluate": evaluate,
}  # fmt: skip
