"""Settings of federated fine-tuning. Nothing heavy is imported here: a config is checked before any job."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from neuroloom.schema import Frozen, Label

FLEEG = "fleeg"  # the network of that paper, in place of a pretrained model
ALONE = ("local", "centralised")  # arms that need no federation: the floor and the ceiling
Kind = Literal[
    "local",
    "centralised",
    "fedavg",
    "fedprox",
    "fedadam",
    "fedbn",
    "personal",
    "lora",
    "fleeg",
    "median",
    "trimmed_mean",
    "krum",
]


class PrivacyConfig(Frozen):
    """Differential privacy of the people of a site: gradients of a person are clipped, and noise is added."""

    clip_norm: float = Field(1.0, gt=0, description="Largest norm of one person's gradient.")
    noise_multiplier: float = Field(4.0, ge=0, description="SD of the noise over clip_norm.")
    sample_rate: float = Field(0.5, gt=0, le=1, description="Chance that a person is part of a step.")
    delta: float = Field(1e-3, gt=0, lt=1, description="Of (epsilon, delta); well below one over the people of a site.")
    max_epsilon: float = Field(10.0, gt=0, description="A run that would spend more in all does not start.")
    noise: Literal["seeded", "secret"] = Field(
        "secret", description="`seeded` repeats itself and protects nobody: for simulations."
    )


class StrategyConfig(Frozen):
    """One arm of the comparison: what is trained, what of it is shared, and how it is combined."""

    kind: Kind
    network: Label = Field("reve", description="A model of `pretrain.models`, or `fleeg`.")
    mu: float = Field(0.01, ge=0, description="FedProx: pull towards the shared weights.")
    server_lr: float = Field(0.01, gt=0, description="FedAdam: rate of the server.")
    trim: float = Field(0.34, ge=0, lt=0.5, description="Trimmed mean: share of the sites cut off at either end.")
    n_bad: int = Field(0, ge=0, description="Krum: sites that may lie.")
    rank: int = Field(16, ge=1, description="LoRA: rank of the adapters.")
    secure_aggregation: bool = Field(False, description="The server sees sums of masked updates only (SecAgg+).")
    privacy: PrivacyConfig | None = Field(None, description="Differential privacy; null: none.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.kind == FLEEG and self.network != FLEEG:
            raise ValueError(f"kind fleeg shares the upper layers of its own network: set network: {FLEEG}")
        if self.network == FLEEG and self.kind in ("centralised", "lora", "personal"):
            raise ValueError(f"kind {self.kind} needs one pretrained model for all sites; name one as network")
        if self.secure_aggregation and self.kind in (*ALONE, "fedadam", "median", "trimmed_mean", "krum"):
            raise ValueError(f"secure_aggregation opens a mean and nothing else: kind {self.kind} needs more, or none")
        if self.privacy and self.network == FLEEG:
            raise ValueError("privacy: the batch norm of fleeg mixes people; take a pretrained model as network")
        return self


class FederateConfig(Frozen):
    """Who fine-tunes together, on what, for how long, and what is done about sites that fail."""

    use: tuple[Label, ...] = Field((), description="Arms that are run, by name; none leaves the stage out.")
    task: Label | None = Field(None, description="A task of `evaluate.tasks`.")
    strategies: dict[Label, StrategyConfig] = Field({}, description="Arms by name.")
    mode: Literal["simulation", "deployment"] = Field(
        "simulation", description="All sites in one process, or each in processes of its own behind TLS."
    )
    rounds: int = Field(8, ge=1, description="Rounds.")
    local_epochs: int = Field(1, ge=1, description="Passes over a site's training part in a round.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate of what starts untrained.")
    encoder_rate: float = Field(0.1, ge=0, description="Of lr, for pretrained weights.")
    weight_decay: float = Field(0.01, ge=0, description="Decoupled.")
    batch_size: int = Field(32, ge=2, description="Windows in a step.")
    n_seeds: int = Field(3, ge=1, description="Repetitions with other random numbers.")
    min_sites: int = Field(2, ge=1, description="Fewer good replies in a round stop the run; it can be resumed.")
    timeout: float = Field(600.0, gt=0, description="Seconds that a round waits for a site.")
    max_update: float = Field(
        10.0, gt=0, description="A larger update, over the norm of what it started from, is refused."
    )
    n_permutations: int = Field(200, ge=20, description="Shuffled labels that chance is measured with.")
    attacks: bool = Field(True, description="Ask the trained models who was in training, and who a person is.")
    allow_seen_subjects: bool = Field(False, description="Mark people a model was trained on instead of stopping.")

    @model_validator(mode="after")
    def _known(self) -> Self:
        if unknown := [name for name in self.use if name not in self.strategies]:
            known = ", ".join(self.strategies) or "none"
            raise ValueError(f"use names {', '.join(unknown)}; described under strategies: {known}")
        if self.use and not self.task:
            raise ValueError("use names arms, but there is no task for them; name one of evaluate.tasks")
        return self
