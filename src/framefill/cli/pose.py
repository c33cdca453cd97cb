"""The verbs of `framefill pose`, and what they can be told; the work is in `framefill.pose`."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from framefill.errors import BadInput

if TYPE_CHECKING:
    from framefill.pose.characters import Character
    from framefill.pose.effectors import Effector
    from framefill.pose.motion import Motion
    from framefill.pose.solve import Solution


@dataclass(frozen=True)
class Who:
    """Whose pose it is."""

    character: Annotated[Path | None, tyro.conf.arg(aliases=["-c"])] = None
    """A .bvh or .glb skeleton, SMPL's .pkl or .npz, or the word anny; by default framefill's own body."""
    shape: str = ""
    """Up to ten numbers, such as 1,0,-0.5: the body's shape in standard deviations."""
    gender: Literal["neutral", "female", "male"] = "neutral"
    """Which body."""

    def load(self) -> "Character":
        """The character."""
        from framefill.pose import anny, characters

        if self.character == Path(anny.NAME) and not anny.is_made(self.gender):
            print("Anny's body is made from the package's data; once, in some minutes", file=sys.stderr)
        return characters.load(self.character, numbers(self.shape, "--shape"), self.gender)


@dataclass(frozen=True)
class Out:
    """Where results go."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """A file: .bvh, .glb, .npz (AMASS's layout), .json, or .png (a picture from two sides)."""
    overwrite: Annotated[bool, tyro.conf.arg(aliases=["-y"])] = False
    """Replace a result that is already there."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object."""

    def tell(self, character: "Character", motion: "Motion", about: dict[str, Any], handles: Any = ()) -> None:
        """Writes the motion where it is wanted and prints what was found."""
        from framefill.pose import results

        if self.output is not None:
            results.write(self.output, character, motion, handles)
            about = about | {"output": str(self.output)}
        if self.as_json:
            print(json.dumps(about | results.described(motion)))
        elif self.output is not None:
            print(self.output)

    def check(self, character: "Character") -> None:
        """BadInput before any work is done for what cannot be written."""
        from framefill.pose import results

        results.check(self.output, character, replace=self.overwrite)


ABOUT = "The whole body from a few handles, on anyone's character. Metres, radians, y up."
LARGEST = 2**26  # bytes of a file of keypoints
LIFTED = 0.2  # metres by which feet that nobody asked for may move
Whose = Annotated[Who, tyro.conf.arg(name="")]
To = Annotated[Out, tyro.conf.arg(name="")]
OWN, NOWHERE = Who(), Out()


def numbers(text: str, option: str) -> list[float]:
    """Numbers as a user writes them, parted by commas."""
    try:
        return [float(word) for word in text.split(",")] if text.strip() else []
    except ValueError as error:
        raise BadInput(
            f"cannot read {option} {text[:60]!r}; write numbers parted by commas, such as 1,0,-0.5"
        ) from error


def solve(
    *,
    effector: Annotated[tyro.conf.UseAppendAction[tuple[str, ...]], tyro.conf.arg(aliases=["-e"])] = (),
    handles: Annotated[Path | None, tyro.conf.arg(metavar="CSV")] = None,
    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 1,
    seed: int = 0,
    floating: bool = False,
    nearest: bool = False,
    steady: float = 0.0,
    model: Path | None = None,
    who: Whose = OWN,
    out: To = NOWHERE,
) -> None:
    """The whole pose from a few handles.

    Args:
        effector: A handle, as often as you like: JOINT=X,Y,Z in metres, y up; JOINT:rotation=X,Y,Z (axis times angle,
            in the world since rest); JOINT:look-at=X,Y,Z; JOINT=pin; ~TOLERANCE behind it; several targets, parted by
            semicolons, make as many poses.
        handles: A table of handles: kind,joint,x,y,z,axis_x,axis_y,axis_z,tolerance.
        samples: How many poses that are different and plausible to give, the likeliest first.
        seed: Same seed, same samples.
        floating: Let the feet go; otherwise they stand unless a handle is on pelvis, legs or feet.
        nearest: Take the nearest pose where handles cannot be met, instead of refusing.
        steady: The poses are frames of a motion: average each over about so many before and behind it, such as 1.5.
        model: A network that `framefill train pose` made; its proposal is refined. None ships (docs/pose.md says why).
    """
    character = who.load()
    out.check(character)
    wanted = _handles(character, effector, handles)
    told = wanted if floating else character.standing(wanted)
    if (steady or model) and samples != 1:
        raise BadInput("samples are no motion, and come from the habit; give --samples without --steady and --model")
    if model:
        found = _proposed(character, told, model)
    else:
        found = _several(character, told, samples, seed) if samples != 1 else character.solve(told)
    _judge(found, len(wanted), nearest)
    if note := character.note():
        print(note, file=sys.stderr)
    if steady:
        found = _steadied(character, [found], steady)[0]
    from framefill.pose import results
    from framefill.pose.effectors import Place

    misses = [results.missed(found, sample) for sample in range(len(found.root))]
    about: dict[str, Any] = {"handles": [rows[: len(wanted)] for rows in misses], "steps": found.steps}
    if out.as_json:
        about["uncertainty"] = _uncertainty(character, found)
    if not out.as_json and out.output is None:
        _table(character, found)
    out.tell(character, character.motion(found), about, [e.target for e in wanted if isinstance(e, Place)])


def _several(character: "Character", told: "list[Effector]", samples: int, seed: int) -> "Solution":
    import numpy as np

    from framefill.pose import plausible

    if seed < 0:
        raise BadInput(f"a seed of {seed}; give 0 or more")
    rng = np.random.default_rng(seed)
    return plausible.several(character.rig.skeleton, told, character.manner, samples, rng)


def _proposed(character: "Character", told: "list[Effector]", model: Path) -> "Solution":
    import framefill
    from framefill.pose.proposal import Poser

    if character.body is None:
        raise BadInput("a network knows framefill's and SMPL's bodies; leave --model or --character out")
    poser = framefill.load(model)
    if not isinstance(poser, Poser):
        raise BadInput(f"{model} is no network for poses; give what framefill train pose made")
    skeleton, manner = character.rig.skeleton, character.manner
    return poser.solve(skeleton, told, manner, shape=character.shape, gender=character.gender)


def _steadied(character: "Character", found: "list[Solution]", frames: float) -> "list[Solution]":
    """Poses, one after the other frames of a motion, without their tremble."""
    import torch

    from framefill.pose import steady

    skeleton, sizes = character.rig.skeleton, [len(one.root) for one in found]
    local, root = torch.cat([one.local for one in found]), torch.cat([one.root for one in found])
    local, root = steady.averaged(local, root, frames)
    parts = zip(found, local.split(sizes), root.split(sizes), strict=True)
    return [steady.held(skeleton, one.effectors, turns, place, character.manner.limits) for one, turns, place in parts]


def _uncertainty(character: "Character", found: "Solution") -> dict[str, float]:
    """Metres by which each joint of the first pose may be elsewhere (one standard deviation)."""
    from framefill.pose import plausible

    skeleton = character.rig.skeleton
    spread = plausible.uncertainty(skeleton, found, character.manner).tolist()
    return {name: round(value, 5) for name, value in zip(skeleton.names, spread, strict=True)}


def keypoints(
    points: Annotated[Path, tyro.conf.Positional],
    *,
    layout: Literal["coco", "mediapipe", "h36m", "smpl"] = "coco",
    tolerance: float = 0.02,
    resize: bool = False,
    steady: float = 0.0,
    who: Whose = OWN,
    out: To = NOWHERE,
) -> None:
    """Poses from keypoints in space or in a picture, as estimators give them; points may be missing.

    Args:
        points: A .json: [[x, y, z], ...] in metres, y up, or [[x, y], ...] in pixels, y down, null for a missing
            point; or a list of such, a pose each. Of pixels the camera is taken as far away and level, and depth as
            what bones and habit make likely.
        layout: Whose order the points are in.
        tolerance: By how much handles may give way, in metres.
        resize: First bring the points to the character's size by the lengths of limbs.
        steady: The poses are frames of a motion: average each over about so many before and behind it, such as 1.5.
    """
    from framefill.pose import flat
    from framefill.pose import keypoints as known

    character = who.load()
    out.check(character)
    found = []
    for person in known.read(_json(points)):
        seen = known.named(person, layout)
        in_picture = person.shape[1] == 2
        if in_picture:
            seen = flat.lifted(seen, character)
        elif resize:
            size = known.scale(seen, character)
            seen = {name: size * point for name, point in seen.items()}
        depth = flat.OPEN if in_picture else 0.0
        found.append(character.solve(known.handles(seen, character, tolerance, depth=depth)))
    _tell_poses(character, _steadied(character, found, steady) if steady else found, out)


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"{path} is longer than {LARGEST} bytes; give fewer poses at once")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path} is no JSON ({' '.join(str(error).split())[:80]}); give a list of [x, y, z]") from error


