"""Networks in training that can be paused, and the tuning budget that baselines and models share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuroloom.evaluation.examples import Group
from neuroloom.evaluation.halving import halve
from neuroloom.evaluation.statistics import merit_of
from neuroloom.records import Array

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WARM_UP = 10  # optimizer steps over which the rate rises: the first steps of Adam are its wildest
MAX_NORM = 1.0  # of a gradient
JUDGED_AT_ONCE = 256  # windows
Setting = tuple[float, float]  # learning rate, weight decay


@dataclass(frozen=True)
class Budget:
    """Tuning that a baseline, or a model beside it, is given.

    Attributes
    ----------
    epochs : int
        Passes over the training part that the last candidate has had (`halving`); its best one by validation counts.
    candidates : int
        Settings that are tried: the first ones of each of the lists below.
    learning_rates : tuple of float
        For what starts untrained.
    weight_decays : tuple of float
        Each with all of the learning rates, the first one first.
    penalties : tuple of float
        Of logistic (ridge) regression, per training window.
    components : tuple of int
        Of CSP.
    shrinkages : tuple
        Of the covariance of LDA; `auto` is Ledoit and Wolf's.
    batch_size : int
    """

    epochs: int = 20
    candidates: int = 4
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 3e-4, 1e-2)
    weight_decays: tuple[float, ...] = (1e-2, 1e-1)
    penalties: tuple[float, ...] = (0.1, 0.01, 1.0, 0.001, 0.0001)
    components: tuple[int, ...] = (4, 2, 6, 8)
    shrinkages: tuple[float | str, ...] = ("auto", 0.1, 0.5, 0.01)
    batch_size: int = 32

    @property
    def settings(self) -> list[Setting]:
        """Learning rate and weight decay of each candidate."""
        both = [(rate, decay) for decay in self.weight_decays for rate in self.learning_rates]
        return both[: self.candidates]

    @property
    def strengths(self) -> tuple[float, ...]:
        """Penalties of the candidates, the strongest first, which wins a tie."""
        return tuple(sorted(self.penalties[: self.candidates], reverse=True))


DEFAULT_BUDGET = Budget()


class Goal:
    """What a network is to say of each window: its class, or a value.

    Classes weigh the same in the loss, whatever their sizes in training; values are learned in units of their SD there.

    Parameters
    ----------
    target_W : array
        Codes of classes, or values.
    n_classes : int
        0 for values.
    trained_N : int array
        Windows of the training part.
    """

    def __init__(self, target_W: Array, *, n_classes: int, trained_N: Array) -> None:
        import torch

        self.n_outputs, self._values, seen_N = max(n_classes, 1), not n_classes, target_W[trained_N]
        self.target_W = target_W
        self._mean, self._sd = (float(seen_N.mean()), float(seen_N.std()) or 1.0) if self._values else (0.0, 1.0)
        scaled_W = (target_W - self._mean) / self._sd if self._values else target_W
        self._wanted_W = torch.tensor(scaled_W, dtype=torch.float32 if self._values else torch.int64)
        count_L = np.bincount(seen_N, minlength=n_classes) if n_classes else np.ones(1)
        self._weight_L = torch.tensor(count_L.sum() / np.maximum(count_L, 1), dtype=torch.float32)

    def loss(self, output_BL: Tensor, windows_N: Array) -> Tensor:
        """Mean loss of the outputs for some windows."""
        from torch.nn import functional

        wanted_B = self._wanted_W[windows_N].to(output_BL.device)
        if self._values:
            return functional.mse_loss(output_BL[:, 0], wanted_B)
        return functional.cross_entropy(output_BL, wanted_B, weight=self._weight_L.to(output_BL.device))

    def read(self, output_NL: Tensor) -> Array:
        """Probabilities of the classes, or values in their own unit."""
        output_NL = output_NL.double()
        return (output_NL * self._sd + self._mean if self._values else output_NL.softmax(dim=1)).cpu().numpy()

    def merit(self, windows_N: Array, read_NL: Array) -> float:
        """Balanced accuracy, or the squared error with its sign turned; minus infinity for what is not finite."""
        if not np.isfinite(read_NL).all():
            return float("-inf")
        if self._values:
            return -float(((self.target_W[windows_N] - read_NL[:, 0]) ** 2).mean())
        return merit_of(self.target_W[windows_N], read_NL)


class Training:
    """A network that learns from windows, epoch by epoch.

    AdamW on cross entropy; matrices decay, biases and gains do not. Random numbers of an epoch follow from the seed and
    its number: a pause changes nothing.

    Parameters
    ----------
    network : torch.nn.Module
        Inputs of a group -> (W, L); parameters that require a gradient are trained.
    groups : sequence of Group
        Windows by shape.
    goal : Goal
    parts : mapping
        Part -> windows.
    setting : tuple of float
        Learning rate and weight decay.
    seed : int
    batch_size : int
    slow : mapping
        Beginning of the names of parameters -> what their rate is multiplied by.
    device : str
    schedule : callable, optional
        Steps done -> what all rates are multiplied by.
    penalty : callable, optional
        Added to the loss of each batch.

    Attributes
    ----------
    network : torch.nn.Module
    optimizer : torch.optim.Optimizer
    epoch, step : int
        Done so far.
    n_trained : int
        Numbers that are trained.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        groups: Sequence[Group],
        goal: Goal,
        *,
        parts: Mapping[str, Array],
        setting: Setting,
        seed: int,
        batch_size: int,
        slow: Mapping[str, float] | None = None,
        device: str = "cpu",
        schedule: Callable[[int], float] | None = None,
        penalty: Callable[[], Tensor] | None = None,
    ) -> None:
        import torch

        self.network, self._groups, self._goal, self._parts = network.to(device), groups, goal, parts
        self._seed, self._batch_size, self._device = seed, batch_size, device
        self.schedule, self._penalty = schedule or risen, penalty
        rate, decay = setting
        sorts: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                factor = next((by for start, by in (slow or {}).items() if name.startswith(start)), 1.0)
                sorts.setdefault((rate * factor, decay if parameter.ndim > 1 else 0.0), []).append(parameter)
        self._rates = [lr for lr, _ in sorts]
        options = [{"params": members, "lr": lr, "weight_decay": wd} for (lr, wd), members in sorts.items()]
        self.optimizer = torch.optim.AdamW(options, fused=True)
        self.n_trained = sum(parameter.numel() for members in sorts.values() for parameter in members)
        self.epoch, self.step = 0, 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches of the training part."""
        return sum(-(-len(rows_N) // self._batch_size) for _, rows_N in self._rows(self._parts["train"]))

    def learn(self) -> float:
        """One pass over the training part, in batches of one shape and of nearly one size; the mean loss."""
        with drawn_from(self._seed, self.epoch, device=self._device):
            loss = self._pass()
        self.epoch += 1
        return loss

    def predict(self, part: str) -> Array:
        """What the network says now of the windows of a part, in their order."""
        import torch

        windows_N, was_training = self._parts[part], self.network.training
        said_NL = np.empty((len(windows_N), self._goal.n_outputs))
        self.network.eval()
        with torch.no_grad():  # what a model caches in inference mode, training could not use
            for group, rows_N in self._rows(windows_N):
                for at in range(0, len(rows_N), JUDGED_AT_ONCE):
                    batch_N = rows_N[at : at + JUDGED_AT_ONCE]
                    output_BL = self.network(*group.rows(batch_N, self._device))
                    said_NL[np.searchsorted(windows_N, group.windows_N[batch_N])] = self._goal.read(output_BL)
        self.network.train(was_training)
        return said_NL

    def merit(self, part: str) -> float:
        """How good the network is now at the windows of a part (`Goal.merit`)."""
        return self._goal.merit(self._parts[part], self.predict(part))

    def _pass(self) -> float:
        self.network.train()
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, self.epoch]))
        batches = [
            (group, batch_N)
            for group, rows_N in self._rows(self._parts["train"])
            # Parts of nearly one size leave no last batch of a single window, which batch norm could not take.
            for batch_N in np.array_split(rng.permutation(rows_N), -(-len(rows_N) // self._batch_size))
        ]
        total = 0.0
        for at in rng.permutation(len(batches)):
            total += self._descend(*batches[at])
        return total / max(len(batches), 1)

    def _descend(self, group: Group, batch_N: Array) -> float:
        """One step of the optimizer; the loss before it."""
        import torch

        self.optimizer.zero_grad()
        loss = self.loss(group, batch_N)
        (loss if self._penalty is None else loss + self._penalty()).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), MAX_NORM)
        self._advance()
        return float(loss.detach())

    def loss(self, group: Group, batch_N: Array) -> Tensor:
        """Mean loss over some rows of a group."""
        return self._goal.loss(self.network(*group.rows(batch_N, self._device)), group.windows_N[batch_N])

    def _advance(self) -> None:
        """A step with the gradients as they are, at the rates of the schedule."""
        for options, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            options["lr"] = rate * self.schedule(self.step)
        self.optimizer.step()
        self.step += 1

    def _rows(self, windows_N: Array) -> Iterator[tuple[Group, Array]]:
        """Groups that hold some of the windows, with the rows of these."""
        for group in self._groups:
            rows_N = np.flatnonzero(np.isin(group.windows_N, windows_N))
            if len(rows_N):
                yield group, rows_N


class Learner:
    """A contender of successive halving: it is judged after each epoch, and keeps what it said after its best one.

    Ties on the validation part go to the earlier epoch.

    Parameters
    ----------
    training : Training
    state : bool
        Keep the trained weights of the best epoch, too.

    Attributes
    ----------
    merit : float
        Best score on validation so far.
    best_epoch : int
        The epoch of `merit`.
    test_NL : array
        What the network said of the test part then.
    state : dict
        Trained weights as they were then, if wanted.
    """

    def __init__(self, training: Training, *, state: bool = False) -> None:
        self.training, self._keep_state = training, state
        self.n_trained = training.n_trained
        self.merit, self.best_epoch = float("-inf"), 0
        self.test_NL: Array = np.empty((0, 0))
        self.state: dict[str, Tensor] = {}

    def train(self, epochs: int) -> None:
        """Go on for so many epochs."""
        for _ in range(epochs):
            self.training.learn()
            merit = self.training.merit("validation")
            if merit > self.merit + 1e-12:
                self.merit, self.best_epoch = merit, self.training.epoch
                self.test_NL = self.training.predict("test")
                trained = self.training.network.named_parameters() if self._keep_state else ()
                self.state = {name: value.detach().clone() for name, value in trained if value.requires_grad}

    def drop(self) -> None:
        """Free weights and the state of the optimizer."""
        del self.training


def risen(step: int) -> float:
    """A rate that rises over the first steps and then stays."""
    return min((step + 1) / WARM_UP, 1.0)


def tune(
    learners: Sequence[Learner], settings: Sequence[Setting], *, epochs: int, by: str = "balanced accuracy"
) -> tuple[Learner, int, str]:
    """The learner that successive halving leaves, epochs of all together, and the rule it was chosen by."""
    race = halve(learners, epochs=epochs)
    winner, (rate, decay) = learners[race.winner], settings[race.winner]
    rule = (
        f"learning rate {rate:g}, weight decay {decay:g} of {len(settings)} settings by successive halving, epoch "
        f"{winner.best_epoch} of {epochs}; by {by} on validation, ties to the first"
    )
    return winner, race.n_epochs, rule


@contextmanager
def drawn_from(seed: int, *path: int, device: str = "cpu") -> Iterator[None]:
    """Torch's global generators start from a seed inside, and are as they were afterwards."""
    import torch

    # layers and dropout draw from the global generators, which nobody else should notice
    with torch.random.fork_rng(devices=[] if device == "cpu" else [torch.device(device)]):
        torch.manual_seed(int(np.random.SeedSequence([seed, *path]).generate_state(1)[0]))
        yield


def build_network(kind: str, shape: tuple[int, ...], *, n_classes: int, sfreq: float) -> torch.nn.Module:
    """`eegnet` (Lawhern et al. 2018, J Neural Eng 15:056013) or `shallow` (Schirrmeister et al. 2017, HBM 38:5391).

    Both are braindecode's with its defaults; `shape` is channels and samples of a window. Channels lie last in memory,
    and the first convolution is `filters.FirstLayer`: on a processor that takes a third of the time.
    """
    import torch
    from braindecode.models import EEGNet, ShallowFBCSPNet

    from neuroloom.evaluation.filters import FirstLayer

    model = {"eegnet": EEGNet, "shallow": ShallowFBCSPNet}[kind]
    network = model(n_chans=shape[0], n_outputs=n_classes, n_times=shape[1], sfreq=sfreq)
    if kind == "shallow":
        network.conv_time_spat = FirstLayer(network.conv_time_spat)
    return network.to(memory_format=torch.channels_last)
