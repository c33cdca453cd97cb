"""Multi-resolution continuous flows (MRCNF, thesis 001, chapter 4): the likelihood of pictures, scale by scale.

Every scale has a flow of its own, so they can be learnt jointly, one by one in processes of their own (`scale`, then
`FlowModel.together`), or by growing: a run that follows one of half the size takes over its scales and, with `grown`,
learns the finest one only (section 4.6.2). With `matching` the loss is flow matching, which needs no solver; a run that
follows such a one polishes it by likelihood.

Paper: the released program adds noise at every scale, which is no likelihood, and two of its loss's names are not
defined (facts, sections 2.3 and 2.4). Here pictures are dequantised once, at their own size. Steps whose gradient is
not finite are left out; the published program leaves out those of a norm above 500 too.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from framefill.arrays import Rng
from framefill.density import dequantise
from framefill.errors import BadInput
from framefill.flows.cnf import CNF
from framefill.flows.flow import JACOBIAN, KINETIC, Flow
from framefill.flows.multires import SCALES, MultiRes
from framefill.flows.ode import Solver
from framefill.nets.fields import PUBLISHED, mrcnf
from framefill.recipes.pictures import OfPictures
from framefill.video.images.flow_model import WIDTH, FlowModel, averaged
from framefill.video.sheet import contact_sheet


@dataclass(frozen=True)
class MRCNF(OfPictures):
    """Every hyperparameter; the defaults are the thesis' smaller two-scale model of CIFAR-10 (facts, section 2.2).

    `kind` is the pyramid, "unimodular" or "haar" (the ablation of Table 4.4). `scale` names the only scale to be
    learnt, 1 for the coarsest; 0 learns all of them jointly. A run with `grown` follows one with one scale less.
    `gradients` are "direct", "adjoint" (a second solve instead of a graph of the first), or "auto": direct but where
    memory is short.
    """

    # network, Table 4.1
    scales: int = 2
    blocks: int = 8
    hidden: tuple[int, ...] = (64, 64, 64)
    kind: str = "unimodular"
    margin: float = 0.05
    # what is learnt
    scale: int = 0
    grown: bool = False
    matching: bool = False
    kinetic: float = KINETIC
    jacobian: float = JACOBIAN
    gradients: str = "auto"
    # training; the published one has no running average
    batch_size: int = 100
    learning_rate: float = 1e-3
    warmup: int = 500
    cooldown: float = 0.0
    ema: float = 0.999
    clip: float = 100.0  # section 4.5.2
    steps: int = 100_000  # 200 epochs

    def __post_init__(self) -> None:
        if self.kind not in SCALES:
            raise BadInput(f"kind is the pyramid, {' or '.join(SCALES)}, got {self.kind!r}")
        if self.scales < 1 or self.blocks < 1 or not 0 <= self.scale <= self.scales:
            raise BadInput(
                f"a flow has 1 scale and 1 block or more, and learns one of its scales or all (0); got {self.scales} "
                f"scales, {self.blocks} blocks, scale {self.scale}"
            )
        if not (self.kinetic >= 0 and self.jacobian >= 0):
            raise BadInput(
                f"the weights of the regularisers are 0 or more, got {self.kinetic} (kinetic) and {self.jacobian} "
                "(jacobian): below 0 they reward crooked paths"
            )
        _ = self._solver
        least = 2 ** (self.scales - 1)
        if min(self.height, self.width) < 1 or self.height % least or self.width % least:
            raise BadInput(
                f"{self.scales} scales halve pictures {self.scales - 1} times: height and width must be multiples of "
                f"{least}, got {self.height} and {self.width}"
            )
        if self.grown and (self.scales < 2 or self.kind != "unimodular"):
            raise BadInput("only an unimodular flow of 2 scales or more is grown: the other pyramid changes the range")

    def model(self) -> MultiRes:
        """The flow of all scales, finest first."""
        return mrcnf(
            self.scales, self.blocks, channels=self.channels, kind=self.kind, margin=self.margin, hidden=self.hidden,
            solver=self._solver,
        )  # fmt: skip

    def loss(self, model: MultiRes, batch: Tensor, rng: Rng) -> Tensor:
        """Nats per dimension, with the regularisers, of each picture (B,); of one scale if that is what is learnt.

        In full precision whatever the trainer says: a solver cannot meet its tolerance in 16 bits.
        """
        with torch.autocast(batch.device.type, enabled=False):
            x: Tensor = dequantise(batch.float(), WIDTH, rng)
            flow, cond = self._learnt(model), None
            if flow is not model:
                x, cond = model.parts(x)[self.scales - self._scale]
            if self.matching:
                return flow.matching(x, cond, rng)  # type: ignore[operator]
            return flow.loss(x, cond, rng, kinetic=self.kinetic, jacobian=self.jacobian)

    def notes(self, model: MultiRes) -> dict[str, float]:
        """What the log says of the last batch: nats per dimension, both regularisers, evaluations of the fields.

        And how many solves took the adjoint so far: all parts have one solver.
        """
        solver = next(part.solver for part in model.modules() if isinstance(part, CNF))
        return dict(self._learnt(model).noted) | solver.adjoints

    @property
    def _solver(self) -> Solver:
        """The published one; BadInput for gradients that there are not."""
        return replace(PUBLISHED, gradients=self.gradients)  # type: ignore[arg-type]  # looked at there

    @property
    def _scale(self) -> int:
        return self.scales if self.grown else self.scale

    def _learnt(self, model: MultiRes) -> Flow:
        return model.scales[self.scales - self._scale] if self._scale else model

    # ---- following another run ---------------------------------------------------------------------------------

    @property
    def follows(self) -> bool:
        """Whether it must follow another run: a grown one."""
        return self.grown

    def after(self, fields: dict[str, Any]) -> "MRCNF":
        """This recipe, if a run with `fields` has the layout to go on with: its own, or when grown one scale less."""
        less = int(self.grown)
        wanted = {
            "channels": self.channels, "height": self.height >> less, "width": self.width >> less,
            "scales": self.scales - less, "blocks": self.blocks, "hidden": self.hidden, "kind": self.kind,
            "margin": self.margin,
        }  # fmt: skip
        for name, value in wanted.items():
            given = fields.get(name)
            given = tuple(given) if isinstance(given, list) else given
            if given != value:
                raise BadInput(f"this run begins with one whose {name} is {value}; the one given has {given}")
        return self

    def taken(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """All scales of the other run; under a finer one if this run is grown."""
        if not self.grown:
            return tensors
        return {_one_finer(name): tensor for name, tensor in tensors.items()}

    # ---- what comes of it --------------------------------------------------------------------------------------

    def product(self, model: MultiRes, *, card: Any = None, device: str = "cpu") -> FlowModel:
        """The trained model with its verbs."""
        return FlowModel(model, self.channels, self.height, self.width, device=device, card=card)

    def sheet(self, product: FlowModel, source: Any) -> Image.Image:
        """Held-out pictures, pictures from nothing, and held-out ones made finer from their averages."""
        real = np.concatenate([source.sample(seed) for seed in range(12)])
        quick = replace(product, tolerance=1e-3)
        rows = [
            ("held out", real),
            ("from nothing", quick.generate(12)),
            ("cooler", quick.generate(12, temperature=0.8)),
        ]
        for times in range(1, self.scales):
            rows.append((f"x{2**times} finer", quick.upscale(averaged(real, times), times)))
        return contact_sheet(rows)


def _one_finer(name: str) -> str:
    """The name of a tensor of a stack, once there is a finer scale on top: flows.0.x becomes flows.1.x."""
    head, number, rest = name.split(".", 2)
    return f"{head}.{int(number) + 1}.{rest}"


CIFAR10 = MRCNF()
ONE = replace(CIFAR10, scales=1)
THREE = replace(CIFAR10, scales=3)
IMAGENET64 = replace(THREE, height=64, width=64)
# Ours: for one CPU core.
TINY = replace(
    CIFAR10, blocks=2, hidden=(24, 24), batch_size=16, warmup=50, cooldown=0.4, ema=0.99, steps=1500, learning_rate=3e-3
)
_CIFAR, _IMAGENET = "CIFAR-10, train/CLASS/*.png and test", "ImageNet, train/CLASS/*.JPEG and val, at "

# name -> (recipe, data, the paper's score: table 4.2). SCALES-BLOCKS; the sizes are those of table 4.1.
PRESETS: dict[str, tuple[MRCNF, str, str | None]] = {
    "cifar10-1-2": (replace(ONE, blocks=2), _CIFAR, None),
    "cifar10-1-4": (replace(ONE, blocks=4), _CIFAR, None),
    "cifar10-1-14": (replace(ONE, blocks=14), _CIFAR, None),
    "cifar10-2-8": (CIFAR10, _CIFAR, "3.65 bits per dimension"),
    "cifar10-2-20": (replace(CIFAR10, blocks=20), _CIFAR, "3.54 bits per dimension"),
    "cifar10-2-8-haar": (replace(CIFAR10, kind="haar"), _CIFAR, "3.68 bits per dimension (table 4.4)"),
    "cifar10-3-6": (replace(THREE, blocks=6), _CIFAR, "3.79 bits per dimension"),
    "cifar10-3-6-haar": (replace(THREE, blocks=6, kind="haar"), _CIFAR, "3.82 bits per dimension (table 4.4)"),
    "cifar10-3-20": (replace(THREE, blocks=20), _CIFAR, "3.60 bits per dimension"),
    "imagenet32-2-40": (replace(CIFAR10, blocks=40), _IMAGENET + "32x32", "3.78 bits per dimension"),
    "imagenet64-3-8": (IMAGENET64, _IMAGENET + "64x64", "3.55 bits per dimension"),
    "imagenet128-4-8": (
        replace(IMAGENET64, height=128, width=128, scales=4, grown=True), _IMAGENET + "128x128, after imagenet64-3-8",
        "3.31 bits per dimension (table 4.3)",
    ),
    "tiny": (TINY, "any pictures, at 32x32", None),
    "tiny-haar": (replace(TINY, kind="haar"), "any pictures, at 32x32", None),
}  # fmt: skip
