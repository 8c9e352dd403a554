"""A run of the training loop: what it goes on with, how it starts, goes on from a checkpoint, and is kept."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from neuroloom.provenance import config_digest
from neuroloom.schema import ConfigError
from neuroloom.training.checkpoint import (
    TrainingState,
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    match_state,
    optimizer_state,
    save_checkpoint,
)
from neuroloom.training.config import TrainingConfig
from neuroloom.training.optimizers import build_optimizer
from neuroloom.training.sampling import START, Position
from neuroloom.training.task import Task

if TYPE_CHECKING:
    from lightning_fabric import Fabric

logger = logging.getLogger(__name__)
FREE = {"workers", "log_every", "checkpoint_every", "validate_every"}  # settings that change no weight


@dataclass
class Run:
    """What changes while a run goes on, and what it goes on with."""

    fabric: Fabric
    model: nn.Module
    whole: Any
    optimizer: torch.optim.Optimizer
    task: Task[Any]
    config: TrainingConfig
    seed: int
    averaged: Any
    digest: str
    step: int = 0
    tokens: int = 0
    position: Position = START


class _Whole(nn.Module):
    """The model in the one call that Fabric knows of, so that a task may use any of its methods."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[nn.Module], Any]) -> Any:
        return compute(self.model)


def set_up(fabric: Fabric, model: nn.Module, task: Task[Any], config: TrainingConfig, seed: int, data: str) -> Run:
    """A run at step 0."""
    model.train()
    averaged = None
    if config.ema is not None:
        average = torch.optim.swa_utils.get_ema_multi_avg_fn(config.ema)
        averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average)
        averaged.module.to(fabric.device)
    if config.compile:
        model.compile()  # in place: the names of the weights stay
    optimizer = build_optimizer(task.parameter_groups(model), config)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    whole, _ = fabric.setup(_Whole(model), optimizer)
    digest = config_digest([config.model_dump(exclude=FREE), seed, data])
    return Run(fabric, model, whole, optimizer, task, config, seed, averaged, digest)


def resume(run: Run, folder: Path | None) -> None:
    """Go on from the last checkpoint of the folder, if there is one."""
    found = checkpoints(folder / "checkpoints") if folder else []
    if not found:
        return
    state = load_checkpoint(found[-1])
    if state.run != run.digest:
        raise ConfigError(
            f"{found[-1]}: the checkpoint of a run with other settings, seed or data; delete {folder} to start anew, "
            "or give the run a folder of its own"
        )
    match_state(run.model, state.weights, found[-1])
    if run.averaged is not None:
        match_state(run.averaged, state.averaged, found[-1])
    load_optimizer_state(run.optimizer, run.model, state.optimizer, state.groups)
    run.step, run.tokens, run.position = state.step, state.tokens, state.position
    logger.info("%s: goes on from step %d", folder, run.step)


def save(run: Run, folder: Path, keep: int) -> None:
    """Write a checkpoint; every process waits for it."""
    if run.fabric.is_global_zero:
        tensors, groups = optimizer_state(run.optimizer, run.model)
        state = TrainingState(
            run=run.digest,
            step=run.step,
            tokens=run.tokens,
            position=run.position,
            weights=run.model.state_dict(),
            optimizer=tensors,
            averaged={} if run.averaged is None else run.averaged.state_dict(),
            groups=groups,
        )
        save_checkpoint(folder / "checkpoints", state, keep=keep)
    run.fabric.barrier()
