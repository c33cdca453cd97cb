"""What can be done in the studio, without a browser: every command makes a new state, and undo goes back to the old.

A drag is many small changes and one step of undo: changes of one gesture replace each other. While a gesture lasts, the
solver goes on from the pose before by few steps, so that the body follows the hand without jumps; when it is over, the
handles are met to the end. The pose is part of the state: undo brings back the very pose that was seen.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from framefill.errors import BadInput
from framefill.pose import characters, kinematics, plausible, tween
from framefill.pose.body import COMPONENTS, GENDERS
from framefill.pose.characters import Character
from framefill.pose.effectors import Effector, Place, Turn
from framefill.pose.human import human
from framefill.pose.motion import Motion
from framefill.pose.recover import Recovered
from framefill.pose.retarget import Rig
from framefill.pose.retarget import retarget as put
from framefill.pose.skeleton import Skeleton
from framefill.pose.solve import Solution, solve
from framefill.pose.studio.questions import Question
from framefill.pose.studio.state import KINDS, Grip, Key, Kind, State, Three
from framefill.pose.turning import logarithm

FEW, ENOUGH = 10, 80  # solver steps while a gesture lasts, and after it
DEEPEST = 200  # steps of undo that are kept
MOST_KEYS = 100
LONGEST = 600.0  # seconds of a time line
AHEAD = 1.0  # metres in front of a joint where what it looks at begins
LIFTED = 0.2  # metres by which standing feet may move unsaid
WIDEST = 3.0  # standard deviations of shape
HOLDS = ("pelvis", "head", "left_wrist", "right_wrist", "left_ankle", "right_ankle")  # of a pose from elsewhere


class Session:
    """A character and the work on it. A command that cannot be done raises BadInput and changes nothing."""

    def __init__(self, character: Character):
        self.character = character
        self._past: list[State] = []
        self._future: list[State] = []
        self._gesture: str | None = None
        self.found: Solution | None = None  # the last solve, of the state as it is; else None
        self.state = _resting(character)

    def load(self, character: Character) -> None:
        """Another character, at rest, without handles and keys; undo brings back the one before with its own.

        Raises BadInput for one that cannot be posed.
        """
        _ = character.manner  # refused before anything is changed, and not at its first handle
        self._keep(replace(_resting(character), standing=self.state.standing))
        self.character = character

    # The pose as it is

    def world(self) -> tuple[Tensor, Tensor]:
        """World positions (J, 3) and global rotations (J, 3, 3)."""
        return kinematics.forward(self.character.rig.skeleton, self.state.local, self.state.root)

    def warnings(self) -> list[str]:
        """A line for every handle that is clearly missed, and for feet that had to leave the ground they stood on."""
        if self.found is None:
            return []
        asked = len(self.state.grips)
        lines = self.found.report(only=asked)
        stood, moved = characters.lifted(self.found, asked)
        if moved > LIFTED:
            lines.append(f"{stood} had to move by {1000 * moved:.0f} mm to meet the handles; or let the feet go")
        return lines

    def effectors(self, state: State) -> list[Effector]:
        """What the solver is told: the handles, and the feet if they shall stand and nobody holds the legs."""
        wanted = [grip.effector() for grip in state.grips]
        return self.character.standing(wanted) if state.standing and wanted else wanted

    # Handles

    def add(self, word: str, kind: Kind = "position") -> str:
        """A handle where the joint is now (pinned), as it is turned, or what it looks at; the handle's name."""
        if kind not in KINDS:
            raise BadInput(f"a handle of kind {kind!r}; choose {', '.join(KINDS)}")
        joint = self.character.joint(word)
        index = self.character.rig.skeleton.index(joint)
        positions, turned = self.world()
        if kind == "rotation":
            target = _three(logarithm(turned[index].numpy()))
        else:
            target = _three(positions[index] + (AHEAD * turned[index][:, 2] if kind == "look-at" else 0))
        grip = Grip(joint, kind, target)
        self._keep(self.state.gripping(grip))
        return grip.key

    def move(self, key: str, target: Three, *, gesture: str | None = None) -> None:
        """Puts a handle elsewhere, and the body after it. `gesture`: a drag that goes on until `settle`."""
        grip = replace(self.state.grip(key), target=_three(target))
        self._solve(self.state.gripping(grip), gesture)

    def settle(self) -> None:
        """The end of a gesture: handles are met as exactly as they can be."""
        if self._gesture is not None:
            self._solve(self.state, self._gesture)
            self._gesture = None

    def tolerate(self, key: str, tolerance: float, *, gesture: str | None = None) -> None:
        """How far a handle may be missed: metres or radians; 0 pins it."""
        self._solve(self.state.gripping(replace(self.state.grip(key), tolerance=tolerance)), gesture)

    def sight(self, word: str, origin: Three, direction: Three, tolerance: float = 0.0) -> str:
        """A place on a line of sight (a point of a picture), as deep as the joint is now; the handle's name."""
        joint = self.character.joint(word)
        here = self.world()[0][self.character.rig.skeleton.index(joint)].numpy()
        start, along = np.array(_three(origin)), np.array(_three(direction))
        if not (length := float(along @ along)):
            raise BadInput("a line of sight without direction; give three numbers that are not all zero")
        grip = Grip(joint, "position", _three(start + ((here - start) @ along / length) * along), tolerance)
        self._solve(self.state.gripping(grip))
        return grip.key

    def remove(self, key: str) -> None:
        """Lets a handle go; the pose stays until another handle moves."""
        self._keep(self.state.letting_go(key))

    def clear(self) -> None:
        """No handles."""
        self._keep(replace(self.state, grips=()))

    def stand(self, standing: bool) -> None:
        """Whether feet stay where they are as long as no handle is on pelvis, legs or feet."""
        self._solve(replace(self.state, standing=standing))

    # The body

    def wear(self, shape: Sequence[float], gender: str, *, gesture: str | None = None) -> None:
        """The same handles on a body of another shape (up to ten numbers) or gender."""
        numbers = tuple(float(value) for value in shape)
        if self.character.body is None:
            raise BadInput("this skeleton has no shape to choose; shapes are of framefill's and SMPL's bodies")
        if gender not in GENDERS or any(not -WIDEST <= value <= WIDEST for value in numbers):
            raise BadInput(f"a body {gender!r} of shape {numbers}; give {', '.join(GENDERS)} and numbers of -3 to 3")
        before, standing = self.character, self.character.stands[self.character.rig.skeleton.root]
        self.character = self._worn(replace(self.state, shape=numbers, gender=gender))
        risen = self.character.stands[self.character.rig.skeleton.root] - standing
        state = replace(self.state, shape=numbers, gender=gender, root=self.state.root + risen)
        try:
            self._solve(state, gesture)
        except BadInput:
            self.character = before
            raise

    # What the handles leave open

    def other_poses(self, count: int = 4, seed: int = 0) -> Question:
        """The question which poses meet the same handles, which takes seconds; `take` takes one of its answers."""
        self._need_handles()
        skeleton, manner = self.character.rig.skeleton, self.character.manner
        return Question("several", (skeleton, self.effectors(self.state), manner, count, seed))

    def take(self, local: Tensor, root: Tensor) -> None:
        """Another pose of the same handles. Raises BadInput for one of another skeleton."""
        Motion(self.character.rig.skeleton, local[None], root[None])  # refuses what does not fit
        self._keep(replace(self.state, local=local, root=root))

    def uncertainty(self) -> Tensor:
        """Metres (J,): how far each joint may be elsewhere with these handles."""
        self._need_handles()
        found = self.found or self._tried(self.state, 1)
        return plausible.uncertainty(self.character.rig.skeleton, found, self.character.manner)

    def next_handle(self) -> str:
        """The joint of which the least is known and that has no place yet: where one more handle tells the most."""
        held = {grip.joint for grip in self.state.grips if grip.kind == "position"}
        spread = self.uncertainty().tolist()
        names = self.character.rig.skeleton.names
        return max((known, name) for known, name in zip(spread, names, strict=True) if name not in held)[1]

    def telling_handles(self, most: int = 6, enough: float = 20.0) -> Question:
        """The question which few handles tell this pose, which takes seconds; `hold` takes its answer."""
        pose = self.state.local, self.state.root
        return Question("telling", (self.character.rig.skeleton, pose, self.character.manner, most, enough))

    def hold(self, told: Recovered) -> None:
        """Exchanges the handles for those recovered; the pose stays."""
        grips = tuple(_grip(effector) for effector in told.handles)
        self._keep(replace(self.state, grips=grips, standing=False))

    # Time

    def key(self, seconds: float) -> None:
        """Keeps the pose at a time; a key that is there already is replaced."""
        if not 0 <= seconds <= LONGEST:
            raise BadInput(f"a key at {seconds} s; give 0 to {LONGEST:g}")
        state = self.state.keyed(round(float(seconds), 3))
        if len(state.keys) > MOST_KEYS:
            raise BadInput(f"{len(state.keys)} keys; keep at most {MOST_KEYS}")
        self._keep(state)

    def unkey(self, seconds: float) -> None:
        """Forgets the key nearest to a time."""
        keys = self.state.keys
        if not keys:
            raise BadInput("there is no key to delete; keep one first")
        nearest = min(keys, key=lambda key: abs(key.seconds - seconds))
        self._keep(replace(self.state, keys=tuple(key for key in keys if key is not nearest)))

    def motion(self, rate: float = 30.0) -> Motion:
        """The keys and what is between them; without two keys the pose alone, as one frame."""
        keys, skeleton = self.state.keys, self.character.rig.skeleton
        if len(keys) < 2:
            return Motion(skeleton, self.state.local[None], self.state.root[None], 1 / rate)
        return tweened(skeleton, keys, rate)

    def show(self, seconds: float) -> None:
        """Goes to a time: the pose of the key there with its handles, or the pose in between without any."""
        here = next((key for key in self.state.keys if abs(key.seconds - seconds) < 1e-6), None)
        if here is not None:
            self._keep(replace(self.state, local=here.local, root=here.root, grips=here.grips))
        elif len(self.state.keys) > 1:
            motion, first = self.motion(), self.state.keys[0].seconds
            frame = round(min(max((seconds - first) / motion.seconds, 0), len(motion) - 1))
            self._keep(replace(self.state, local=motion.local[frame], root=motion.root[frame], grips=()))

    def bring(self, motion: Motion) -> None:
        """Takes over a motion of this or another skeleton: its first frame is the pose, its frames are keys."""
        skeleton = self.character.rig.skeleton
        if not motion.skeleton.same(skeleton):
            motion = put(motion, Rig.of(motion.skeleton), self.character.rig)
        local, root = motion.local.double(), motion.root.double()
        step = -(-len(motion) // MOST_KEYS)
        several = range(0, len(motion), step) if len(motion) > 1 else ()
        keys = tuple(Key(round(f * motion.seconds, 3), local[f], root[f]) for f in several)
        self._keep(replace(self.state, local=local[0], root=root[0], grips=(), keys=keys))

    def pose_as(self, motion: Motion) -> None:
        """Takes over the first frame of a motion of this very skeleton, held at pelvis, head, wrists and ankles."""
        local, root = motion.local[0].double(), motion.root[0].double()
        skeleton, roles = self.character.rig.skeleton, self.character.rig.roles
        places = kinematics.forward(skeleton, local, root)[0]
        joints = dict.fromkeys(roles[role] for role in HOLDS if role in roles)  # a role may share its joint
        grips = tuple(Grip(skeleton.names[joint], "position", _three(places[joint])) for joint in joints)
        self._keep(replace(self.state, local=local, root=root, grips=grips))

    def become(self, state: State) -> None:
        """Takes over a whole state, as from a file. Raises BadInput for a pose of another number of joints."""
        poses = [(state.local, state.root), *((key.local, key.root) for key in state.keys)]
        for local, root in poses:
            Motion(self.character.rig.skeleton, local[None], root[None])  # refuses what does not fit
        for grip in (*state.grips, *(grip for key in state.keys for grip in key.grips)):
            self.character.rig.skeleton.index(grip.joint)
            grip.effector()
        character = self._worn(state)
        self._keep(state)
        self.character = character

    # Back and forth

    def undo(self) -> bool:
        """Back by one change; False where there is none."""
        return self._travel(self._past, self._future)

    def redo(self) -> bool:
        """Forth again by one; False where there is none."""
        return self._travel(self._future, self._past)

    def _travel(self, source: list[State], other: list[State]) -> bool:
        if not source:
            return False
        other.append(self.state)
        state = source.pop()
        self.character = self._worn(state)
        self.state, self._gesture, self.found = state, None, None
        return True

    def _keep(self, state: State, gesture: str | None = None) -> None:
        if gesture is None or gesture != self._gesture:
            self._past = [*self._past[1 - DEEPEST :], self.state]
        self._future.clear()
        self.state, self._gesture, self.found = state, gesture, None

    def _solve(self, state: State, gesture: str | None = None) -> None:
        """Keeps a state with the pose that its handles give."""
        ending = state is self.state
        if not state.grips:
            self._keep(state, gesture)
            return
        found = self._tried(state, FEW if gesture and not ending else ENOUGH)
        self._keep(replace(state, local=found.local[0], root=found.root[0]), gesture)
        self.found = found

    def _tried(self, state: State, steps: int) -> Solution:
        manner = self.character.manner
        return solve(
            self.character.rig.skeleton,
            self.effectors(state),
            limits=manner.limits,
            habit=manner.habit,
            start=(state.local, state.root),
            steps=steps,
        )

    def _worn(self, state: State) -> Character:
        """The character of a state in its shape."""
        given, worn = state.given, self.character
        if given.body is None:
            return given
        if given is self.state.given and (state.shape, state.gender) == (worn.shape, worn.gender):
            return worn
        own = given.body is human(given.gender)
        return characters.wearing(human(state.gender) if own else given.body, state.shape, state.gender)

    def _need_handles(self) -> None:
        if not self.state.grips:
            raise BadInput("there is no handle yet; add one first")


def _resting(character: Character) -> State:
    """Where a character begins."""
    rest = torch.eye(3).double().repeat(len(character.rig.skeleton), 1, 1)
    root = character.stands[character.rig.skeleton.root].double().clone()
    return State(character, rest, root, shape=character.shape, gender=character.gender)


def _three(values: Sequence[float] | Tensor | np.ndarray) -> Three:
    x, y, z = (float(value) for value in values)
    if not all(map(math.isfinite, (x, y, z))):
        raise BadInput(f"a target of {(x, y, z)}; give three finite numbers")
    return x, y, z


def _grip(effector: Effector) -> Grip:
    if isinstance(effector, Turn):
        return Grip(effector.joint, "rotation", _three(logarithm(effector.target.numpy())), effector.tolerance)
    kind: Kind = "position" if isinstance(effector, Place) else "look-at"
    return Grip(effector.joint, kind, _three(effector.target), effector.tolerance)


def tweened(skeleton: Skeleton, keys: Sequence[Key], rate: float) -> Motion:
    """Two keys or more, and what is between them."""
    local, root = torch.stack([key.local for key in keys]), torch.stack([key.root for key in keys])
    return tween.between(Motion(skeleton, local, root), [key.seconds for key in keys], rate)


def shapes(session: Session) -> int:
    """How many numbers of shape the character has: 0 for a skeleton."""
    body = session.character.body
    return 0 if body is None else min(COMPONENTS, body.joint_shapes.shape[-1])
