"""ProtoRes on framefill's body, or SMPL's: a pose from any handles, learned from motion (thesis 001, section 5.6.1).

    loss = 100 place + turns + global turn + look      (over the handles that were given; facts 001, section 3.2)

Each is a mean weighted as handles weigh, but `turns`, over all joints alike. Angles are atan2 of sine and cosine: the
published arccos has an infinite gradient where two rotations agree. Published, the draft places are supervised by
nothing, and joints without a handle by their turns alone; `drafts` and `everywhere` weigh what these presets add.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.nets.protores import LOOK_AT, POSITION, ROTATION, Handles, ProtoRes
from framefill.pose import handling, kinematics, picture, rotations
from framefill.pose.body import COMPONENTS, GENDERS
from framefill.pose.human import human
from framefill.pose.practice import JOINTS, Poses
from framefill.pose.proposal import Poser
from framefill.recipes.pictures import Tell

PLACE = 100.0
SHOWN = 6


@dataclass(frozen=True)
class Pose:
    """Every hyperparameter; the defaults are the published ones (facts 001, section 3).

    `varied`: poses are mirrored, mixed and moved, and head along z (`practice`), instead of being turned about the
    vertical by any angle. `turns` weighs the local turns of all joints, `drafts` the squared error of the draft places,
    `everywhere` the distance of all joints from where they are.
    """

    # network
    width: int = 1024
    blocks: int = 3
    layers: int = 3
    embedding: int = 32
    dropout: float = 0.01
    # data and losses
    varied: bool = False
    turns: float = 1.0
    drafts: float = 0.0
    everywhere: float = 0.0
    # training
    batch_size: int = 2048
    learning_rate: float = 2e-4
    warmup: int = 0
    cooldown: float = 0.0
    ema: float = 0.0
    clip: float = 1e9  # none
    steps: int = 500_000

    def model(self) -> ProtoRes:
        """The network, freshly initialised."""
        return ProtoRes(
            width=self.width, blocks=self.blocks, layers=self.layers, embedding=self.embedding, dropout=self.dropout
        )

    def suited(self, data: str | Path) -> Self:
        """The recipe for `data`: this one, every clip is put on the same body."""
        return self

    def source(self, data: str | Path, split: str, *, cache: Path | None = None, progress: Tell | None = None) -> Poses:
        """Poses of clips: "train", or of "val" those that are never trained on (AMASS: to validate), as they are."""
        del cache, progress  # some seconds of work, for each run anew
        part = "validation" if split == "val" else split
        return Poses.open(Path(data), part, varied=self.varied and split == "train")

    def about(self, source: Any) -> dict[str, Any]:
        """What must be known of the data to use the model: nothing."""
        return {}

    def batch(self, source: Poses, seeds: Sequence[int]) -> Tensor:
        """Poses (B, 24 * 9 + 10 + 1): local rotations, shape, gender; one row per seed."""
        local, shape, gender = source.rows(seeds)
        return torch.cat([local.flatten(1), shape, gender[:, None].float()], 1)

    def loss(self, model: ProtoRes, batch: Tensor, rng: Rng) -> Tensor:
        """The training loss per pose (B,)."""
        with torch.autocast(batch.device.type, enabled=False):  # bfloat16 rounds a metre to 4 mm
            return self._loss(model, batch, rng)

    def _loss(self, model: ProtoRes, batch: Tensor, rng: Rng) -> Tensor:
        local, shape, gender = unpacked(batch)
        offsets = _offsets(shape, gender)
        tree = human().tree
        positions, turned = kinematics.forward(tree, local, torch.zeros_like(shape[:, :3]), offsets=offsets)
        handles = handling.draw(positions, turned, rng)
        drafts, six = model(handles, shape, gender)
        made = rotations.from_six(six)
        reached = kinematics.forward(tree, made, drafts[:, 0], offsets=offsets)
        loss = PLACE * place_loss(handles, reached[0]) + turn_loss(handles, reached[1]) + look_loss(handles, *reached)
        loss = loss + self.turns * rotations.angle(made, local).mean(1)
        loss = loss + self.drafts * (drafts - positions).square().mean((1, 2))
        return loss + self.everywhere * rotations.length(reached[0] - positions).mean(1)

    def product(self, model: ProtoRes, *, card: Any = None, device: str = "cpu") -> Poser:
        """The trained network with what it is for."""
        return Poser(model.to("cpu"), card=card)

    def sheet(self, product: Poser, source: Poses) -> Image.Image:
        """Held-out poses above, and below what the network makes of some handles of theirs."""
        local, shape, gender = source.rows(range(SHOWN))
        tree = human().tree
        offsets = _offsets(shape, gender)
        positions, turned = kinematics.forward(tree, local, torch.zeros(SHOWN, 3), offsets=offsets)
        handles = handling.draw(positions, turned, Rng(range(SHOWN)))
        drafts, six = product.network(handles, shape, gender)
        made, _ = kinematics.forward(tree, rotations.from_six(six), drafts[:, 0], offsets=offsets)
        above, below = (picture.draw(tree, places) for places in (positions, made))
        whole = Image.new("RGB", (above.width, above.height + below.height))
        whole.paste(above, (0, 0))
        whole.paste(below, (0, above.height))
        return whole


def unpacked(batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Local rotations (B, 24, 3, 3), shape (B, 10) and gender int64 (B,) of a batch."""
    local, shape, gender = batch.split([9 * JOINTS, COMPONENTS, 1], 1)
    return local.unflatten(1, (JOINTS, 3, 3)), shape, gender[:, 0].round().long()


