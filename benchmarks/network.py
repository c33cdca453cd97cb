"""CPU-seconds and memory of the 27.9 M network: in plain float32, and as shipped.

    python benchmarks/network.py --batch 4 --repeats 3

Three ways to compute one function of the same weights, each in a process of its own:

    published   float32, channels first, operations as in the authors' program on a CPU: attention by einsum with all
                scores kept, filters by zero insertion and a one-channel convolution, torch's group norm and dropout,
                Adam and the running average parameter by parameter
    plain       the same with the filters as (transposed) depthwise convolutions, the faster way to write them
    shipped     what training and sampling run: channels last, bfloat16 where the CPU has it, layers.py, fused Adam

The processes take turns, and the smallest of all repeats counts. One thread each: the time of several threads contains
their waiting for one another. The outputs must agree to bfloat16, or this fails.
"""

import argparse
import os
import platform
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from framefill.device import bf16_pays
from framefill.nets import layers
from framefill.nets.unet import UNet

TOLERANCE = 0.05  # of the root mean square of the output: bfloat16 rounds to 0.004, in each of a hundred layers

# ---- the plain operations -----------------------------------------------------------------------------------------


def kernel(x):
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    return torch.outer(taps, taps)[None, None]


def depthwise_down(x):
    C = x.shape[1]
    return F.conv2d(x, kernel(x).expand(C, 1, 4, 4), stride=2, padding=1, groups=C)


def depthwise_up(x):
    C = x.shape[1]
    return F.conv_transpose2d(x, 4 * kernel(x).expand(C, 1, 4, 4), stride=2, padding=1, groups=C)


def published_down(x):
    B, C, H, W = x.shape
    full = F.conv2d(F.pad(x.reshape(B * C, 1, H, W), (1, 1, 1, 1)), kernel(x))
    return full.reshape(B, C, H - 1, W - 1)[:, :, ::2, ::2]


def published_up(x):
    B, C, H, W = x.shape
    spread = F.pad(x.reshape(B * C, H, 1, W, 1), (0, 1, 0, 0, 0, 1)).reshape(B * C, 1, 2 * H, 2 * W)
    return F.conv2d(F.pad(spread, (2, 1, 2, 1)), 4 * kernel(x)).reshape(B, C, 2 * H, 2 * W)


def plain_attend(q, k, v):
    scores = torch.einsum("bhnd,bhmd->bhnm", q, k) * q.shape[-1] ** -0.5
    return torch.einsum("bhnm,bhmd->bhnd", scores.softmax(-1), v)


def plain_normalise(x, groups, eps):
    return F.group_norm(x, groups, eps=eps)


# ---- one process per variant --------------------------------------------------------------------------------------


class Variant:
    """The network, its optimiser and its running average, the way `name` says; lives in a process of its own."""

    def __init__(self, name, batch, threads):
        torch.set_num_threads(threads)
        self.shipped = name == "shipped"
        if not self.shipped:
            layers.downsample = published_down if name == "published" else depthwise_down
            layers.upsample = published_up if name == "published" else depthwise_up
            layers.attend, layers.normalise, layers.Dropout = plain_attend, plain_normalise, nn.Dropout
        torch.manual_seed(0)
        self.network = UNet(5, 5, width=64)
        with torch.no_grad():  # the layers that start at zero too get weights of the usual size, or hide the others
            for p in self.network.parameters():
                if p.ndim == 4 and p.abs().max() < 1e-4:
                    p.normal_(0, p[0].numel() ** -0.5)
        if self.shipped:
            self.network = self.network.to(memory_format=torch.channels_last)
        self.parameters = list(self.network.parameters())
        how = {"fused": True} if self.shipped else {"foreach": False}
        self.adam = torch.optim.Adam(self.parameters, lr=1e-6, **how)
        self.average = [p.detach().clone() for p in self.parameters]
        self.x, self.cond = torch.randn(2, batch, 5, 1, 64, 64)
        self.label = torch.linspace(0, 999, batch)

    def answer(self):
        with torch.autocast("cpu", torch.bfloat16, enabled=self.shipped and bf16_pays("cpu")):
            return self.network(self.x, self.label, self.cond).float()

    @torch.inference_mode()
    def forward(self):
        self.network.eval()
        return self.answer()

    def training(self):
        self.network.train()
        (self.answer() - self.x).square().mean().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0, foreach=self.shipped)
        self.adam.step()
        values = [p.detach() for p in self.parameters]
        if self.shipped:
            torch._foreach_lerp_(self.average, values, 1e-3)
        else:
            for a, p in zip(self.average, values, strict=True):
                a.mul_(0.999).add_(p * 1e-3)
        self.adam.zero_grad()


def start(*args):
    global variant
    variant = Variant(*args)


def measure(verb):
    """CPU-seconds of one call, and the peak of this process's memory so far, in MB."""
    begin = time.process_time()
    getattr(variant, verb)()
    return time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def output():
    return variant.forward().numpy()


# ---- the table ----------------------------------------------------------------------------------------------------


def machine(threads):
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name")]
    found = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in text]
    kind = "bfloat16" if bf16_pays("cpu") else "float32"
    processor = f"{(names or [platform.processor()])[0]}, {os.cpu_count()} cores, {' '.join(found)}"
    return f"{processor}; torch {torch.__version__}, {threads} thread(s), shipped runs in {kind}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    names = ("published", "plain", "shipped")
    pools = {
        name: ProcessPoolExecutor(1, get_context("spawn"), start, (name, args.batch, args.threads)) for name in names
    }
    seconds, peak = {}, {}
    answers = {name: torch.from_numpy(pools[name].submit(output).result()) for name in names}
    for verb in ("forward", "training"):
        for _ in range(args.repeats):
            for name, pool in pools.items():
                spent, peak[name, verb] = pool.submit(measure, verb).result()
                seconds[name, verb] = min(spent / args.batch, seconds.get((name, verb), spent))
    for pool in pools.values():
        pool.shutdown()

    print(machine(args.threads))
    print(f"batch {args.batch}, least of {args.repeats}; CPU-seconds per clip, and peak memory in MB\n")
    columns = f" {'CPU-s':>8} {'ratio':>6} {'MB':>6}"
    print(f"{'':10}{'forward':>23}{'training step':>23}{'difference':>17}")
    print(f"{'':10}{columns}{columns} {'max':>8} {'rms':>8}")
    reference = answers["published"]
    scale = reference.square().mean().sqrt()
    for name in names:
        cells = ""
        for verb in ("forward", "training"):
            ratio = seconds[name, verb] / seconds["shipped", verb]
            cells += f" {seconds[name, verb]:8.3f} {ratio:6.2f} {peak[name, verb]:6.0f}"
        error = (answers[name] - reference) / scale
        rms = error.square().mean().sqrt().item()
        print(f"{name:10}{cells} {error.abs().max():8.1e} {rms:8.1e}")
        assert rms < (TOLERANCE if name == "shipped" else 1e-4), f"{name} does not agree with the published operations"
    print("\nratio: this time / the shipped time; difference: from `published`, relative to its root mean square")


if __name__ == "__main__":
    main()
