"""CPU-seconds of C-ViViT of paper 000's size, 50.9 million parameters, on 2 clips of 9x32x32: forward, and a step.

    python benchmarks/clip_transformer.py --repeats 3

Beside them what phenaki-pytorch 0.5.0 takes, as issue 7 has it, measured elsewhere: 0.94 forward, 4.3 a training step
with its adversary, in float32. Ours is in float32 and as trained: in bfloat16 where the machine has it, weights in
float32, a fused Adam included. One thread; of all repeats the smallest counts. Nine tenths of the time are matrix
products, so the last line says how long those of that many numbers take by themselves: no arrangement is faster.

Clips of 1, 8 and 18 frames are timed too.
"""

import argparse
import time

import torch
import torch.nn.functional as F

from framefill.arrays import Rng
from framefill.device import bf16_pays
from framefill.latents.distance import over_frames, squared
from framefill.recipes import find

THEIRS = {"forward": 0.94, "step": 4.3}
PRESETS = {9: "cifar10-8", 1: "cifar10-1", 8: "cifar10-8", 18: "cifar10-18"}


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--frames", type=int, nargs="+", default=list(PRESETS), choices=list(PRESETS))
    told = words.parse_args()
    torch.set_num_threads(1)
    print("| frames | tokens | numbers | forward | training step | products alone |", "|---" * 6 + "|", sep="\n")
    for frames in told.frames:
        for bf16 in sorted({False, bf16_pays("cpu")}):
            print(row(frames, bf16, told.repeats), flush=True)
    print(f"phenaki-pytorch, 9 frames, float32: {THEIRS['forward']} forward, {THEIRS['step']} a step")


def row(frames, bf16, repeats):
    torch.manual_seed(0)
    model = find("tokenizer", PRESETS[frames]).recipe.network(3, frames)
    clips, distance = torch.rand(2, frames, 3, 32, 32) * 2 - 1, over_frames(squared)
    adam = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-4, fused=True)

    def loss():
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return model.loss(clips, Rng.batch(0, 2), distance).mean()

    def step():
        adam.zero_grad()
        loss().backward()
        adam.step()

    took = [fastest(torch.no_grad()(loss), repeats), fastest(step, repeats)]
    tokens = torch.Size(model.grid(frames, 32, 32)).numel()
    cells = [str(frames), str(tokens), "bfloat16" if bf16 else "float32"]
    return f"| {' | '.join([*cells, *(f'{t:.2f}' for t in (*took, products(2 * tokens, bf16)))])} |"


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
