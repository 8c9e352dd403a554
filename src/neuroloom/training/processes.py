"""Where a run trains: one process, or those that torchrun or SLURM has started, on CPUs or GPUs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from neuroloom.training.config import TrainingConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_RETAIN = ((-3, 2**30), (-1, 2**31 - 1))  # glibc: M_MMAP_THRESHOLD, M_TRIM_THRESHOLD (bytes)


def make_fabric(config: TrainingConfig, *, accelerator: str = "auto") -> Fabric:
    """Lightning Fabric for the processes there are: a GPU for each where there are GPUs, else CPUs over gloo.

    Parameters
    ----------
    config : TrainingConfig
        Says the precision.
    accelerator : str
        `auto`, `cpu` or `cuda`.
    """
    from lightning_fabric import Fabric

    per_node, nodes = count_processes(os.environ)
    strategy = "ddp" if per_node * nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator, devices=per_node, num_nodes=nodes, strategy=strategy, precision=config.precision
    )
    fabric.launch()
    return fabric


def count_processes(environment: os._Environ[str] | dict[str, str]) -> tuple[int, int]:
    """Processes on each node, and nodes, as torchrun or SLURM set them in the environment; 1, 1 without them."""
    if "TORCHELASTIC_RUN_ID" in environment:
        per_node = int(environment["LOCAL_WORLD_SIZE"])
        return per_node, int(environment["WORLD_SIZE"]) // per_node
    if "SLURM_PROCID" in environment and "SLURM_NTASKS" in environment:
        nodes = int(environment.get("SLURM_NNODES", "1"))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1


def is_first(environment: os._Environ[str] | dict[str, str]) -> bool:
    """Whether this is the one of all processes that writes."""
    return int(environment.get("RANK", environment.get("SLURM_PROCID", "0"))) == 0


def set_threads(count: int) -> None:
    """Give torch and BLAS that many threads, and keep freed memory for the next tensor.

    With glibc's defaults each large tensor is asked of the system and given back, and its pages are made anew: half of
    the time of a convolution on a large batch. Elsewhere than on glibc the memory stays as it is.

    Threads that wait sleep instead of spinning, which on a machine that does something else beside takes most of the
    time; this counts only before torch is first imported.
    """
    import ctypes
    import platform

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(count)
    threadpool_limits(count)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in _RETAIN:
            libc.mallopt(option, value)