def _tell_poses(character: "Character", found: "list[Solution]", out: Out) -> None:
    """One motion of poses that were solved one by one."""
    import torch

    from framefill.pose.motion import Motion

    local, root = torch.cat([one.local for one in found]), torch.cat([one.root for one in found])
    worst = [round(1000 * one.misses.max().item(), 1) for one in found]
    if not out.as_json and out.output is None:
        _table(character, found[0])
    out.tell(character, Motion(character.rig.skeleton, local, root), {"worst_mm": worst})


def _handles(character: "Character", words: tuple[str, ...], table: Path | None) -> "list[Effector]":
    from dataclasses import replace

    from framefill.pose import wishes
    from framefill.pose.files import handles

    found = [wishes.read(text, character.joint, character.rest) for text in words]
    if table is not None:
        found += [replace(handle, joint=character.joint(handle.joint)) for handle in handles.read(table)]
    if not found:
        raise BadInput("no handle is given; give --effector left_wrist=0.4,1.1,0.2, or --handles FILE.csv")
    return found


def _judge(found: "Solution", asked: int, nearest: bool) -> None:
    """What cannot be met is refused, with how far it got; or only told."""
    from framefill.pose.characters import lifted

    lines = []
    for sample in range(len(found.root)):
        where = f"pose {sample + 1}: " if len(found.root) > 1 else ""
        lines += [where + line for line in found.report(sample, only=asked)]
        stood, moved = lifted(found, asked, sample)
        if moved > LIFTED:
            lines.append(f"{where}{stood} would move by {1000 * moved:.0f} mm to meet the handles; or give --floating")
    if lines and not nearest:
        more = f" (and {len(lines) - 3} more)" if len(lines) > 3 else ""
        raise BadInput("; ".join(lines[:3]) + more + "; or give --nearest to take the nearest pose")
    for line in lines[:10]:
        print(f"framefill: {line}", file=sys.stderr)


def _table(character: "Character", found: "Solution") -> None:
    """Where every joint of the first pose is, for people."""
    print(f"{'joint':24s} {'x':>8s} {'y':>8s} {'z':>8s}  metres")
    for name, place in zip(character.rig.skeleton.names, found.positions[0].tolist(), strict=True):
        print(f"{name:24s} " + " ".join(f"{value:8.3f}" for value in place))


def verbs() -> dict[str, Any]:
    """The verbs by name."""
    from framefill.cli import pose_image, poses, studio

    named = {"solve": solve, "keypoints": keypoints, "from-image": pose_image.from_image}
    return named | poses.VERBS | {"studio": studio.studio}


def pose() -> None:
    """The whole body from a few handles: solve, recover, retarget and more; see `framefill pose --help`."""
