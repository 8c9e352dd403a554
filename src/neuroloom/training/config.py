"""Settings of the training loop. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neuroloom.schema import Frozen


class TrainingConfig(Frozen):
    """How one model is trained."""

    steps: int = Field(100, ge=1, description="Optimizer steps.")
    batch_tokens: int = Field(4096, ge=1, description="Tokens of one step, over all accumulated batches.")
    accumulate: int = Field(1, ge=1, description="Batches whose gradients are added up before a step.")
    optimizer: Literal["adamw", "stable_adamw"] = Field("adamw", description="Optimizer.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Decay of the optimizer's moving averages.")
    eps: float = Field(1e-8, gt=0, description="The optimizer's epsilon.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled weight decay.")
    schedule: Literal["trapezoid", "warmup_cosine", "constant"] = Field("warmup_cosine", description="Learning rate.")
    warmup: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the rate rises.")
    warmup_start: float = Field(0.1, ge=0, le=1, description="Rate at the first step, as a share of the peak.")
    floor: float = Field(0.05, ge=0, le=1, description="Rate at the last step, as a share of the peak.")
    cooldown: float = Field(0.1, ge=0, le=1, description="Share of the steps in which a trapezoid falls.")
    clip_norm: float | None = Field(1.0, gt=0, description="Gradient norm above which it is scaled down; null: never.")
    ema: float | None = Field(None, gt=0, lt=1, description="Decay of averaged weights; null keeps none.")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="Arithmetic.")
    compile: bool = Field(False, description="Compile the model with torch.compile.")
    checkpoint_every: int = Field(0, ge=0, description="Steps between checkpoints; 0 keeps the last one only.")
    validate_every: int = Field(0, ge=0, description="Steps between validations; 0 validates at the end only.")
    log_every: int = Field(10, ge=1, description="Steps between lines of the log.")
    workers: int = Field(1, ge=0, description="Threads that read ahead.")
