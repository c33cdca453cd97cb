"""Networks in TorchScript files of the user's own: StyleGAN-V's I3D, NVIDIA's Inception and VGG16, or any other.

Loading a TorchScript file unpickles nothing, but it runs a stranger's program: framefill does so only for a file that
the user names. Figures made with it carry the sha256 of the file.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from framefill.errors import BadInput, Failed
from framefill.features import kinetics
from framefill.features.packages import fingerprint
from framefill.features.rows import Features
from framefill.nets.i3d import LEAST_FRAMES, SIZE

AS_IS = "none: the network gets the frames as they are, levels 0..255, and may resize them itself"
# Options of the well-known files, given where `forward` has a parameter of that name.
FEATURES = {"rescale": False, "resize": False, "return_features": True}
LPIPS = {"resize_images": False, "return_lpips": True}


def clip_file(path: Path, *, device: str = "cpu") -> Features:
    """Features of clips of at least 9 frames by a TorchScript file such as StyleGAN-V's i3d_torchscript.pt.

    It is given float32 (B, 3, T, 224, 224) in [-1, 1] and answers with (B, D). Raises BadInput for a file that cannot
    be read or does not take that.
    """
    network = _load(path, device, FEATURES)

    def extract(levels: Tensor) -> Tensor:
        return network(kinetics.resized(levels).transpose(1, 2).contiguous())

    probe = torch.zeros(1, LEAST_FRAMES, 3, SIZE, SIZE, dtype=torch.uint8, device=device)
    return _features(path, kinetics.RESIZE, LEAST_FRAMES, extract, probe)


def picture_file(path: Path, *, device: str = "cpu") -> Features:
    """Features of pictures by a TorchScript file such as NVIDIA's inception-2015-12-05.pt, for the true FID.

    It is given uint8 (B, 3, H, W), not resized, and answers with (B, D). Errors as in `clip_file`.
    """
    network = _load(path, device, FEATURES)
    return _features(path, AS_IS, 0, network, torch.zeros(1, 3, 64, 64, dtype=torch.uint8, device=device))


def _features(path: Path, resize: str, frames: int, extract: Callable[[Tensor], Tensor], probe: Tensor) -> Features:
    with torch.inference_mode():
        answer = extract(probe)
    if not isinstance(answer, Tensor) or answer.ndim != 2 or len(answer) != 1:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise BadInput(f"{path} answers one input with {shape}; a feature network gives (1, D)")
    return Features(path.stem, answer.shape[1], fingerprint(path), resize, frames, extract, str(probe.device))


@dataclass(frozen=True)
class Distance:
    """How unlike two pictures are, by a network; call it. `name`, `sha256` and `resize` as in `Features`."""

    name: str
    sha256: str
    resize: str
    measure: Callable[[Tensor, Tensor], Tensor]
    device: str = "cpu"

    def __call__(self, made: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Distances (N, ...) between uint8 frames `made` and `truth` (N, ..., H, W, C) of one shape, C = 1 or 3.

        Raises BadInput for other frames, and Failed where the network does not give one finite number per pair.
        """
        if made.shape != truth.shape or made.ndim < 4 or made.size == 0 or made.shape[-1] not in (1, 3):
            raise BadInput(f"{self.name}: frames {made.shape} and {truth.shape}; give both the shape (N, ..., H, W, C)")
        if made.dtype != np.uint8 or truth.dtype != np.uint8:
            raise BadInput(f"{self.name}: frames are {made.dtype} and {truth.dtype}; give uint8")
        pairs = zip(*(_pictures(frames, self.device) for frames in (made, truth)), strict=True)
        with torch.inference_mode():
            distances = [self.measure(a[None], b[None]).reshape(-1) for a, b in pairs]
        values = torch.cat(distances).double().cpu().numpy()
        if len(values) != len(distances) or not np.isfinite(values).all():
            raise Failed(
                f"{self.name} gave {len(values)} numbers for {len(distances)} pairs, or NaN; one each is needed"
            )
        return values.reshape(made.shape[:-3])


def distance_file(path: Path, *, device: str = "cpu") -> Distance:
    """A distance such as LPIPS by a TorchScript file, at the size of the frames.

    Either it takes two batches (B, 3, H, W) in [-1, 1] and answers with B numbers; or, like NVIDIA's vgg16.pt, it has
    an option `return_lpips` and turns pictures of levels 0..255 into vectors whose squared distance is meant. Raises
    BadInput for a file that cannot be read or does neither.
    """
    network = _load(path, device, LPIPS)

    def between(a: Tensor, b: Tensor) -> Tensor:
        return network(a / 127.5 - 1, b / 127.5 - 1)

    def apart(a: Tensor, b: Tensor) -> Tensor:
        return (network(a) - network(b)).square().sum(1)

    return Distance(path.stem, fingerprint(path), "none", apart if network.options else between, device)


def _pictures(frames: NDArray[np.uint8], device: str) -> Tensor:
    pictures = torch.from_numpy(np.ascontiguousarray(frames)).flatten(0, -4).movedim(-1, 1).to(device).float()
    return pictures.expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class _Program:
    """A loaded file and the options that its `forward` is given."""

    path: Path
    module: Any
    options: dict[str, bool]

    def __call__(self, *x: Tensor) -> Tensor:
        try:
            return self.module(*x, **self.options)
        except RuntimeError as error:  # torch.jit.Error is one; its last line says what went wrong
            reason = str(error).strip().splitlines()[-1]
            shapes = " and ".join(str(tuple(a.shape)) for a in x)
            raise BadInput(f"{self.path} does not take {shapes} ({reason}); see its manual") from error


def _load(path: Path, device: str, known: dict[str, bool]) -> _Program:
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
        takes = {argument.name for argument in module.forward.schema.arguments}
    except (RuntimeError, ValueError, OSError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"{path} is not a TorchScript file ({reason}); save the network with torch.jit.save") from error
    return _Program(path, module, {name: value for name, value in known.items() if name in takes})
