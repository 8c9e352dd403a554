"""One site's side of a round: shared weights in, so many passes over its own windows, shared weights out.

What is not shared, and the state of the optimizer, stays in a folder of the site, one checkpoint a round, so that a
site or a server that was killed goes on as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from math import cos, pi
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neuroloom.evaluation.adaptation import Reader, token_statistics
from neuroloom.evaluation.examples import Group
from neuroloom.evaluation.networks import Goal, Training, risen
from neuroloom.federated.accounting import Release, charge
from neuroloom.federated.config import PrivacyConfig
from neuroloom.federated.network import build_network, set_state, shared_names, state_of
from neuroloom.federated.private import (
    check_private,
    noise_generator,
    private_gradient,
    sample_subjects,
    sampling_generator,
)
from neuroloom.federated.site import Run, SiteData
from neuroloom.federated.wire import Schema, Tensors
from neuroloom.provenance import child_rng, config_digest
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.training.checkpoint import (
    TrainingState,
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    optimizer_state,
    save_checkpoint,
    step_of,
)
from neuroloom.training.sampling import Position

KEPT = 3  # checkpoints: a server may go back by a round
UNKNOWN = -1  # round, of weights that are half trained


@dataclass(frozen=True)
class Update:
    """What a site found in a round.

    Attributes
    ----------
    tensors : dict of array
        The shared ones after training.
    n_windows : int
        That it was trained on.
    loss : float
        Mean over the steps.
    validation : float
        Balanced accuracy on the validation part before training, with the weights that came.
    seconds : float
        Of training and of judging on the validation part, which a site that is alone does, too.
    started_from : int
        Round of the site's own part.
    epsilon : float
        Privacy spent in all, or infinity without noise.
    """

    tensors: Tensors
    n_windows: int
    loss: float
    validation: float
    seconds: float
    started_from: int
    epsilon: float


class SiteTraining:
    """A network at one site.

    Parameters
    ----------
    data : SiteData
    run : Run
    folder : Path
        Of the site, for checkpoints.
    model : Path, optional
        Folder of the pretrained model.
    ledger : Path, optional
        Where spent privacy is noted.

    Raises
    ------
    ConfigError
        If the arm has privacy and the network does not allow it.

    Attributes
    ----------
    network : nn.Module
    shared : tuple of str
        Names of the tensors that cross the wire.
    schema : Schema
        Of these.
    """

    def __init__(
        self, data: SiteData, run: Run, *, folder: Path, model: Path | None = None, ledger: Path | None = None
    ) -> None:
        self.data, self.run, self._ledger = data, run, ledger
        self._digest = config_digest([run.model_dump(mode="json"), data.site])
        self._folder = folder / f"run-{self._digest[:12]}"
        self.network = _prepared(data, run, model)
        self.shared = shared_names(run.strategy, self.network)
        self.schema = Schema.of(state_of(self.network, self.shared))
        self._kept = _kept_names(self.network)
        self.goal = Goal(data.target_W, n_classes=len(run.classes), trained_N=data.parts["train"])
        self._pulled: dict[str, Tensor] = {}
        self.training = self._training()
        self._initial = self._state(0)
        self._own_round = 0  # that weights which are not shared, and the optimizer, are of

    def round(self, number: int, tensors: Tensors) -> Update:
        """Train from the shared weights of the round before.

        Parameters
        ----------
        number : int
            From 1.
        tensors : dict of array

        Raises
        ------
        BudgetError
            If that would spend more privacy than is allowed.
        """
        epsilon = self._charge(number)
        started_from = self._start(number - 1, tensors)
        self._own_round = UNKNOWN  # until this round is whole: one that fails halfway is taken up from its checkpoint
        before = perf_counter()
        validation = self.validated()
        losses = [self.training.learn() for _ in range(self.run.settings.local_epochs)]
        seconds = perf_counter() - before
        save_checkpoint(self._folder, self._state(number), keep=KEPT)
        self._own_round = number
        found, loss = state_of(self.network, self.shared), float(np.mean(losses))
        n_windows = len(self.data.parts["train"])
        if self.run.strategy.privacy:  # what has no noise in it stays here; such sites weigh the same
            n_windows, loss, validation = 1, float("nan"), float("nan")
        return Update(found, n_windows, loss, validation, seconds, started_from, epsilon)

    def validated(self) -> float:
        """Balanced accuracy on the validation part with the weights as they are; NaN without one."""
        return self.training.merit("validation") if len(self.data.parts["validation"]) else float("nan")

    def finish(self, tensors: Tensors) -> Array:
        """What the network says of the test part, (N, L), after the last round."""
        self._start(self.run.settings.rounds, tensors)
        return self.training.predict("test")

    def restart(self) -> None:
        """Everything as before the first round."""
        self._restore(self._initial)

    def _training(self) -> Training:
        run, privacy = self.run, self.run.strategy.privacy
        given: dict[str, Any] = {
            "parts": self.data.parts,
            "setting": (run.settings.lr, run.settings.weight_decay),
            "seed": run.seed,
            "batch_size": run.settings.batch_size,
            "slow": {} if run.strategy.kind == "lora" else {"encoder.": run.settings.encoder_rate},
            "penalty": self._pull if run.strategy.kind == "fedprox" else None,
        }
        if privacy is None:
            training = Training(self.network, self.data.groups, self.goal, **given)
        else:
            check_private(self.network)
            training = PrivateTraining(
                self.network, self.data.groups, self.goal, data=self.data, config=privacy, **given
            )
        training.schedule = falling(training.steps_per_epoch * run.n_epochs)
        return training

    def _pull(self) -> Tensor:
        """FedProx (Li et al. 2020, arXiv 1812.06127, eq. 2): half of mu times the squared distance to the shared."""
        now = dict(self.network.named_parameters())
        squares = [((now[name] - to) ** 2).sum() for name, to in self._pulled.items()]
        return self.run.strategy.mu / 2 * torch.stack(squares).sum()

    def _start(self, before: int, tensors: Tensors) -> int:
        """Bring own part and optimizer to the end of a round, and the shared part to what came; the round found."""
        if before == 0:
            self.restart()
        elif self._own_round != before:
            found = [path for path in checkpoints(self._folder) if step_of(path) <= before]
            # a site that joins late, or lost its folder, starts with what training starts from
            self._restore(self._checked(load_checkpoint(found[-1])) if found else self._initial)
        set_state(self.network, tensors)
        parameters = dict(self.network.named_parameters())
        self._pulled = {name: parameters[name].detach().clone() for name in self.shared if name in parameters}
        return self._own_round

    def _checked(self, state: TrainingState) -> TrainingState:
        if state.run != self._digest:
            raise ConfigError(f"{self._folder}: its checkpoints are of another run; give this run a folder of its own")
        return state

    def _state(self, number: int) -> TrainingState:
        tensors, groups = optimizer_state(self.training.optimizer, self.network)
        weights = self.network.state_dict()
        return TrainingState(
            run=self._digest,
            step=number,
            tokens=self.training.step,
            position=Position(self.training.epoch),
            weights={name: weights[name].detach().clone() for name in self._kept},
            optimizer={name: value.detach().clone() for name, value in tensors.items()},
            averaged={},
            groups=groups,
        )

    def _restore(self, state: TrainingState) -> None:
        weights = self.network.state_dict()
        with torch.no_grad():
            for name, value in state.weights.items():
                weights[name].copy_(value)
        # an optimizer updates its state in place, and the first state is used again
        kept = {name: value.clone() for name, value in state.optimizer.items()}
        load_optimizer_state(self.training.optimizer, self.network, kept, state.groups)
        self.training.epoch, self.training.step = state.position.epoch, state.tokens
        self._own_round = state.step

    def _charge(self, number: int) -> float:
        """Note what the whole run spends, once, before its first step; a round that is drawn again is spent again."""
        privacy = self.run.strategy.privacy
        if privacy is None:
            return float("inf")
        release = Release(
            run=self._digest,
            site=self.data.site,
            noise_multiplier=privacy.noise_multiplier,
            sample_rate=privacy.sample_rate,
            n_steps=self.training.steps_per_epoch * self.run.n_epochs,
            clip_norm=privacy.clip_norm,
            n_subjects=len(self.data.people),
            seeded=privacy.noise == "seeded",
            when=date.today().isoformat(),
        )
        if self._ledger is None:
            raise ConfigError(f"{self.data.site}: privacy is asked for, but the site file names no ledger")
        again = not release.seeded and any(step_of(path) >= number for path in checkpoints(self._folder))
        steps = self.training.steps_per_epoch * self.run.settings.local_epochs
        bounds = {"max_epsilon": privacy.max_epsilon, "delta": privacy.delta}
        return charge(self._ledger, release, **bounds, redrawn=steps if again else 0)


class PrivateTraining(Training):
    """Training in which the people of a site, not its windows, are sampled, clipped and hidden in noise."""

    def __init__(self, *args: Any, data: SiteData, config: PrivacyConfig, **given: Any) -> None:
        super().__init__(*args, **given)
        self._data, self._config = data, config

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which each person is seen once on average."""
        return max(round(1 / self._config.sample_rate), 1)

    def _pass(self) -> float:
        self.network.train()
        noise, rng = self._generators()
        people = self._data.people
        losses: list[float] = []
        for _ in range(self.steps_per_epoch):
            self.optimizer.zero_grad()
            drawn = sample_subjects(len(people), self._config.sample_rate, rng)
            private_gradient(
                [self._loss_of(people[at], losses) for at in drawn],
                [value for value in self.network.parameters() if value.requires_grad],
                clip_norm=self._config.clip_norm,
                noise_multiplier=self._config.noise_multiplier,
                expected=self._config.sample_rate * len(people),
                generator=noise,
            )
            self._advance()
        return float(np.mean(losses)) if losses else float("nan")

    def _generators(self) -> tuple[torch.Generator | None, np.random.Generator]:
        """Of the noise and of who is drawn, for one pass."""
        if self._config.noise == "secret":
            return noise_generator(None), sampling_generator(None)
        known = child_rng(self._seed, f"private {self._data.site} {self.epoch}")
        return noise_generator(int(known.integers(2**31))), sampling_generator(int(known.integers(2**31)))

    def loss(self, group: Group, batch_N: Array) -> Tensor:
        """Mean loss in which windows weigh the same: weights of classes would tell of other people."""
        wanted_B = torch.from_numpy(self._data.target_W[group.windows_N[batch_N]])
        return nn.functional.cross_entropy(self.network(*group.rows(batch_N)), wanted_B)

    def _loss_of(self, person: str, losses: list[float]) -> Callable[[], Tensor]:
        windows_N = self._data.parts["train"]
        windows_N = windows_N[self._data.participants_W[windows_N] == person]

        def loss() -> Tensor:
            parts = [self.loss(group, rows_N) * len(rows_N) for group, rows_N in self._rows(windows_N)]
            mean = torch.stack(parts).sum() / len(windows_N)
            losses.append(float(mean.detach()))
            return mean

        return loss


def falling(n_steps: int) -> Callable[[int], float]:
    """A rate that rises over the first steps and falls along a cosine to 0 at the end of the last round (FLEEG)."""
    return lambda step: risen(step) * (1 + cos(pi * min(step / max(n_steps, 1), 1))) / 2


def _prepared(data: SiteData, run: Run, model: Path | None) -> nn.Module:
    """The network of the run; its head standardises tokens as they are at this site, which stays there."""
    network = build_network(
        run.strategy,
        n_outputs=len(run.classes),
        seed=run.seed,
        window=run.task.window,
        model=model,
        shape=data.shape,
    )
    # what all people of a site look like together is no noisy sum: the head stays as 1/f noise would have it
    if isinstance(network, Reader) and run.strategy.privacy is None:
        network.head.standardise(*token_statistics(network.encoder.eval(), data.groups, data.parts["train"]))
    return network


def _kept_names(network: nn.Module) -> tuple[str, ...]:
    """What training, or data, changes: trained parameters and buffers."""
    frozen = {name for name, value in network.named_parameters() if not value.requires_grad}
    return tuple(name for name in network.state_dict() if name not in frozen)
