"""CPU-seconds of C-ViViT of paper 000's size, 50.9 million parameters, on 2 clips of 9x32x32: forward, and a step.

    python benchmarks/clip_transformer.py --repeats 3

Beside them phenaki-pytorch 0.5.0, where it is installed: the same 50.9 million parameters, codebook and clips,
both without adversary and perceptual loss; it takes 1 + 2 k frames only, and float32 is how it comes. Ours trains in
bfloat16 where the machine has it, weights in float32. A step is forward, backward and a fused Adam. One thread; of all
repeats the smallest counts. The last column says how long the layers' matrix products take by themselves.

Clips of 1, 8 and 18 frames are timed too. To have theirs (its own requirements would bring another torch):

    pip install --no-deps --target phenaki phenaki-pytorch==0.5.0 vector-quantize-pytorch==1.32.0 einx einops \
        frozendict beartype loguru torch-einops-utils
    PYTHONPATH=phenaki python benchmarks/clip_transformer.py
"""

import argparse
import importlib.util
import sys
import time
from types import ModuleType

import torch
import torch.nn.functional as F

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.latents.distance import over_frames, squared
from framefill.recipes import find

PRESETS = {9: "cifar10-8", 1: "cifar10-1", 8: "cifar10-8", 18: "cifar10-18"}


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--frames", type=int, nargs="+", default=list(PRESETS), choices=list(PRESETS))
    told = words.parse_args()
    torch.set_num_threads(1)
    print("| network | frames | tokens | numbers | forward | training step | products alone |")
    print("|---" * 7 + "|")
    cases = [("ours", frames, our_loss) for frames in told.frames]
    if importlib.util.find_spec("phenaki_pytorch") is None:
        print("phenaki-pytorch is not installed: see the top of this file", file=sys.stderr)
    else:
        cases.append(("phenaki-pytorch", 9, their_loss))
    for name, frames, make in cases:
        network = make(frames)
        for bf16 in sorted({False, bf16_pays("cpu")}):
            print(row(name, frames, bf16, *network, told.repeats), flush=True)


def our_loss(frames):
    """Our network, and its loss of 2 clips."""
    torch.manual_seed(0)
    model = find("tokenizer", PRESETS[frames]).recipe.network(3, frames)
    clips, distance = torch.rand(2, frames, 3, 32, 32) * 2 - 1, over_frames(squared)
    return model, lambda: model.loss(clips, Rng.batch(0, 2), distance).mean()


def their_loss(frames):
    """phenaki-pytorch's as the paper has it, and its loss of 2 clips."""
    # its package imports torchvision and text encoders, which this network does without
    bare = ModuleType("phenaki_pytorch")
    bare.__path__ = list(importlib.util.find_spec("phenaki_pytorch").submodule_search_locations)
    sys.modules["phenaki_pytorch"] = bare
    sys.modules.setdefault("torchvision", ModuleType("torchvision"))
    from phenaki_pytorch.cvivit import CViViT

    torch.manual_seed(0)
    model = CViViT(
        dim=512, codebook_size=1024, image_size=32, patch_size=4, temporal_patch_size=2, spatial_depth=4,
        temporal_depth=4, use_vgg_and_gan=False, lookup_free_quantization=False,
    )  # fmt: skip
    clips = torch.rand(2, 3, frames, 32, 32) * 2 - 1
    return model, lambda: model(clips)


def row(name, frames, bf16, model, loss, repeats):
    """CPU-seconds of a forward pass to the loss, of a step of training, and of the products alone."""
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-4, fused=True)

    def forward():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return loss()

    def step():
        adam.zero_grad()
        forward().backward()
        adam.step()

    tokens = 64 * (frames // 2 + frames % 2)  # 8x8 of every two frames, and of a first one by itself
    took = fastest(torch.no_grad()(forward), repeats), fastest(step, repeats), products(2 * tokens, bf16)
    cells = [name, str(frames), str(tokens), "bfloat16" if bf16 else "float32", *(f"{t:.2f}" for t in took)]
    return f"| {' | '.join(cells)} |"


def products(rows, bf16):
    """What 8 layers each way take for their matrix products, 512 numbers wide."""
    kind = torch.bfloat16 if bf16 else torch.float32
    sizes = [(512, 1536), (512, 512), (512, 2730), (1365, 512)]
    pairs = [(torch.randn(rows, i, dtype=kind), torch.randn(o, i, dtype=kind)) for i, o in sizes]
    return 16 * sum(fastest(lambda x=x, w=w: F.linear(x, w), 10) for x, w in pairs)


def fastest(work, repeats):
    work()
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


if __name__ == "__main__":
    main()
