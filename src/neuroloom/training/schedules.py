"""Learning rate over the steps, as a factor on the peak rate.

All rise in a straight line from `start` at step 0 to 1 at the end of the warm-up, and those that fall reach `floor` at
the last step.
"""

from __future__ import annotations

import math

from neuroloom.training.config import TrainingConfig


def schedule_factor(step: int, config: TrainingConfig) -> float:
    """Factor on the peak rate at a step, counted from 0, by the schedule that the config names."""
    warmup, cooldown = round(config.warmup * config.steps), round(config.cooldown * config.steps)
    if config.schedule == "trapezoid":
        ends = {"start": config.warmup_start, "floor": config.floor}
        return trapezoid(step, steps=config.steps, warmup=warmup, cooldown=cooldown, **ends)
    if config.schedule == "warmup_cosine":
        return warmup_cosine(step, steps=config.steps, warmup=warmup, start=config.warmup_start, floor=config.floor)
    return 1.0


def trapezoid(step: int, *, steps: int, warmup: int, cooldown: int, start: float, floor: float) -> float:
    """Rise, stay, fall in straight lines.

    Parameters
    ----------
    step, steps : int
        This step, counted from 0, and all of them.
    warmup, cooldown : int
        Steps of the rise and of the fall.
    start, floor : float
        Factor at the first and at the last step.

    Notes
    -----
    Source: REVE (arXiv 2510.21585), 10 % up, 80 % flat, 10 % down.
    """
    if step < warmup:
        return _line(start, 1.0, step / warmup)
    left = steps - 1 - step
    return _line(floor, 1.0, left / cooldown) if left < cooldown else 1.0


def warmup_cosine(step: int, *, steps: int, warmup: int, start: float, floor: float) -> float:
    """Rise in a straight line, then fall along half a cosine; parameters as for `trapezoid`.

    Notes
    -----
    Source: BrainOmni (arXiv 2505.18185), 10 % up from 0.1, down to 0.05 (tokenizer) or 0.1.
    """
    if step < warmup:
        return _line(start, 1.0, step / warmup)
    fallen = (step - warmup) / max(steps - 1 - warmup, 1)
    return _line(floor, 1.0, (1 + math.cos(math.pi * fallen)) / 2)


def _line(low: float, high: float, share: float) -> float:
    return low + (high - low) * share
