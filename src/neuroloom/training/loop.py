"""The one training loop: batches in, weights out; a run that was killed goes on where its last checkpoint is.

It knows nothing of what is trained: a `Task` says what the loss is. Read from `train` downwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from neuroloom.provenance import child_rng
from neuroloom.training.config import TrainingConfig
from neuroloom.training.data import Batches
from neuroloom.training.processes import make_fabric
from neuroloom.training.progress import Curve, live_progress, write_table, write_tensorboard
from neuroloom.training.runs import Run, resume, save, set_up
from neuroloom.training.sampling import Draw
from neuroloom.training.schedules import schedule_factor
from neuroloom.training.task import Task, TrainingResult

if TYPE_CHECKING:
    from lightning_fabric import Fabric

B = TypeVar("B")


def train(
    *,
    model: nn.Module,
    task: Task[B],
    batches: Batches[B],
    config: TrainingConfig,
    seed: int,
    folder: Path | None = None,
    validation: Sequence[B] = (),
    fabric: Fabric | None = None,
    keep: int = 2,
    tensorboard: bool = False,
) -> TrainingResult:
    """Train a model for a number of steps, or for those that a killed run has left to do.

    Parameters
    ----------
    model : Module
        Trained in place, on the device of `fabric`.
    task : Task
    batches : Batches
        Of a single process; they are cut to the rows of this one here.
    config : TrainingConfig
    seed : int
        All random numbers of the run follow from it.
    folder : Path, optional
        Gets `checkpoints/`, `metrics/` while the run goes on, and `metrics.parquet` at its end; one folder, one run.
        None writes nothing.
    validation : sequence
        Batches that the loss is measured on every `validate_every` steps and at the end, with equal random numbers.
    fabric : Fabric, optional
        Launched; default one for the processes there are (`make_fabric`).
    keep : int
        Checkpoints that are kept.
    tensorboard : bool
        Also write the curve for TensorBoard, which must be installed.

    Returns
    -------
    TrainingResult

    Raises
    ------
    ConfigError
        The folder holds a run with other settings, seed or data.
    FloatingPointError
        The loss is not finite any more; names step and recordings.
    """
    fabric = fabric or make_fabric(config)
    # dropout draws from torch's own generator, which is the caller's before and after
    gpus = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        run = set_up(fabric, model, task, config, seed, batches.digest)
        resume(run, folder)
        curve = Curve(folder / "metrics" if folder and fabric.is_global_zero else None, run.step)
        local = batches.shard(fabric.global_rank, fabric.world_size)
        stream = local.stream(run.position, threads=config.workers, pin=bool(gpus))
        try:
            _run_steps(run, stream, curve, folder, validation, batches.sampler.describe, keep)
        finally:
            stream.close()
    return _finish(run, curve, folder, tensorboard)


def _run_steps(
    run: Run,
    stream: Iterator[tuple[Draw, Any]],
    curve: Curve,
    folder: Path | None,
    validation: Sequence[Any],
    describe: Callable[[Draw], str],
    keep: int,
) -> None:
    """Steps until the last one, with what is due after each."""
    config, loss = run.config, float("nan")

    def due(every: int) -> bool:
        return run.step == config.steps or bool(every and run.step % every == 0)

    quiet = not run.fabric.is_global_zero
    with live_progress(steps=config.steps, done=run.step, quiet=quiet) as show:
        while run.step < config.steps:
            facts, measured, draw = _take_step(run, stream)
            curve.add(facts, measured, draw)
            if due(config.log_every) or due(config.validate_every) or due(config.checkpoint_every):
                loss = curve.flush(lambda rows: _over_processes(run, rows, "mean"), describe)["loss"]
            if len(validation) and due(config.validate_every):
                curve.note(_validate(run, validation))
            if folder and due(config.checkpoint_every):
                curve.save()  # first: rows without a checkpoint are made again, a checkpoint without rows is a gap
                save(run, folder, keep)
            show(run.step, int(facts["tokens"]), loss)


def _take_step(run: Run, stream: Iterator[tuple[Draw, Any]]) -> tuple[dict[str, float], dict[str, Tensor], Draw]:
    """One optimizer step over the accumulated batches: facts, scalars on the device, and the last draw."""
    started, waited, tokens = time.perf_counter(), 0.0, 0
    fabric, parts, generator = run.fabric, run.config.accumulate, _seed_step(run)
    lr = _set_rate(run)
    totals: dict[str, Tensor] = {}
    for part in range(parts):
        asked = time.perf_counter()
        draw, batch = next(stream)
        waited, tokens = waited + time.perf_counter() - asked, tokens + draw.n_tokens
        # processes have different numbers of rows, but DDP takes the plain mean of their gradients
        weight = draw.share * fabric.world_size / parts
        with fabric.no_backward_sync(run.whole, enabled=part + 1 < parts):
            loss, metrics = _forward(run, batch.to(fabric.device), generator)
            fabric.backward(loss * weight)
        for name, value in {"loss": loss, **metrics}.items():
            totals[name] = totals.get(name, 0.0) + value.detach() * weight
    limit = run.config.clip_norm or float("inf")
    # not through Fabric, which would wait for the GPU to see whether the norm is finite
    totals["grad_norm"] = nn.utils.clip_grad_norm_(run.model.parameters(), limit)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.task.after_step(run.model)
    if run.averaged is not None:
        run.averaged.update_parameters(run.model)
    run.step, run.tokens, run.position = run.step + 1, run.tokens + tokens, draw.after
    facts = {"step": run.step, "tokens": tokens, "lr": lr, "seconds": time.perf_counter() - started}
    return {**facts, "waiting_seconds": waited}, totals, draw


def _forward(run: Run, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    return run.whole(lambda model: run.task.loss(model, batch, generator))


def _seed_step(run: Run) -> torch.Generator:
    """Random numbers of this step: a generator, equal on all processes, and torch's own (dropout), which differ."""
    torch.manual_seed(_number(run.seed, f"step {run.step} process {run.fabric.global_rank}"))
    return torch.Generator(run.fabric.device).manual_seed(_number(run.seed, f"step {run.step}"))