def weighted(handles: Handles, kind: int, values: Tensor) -> Tensor:
    """The mean (B,) of values (B, E) over handles of a kind, as these weigh; 0 without any."""
    weight = handles.weight * (handles.kind == kind)
    return (weight * values).sum(1) / weight.sum(1).clamp_min(1e-6)


def place_loss(handles: Handles, positions: Tensor) -> Tensor:
    """Weighted mean square (B,) of what places are missed by, per coordinate, in square metres."""
    missed = _of(positions, handles) - handles.values[..., :3]
    return weighted(handles, POSITION, missed.square().mean(-1))


def turn_loss(handles: Handles, turned: Tensor) -> Tensor:
    """Weighted mean angle (B,) of global rotations to the handles', in radians."""
    return weighted(handles, ROTATION, rotations.angle(_of(turned, handles), rotations.from_six(handles.values)))


def look_loss(handles: Handles, positions: Tensor, turned: Tensor) -> Tensor:
    """Weighted mean angle (B,) between where joints look and where their targets are, in radians."""
    sight = (_of(turned, handles) @ handles.values[..., 3:, None])[..., 0]
    goal = handles.values[..., :3] - _of(positions, handles)
    apart = rotations.length(torch.linalg.cross(sight, goal))
    return weighted(handles, LOOK_AT, torch.atan2(apart, (sight * goal).sum(-1)))


def _of(values: Tensor, handles: Handles) -> Tensor:
    """What (B, J, ...) says of the handles' joints (B, E, ...)."""
    return values[torch.arange(len(values), device=values.device)[:, None], handles.joint]


def _offsets(shape: Tensor, gender: Tensor) -> Tensor:
    """Bones (B, 24, 3) of bodies of these shapes and genders."""
    bodies = torch.stack([human(name).offsets(shape.cpu()) for name in GENDERS], 1).to(shape)
    return bodies[torch.arange(len(shape), device=shape.device), gender]


# Ours: 0.9 MB as 16-bit floats, milliseconds a pose.
TINY = Pose(
    width=96, embedding=16, dropout=0.0, varied=True, turns=5.0, drafts=30.0, everywhere=10.0,
    batch_size=128, learning_rate=2e-3,
    warmup=100, cooldown=0.5, ema=0.998, clip=10.0, steps=10_000,
)  # fmt: skip

CLIPS = "clips of motion: an .npz of DeepMimic's, or a folder of such, .bvh, .amc, AMASS"
# name -> (recipe, data, the paper's score: table 5.1 on AMASS, random handles)
PRESETS: dict[str, tuple[Pose, str, str | None]] = {
    "smpl-ik": (Pose(), CLIPS, "MPJPE 59.3 mm (AMASS)"),
    "tiny": (TINY, CLIPS, None),
}  # fmt: skip
