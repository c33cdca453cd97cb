"""Where to compute: the device, how much memory is free there, and whether 16-bit floats pay."""

import os
from contextlib import suppress
from pathlib import Path

import torch

from framefill.errors import BadInput


def choose(name: str = "auto") -> str:
    """ "cpu" or "cuda[:n]": what was asked for if it is there, for "auto" the best there is; BadInput otherwise."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise BadInput(f"device {name!r} is not here; choose cpu{' or cuda' if torch.cuda.is_available() else ''}")
    return name


def bf16_pays(device: str) -> bool:
    """Whether mixed precision is faster here: CUDA with bf16, or a CPU with bf16 instructions."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    return device == "cpu" and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken there: for torch on CUDA, on Linux within a container's limit; else no end."""
    if device.type == "cuda":
        idle = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + idle
    found = [1 << 62]
    with suppress(OSError, ValueError, IndexError):
        found.append(int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024)
        mine = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for limit in ("memory.max", "memory/memory.limit_in_bytes"):
            with suppress(OSError, ValueError):  # of the other version of control groups, or no limit
                found.append(int(Path("/sys/fs/cgroup", limit).read_text()) - mine)
    return max(min(found), 0)