def _number(seed: int, entity: str) -> int:
    return int(child_rng(seed, entity).integers(2**62))


def _set_rate(run: Run) -> float:
    factor = schedule_factor(run.step, run.config)
    for group in run.optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return run.config.lr * factor


def _validate(run: Run, validation: Sequence[Any]) -> dict[str, float]:
    """Mean loss and metrics over the batches of the validation, divided among the processes."""
    fabric = run.fabric
    model = run.model if run.averaged is None else run.averaged.module
    ranks = fabric.world_size if len(validation) >= fabric.world_size else 1
    sums: dict[str, Tensor] = {}
    # with fewer batches than processes each takes all of them: none may stay away from the sum
    own = range(fabric.global_rank % ranks, len(validation), ranks)
    model.eval()
    with torch.no_grad(), fabric.autocast():
        for at in own:
            generator = torch.Generator(fabric.device).manual_seed(_number(run.seed, f"validation {at}"))
            loss, metrics = run.task.loss(model, validation[at].to(fabric.device), generator)
            for name, value in {"loss": loss, **metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.float()
    model.train()
    stacked = torch.stack([*sums.values(), torch.tensor(float(len(own)), device=fabric.device)])
    *totals, count = _over_processes(run, stacked, "sum").tolist()
    return {f"validation_{name}": total / count for name, total in zip(sums, totals, strict=True)}


def _over_processes(run: Run, tensor: Tensor, how: str) -> Tensor:
    reduced: Any = run.fabric.all_reduce(tensor, reduce_op=how)
    return reduced


def _finish(run: Run, curve: Curve, folder: Path | None, tensorboard: bool) -> TrainingResult:
    table = curve.table()
    if folder and run.fabric.is_global_zero:
        write_table(table, folder / "metrics.parquet")
        if tensorboard:
            write_tensorboard(table, folder)
    weights = run.model.state_dict() if run.averaged is None else run.averaged.module.state_dict()
    return TrainingResult(run.step, run.tokens, weights, table)
