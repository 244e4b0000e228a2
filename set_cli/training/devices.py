"""Where a run computes: the CPU or a GPU, how much memory is free there, and whether its results must repeat."""

from __future__ import annotations

import os

import torch

from set_cli.config import Backend
from set_cli.errors import ConfigError
from set_cli.system.memory import left_on_machine

# What cuBLAS wants to hear, before it starts, to compute the same bits twice.
CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


def choose_device(backend: Backend) -> tuple[torch.device, str]:
    """The device, and why that one; `auto` is a GPU where there is one. ConfigError where it cannot be as asked."""
    device, why = _choose(backend)
    if device.type == "cpu" and backend.precision != "float32":
        raise ConfigError(f"backend.precision={backend.precision} is for a GPU; on the CPU expected float32")
    return device, why


def _choose(backend: Backend) -> tuple[torch.device, str]:
    has_gpu = torch.cuda.is_available()
    if backend.name == "cuda" and not has_gpu:
        raise ConfigError("backend=cuda: torch finds no GPU here; use backend=cpu, or install torch built for CUDA")
    if backend.name != "auto":
        return torch.device(backend.name), "asked for"
    if backend.engine == "native":
        return torch.device("cpu"), "auto: engine native computes there"
    if has_gpu:
        return torch.device("cuda"), "auto: torch finds a GPU"
    built = "torch finds no GPU" if torch.version.cuda else "this torch is built for the CPU only"
    return torch.device("cpu"), f"auto: {built}"


def describe_device(device: torch.device) -> str:
    """The GPU's name with the versions that decide its bits, or cpu."""
    if device.type != "cuda":
        return "cpu"
    name, cudnn = torch.cuda.get_device_name(device), torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return f"{name}, CUDA {torch.version.cuda}, cuDNN {cudnn}"


def prepare(device: torch.device, *, deterministic: bool) -> None:
    """Set what torch computes with on a GPU: float32 that is float32, and bits that repeat or that come fast.

    deterministic  torch warns of an operation of its own that cannot repeat; results on the CPU repeat anyway
    """
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # else convolutions round their inputs to 10 bits
        os.environ.setdefault(CUBLAS_VARIABLE, ":4096:8")
        torch.use_deterministic_algorithms(deterministic, warn_only=True)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process could still take on the device; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return left_on_machine()
