"""The network against the published program: sizes, outputs, layers."""

import json
import math
from pathlib import Path

import pytest
import torch

from framefill.nets.unet import UNet

PARITY = json.loads((Path(__file__).parent / "parity" / "mcvd.json").read_text())


def published_fill(network, named_parameters):
    """Sets our parameters from the published list's fill; NIN layers are stored (in, out) and q, k, v apart there."""
    values = []
    for i, (name, shape) in enumerate(named_parameters):
        k = torch.arange(math.prod(shape), dtype=torch.float64)
        p = 0.15 * torch.sin(12.9898 * k + 0.5 * i)
        if "GroupNorm" in name and len(shape) == 1 and name.endswith("weight"):
            p = p + 1
        p = p.reshape(shape)
        values.append((name, p.T[..., None, None] if name.endswith(".W") else p))
    queue = iter(values)

    def take():
        return next(queue)[1]

    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("qkv.weight"):
                w, b = zip(*[(take(), take()) for _ in range(3)], strict=True)
                p.copy_(torch.cat(w))
                pending = torch.cat(b)
            elif name.endswith("qkv.bias"):
                p.copy_(pending)
            else:
                p.copy_(take().reshape(p.shape))
    assert next(queue, None) is None


@pytest.mark.parametrize("kind", ["concat", "spatin"])
def test_forward_equals_the_published_program(kind):
    facts = PARITY["tiny_unets"]["value"][kind]
    network = UNet(
        2, 3, width=8, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=8,
        spatin=12 if kind == "spatin" else 0,
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) == facts["n_params"]
    network = network.double().eval()
    published_fill(network, facts["named_params"])
    x = torch.sin(0.05 * torch.arange(2 * 2 * 256, dtype=torch.float64)).reshape(2, 2, 1, 16, 16)
    cond = torch.cos(0.03 * torch.arange(2 * 3 * 256, dtype=torch.float64)).reshape(2, 3, 1, 16, 16)
    out = network(x, torch.tensor([10.0, 900.0]), cond)[:, :, 0]
    torch.testing.assert_close(
        out[0, 0, 0, :4], torch.tensor(facts["out[0,0,0,:4]"], dtype=torch.float64), atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        out[1, 1, 7, 8:12], torch.tensor(facts["out[1,1,7,8:12]"], dtype=torch.float64), atol=1e-6, rtol=0
    )
    assert abs(out.mean().item() - facts["out_mean"]) < 1e-6
    assert abs(out.std().item() - facts["out_std"]) < 1e-6
