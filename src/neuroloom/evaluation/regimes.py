"""Ways to use a pretrained encoder, from a linear reader of frozen tokens to training all of it, and its null.

`linear` and `attentive` leave the encoder as it is, `lora` adds low-rank adapters, `full` trains all that the tokens
depend on, and `scratch` does that to the same architecture with weights as training starts with them. Each is tuned on
the validation part with one budget (`halving`), that of the baselines. The head of `lora` and `full` is first trained
alone on frozen tokens, as REVE does (arXiv 2510.21585); these epochs are part of the budget.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from neuroloom.evaluation.adaptation import (
    AttentiveHead,
    Reader,
    add_adapters,
    check_trainable,
    expected_trainable,
    linear_size,
    token_statistics,
    tokens_of,
    used_parameters,
)
from neuroloom.evaluation.baselines import Prediction
from neuroloom.evaluation.examples import Examples, Group, check_levels, encoder_inputs
from neuroloom.evaluation.halving import cost
from neuroloom.evaluation.leaks import check_apart, check_label_leak
from neuroloom.evaluation.networks import DEFAULT_BUDGET, Budget, Goal, Learner, Setting, Training, drawn_from, tune
from neuroloom.evaluation.readout import Data, ProbeSettings, fit_all, prepare, unusable
from neuroloom.evaluation.splits import PARTS
from neuroloom.models.base import Encoder
from neuroloom.records import Array
from neuroloom.schema import ConfigError

REGIMES = ("linear", "attentive", "lora", "full", "scratch")
MAX_BYTES = 2**31  # of tokens that are kept; twice as many are kept in half precision, more are made anew each time
ENCODER_RATE = 0.1  # of the head's rate, for weights that pretraining has found (BrainOmni's fine-tuning)
WARM_SHARE = 0.25  # of the epochs, that the head is trained alone


class Frozen:
    """What an encoder makes of the windows of a task; once for all regimes, seeds and shares.

    Parameters
    ----------
    encoder : Encoder
        Stays as it is; a copy is kept.
    examples : Examples
        Labels and parts may be others later, windows not.
    device : str
        `cpu` or `cuda`; what is kept lies in main memory.
    max_bytes : int
        Of tokens; more are kept as bfloat16, and more than twice as many are not kept.

    Attributes
    ----------
    encoder : Encoder
        The frozen copy.
    examples, device
    groups : list of Group
        Inputs of its `forward`.
    tokens : list of Group
        What comes out; empty where that is too much to keep.
    features_WD : array
        Mean over the tokens.
    used : frozenset of str
        Parameters that tokens depend on.
    """

    def __init__(
        self, encoder: Encoder, examples: Examples, *, device: str = "cpu", max_bytes: int = MAX_BYTES
    ) -> None:
        # a copy, because the caller may train or move the encoder later
        self.encoder = deepcopy(encoder).to(device).eval().requires_grad_(False)
        self.examples, self.device = examples, device
        self.groups = encoder_inputs(self.encoder, examples, device=device)
        self.features_WD = np.empty((len(examples), encoder.embed_dim))
        self.tokens: list[Group] = []
        kept = self._survey(max_bytes)
        for group in self.groups:
            parts = []
            for rows_N, tokens_BND in tokens_of(self.encoder, group, np.arange(len(group.windows_N)), device):
                self.features_WD[group.windows_N[rows_N]] = tokens_BND.double().mean(dim=1).cpu().numpy()
                parts += [tokens_BND.to(kept).cpu()] if kept else []
            self.tokens += [Group(group.windows_N, (torch.cat(parts),))] if kept else []

    def _survey(self, max_bytes: int) -> torch.dtype | None:
        """Find the parameters in use, and how tokens can be kept, from one window of each shape."""
        used, n_bytes = frozenset[str](), 0
        for group in self.groups:
            first = group.rows(np.arange(1), self.device)
            used |= used_parameters(self.encoder, first)
            with torch.no_grad():
                n_bytes += 4 * self.encoder(*first).numel() * len(group.windows_N)
        self.used = used
        if n_bytes > 2 * max_bytes:
            return None
        return torch.bfloat16 if n_bytes > max_bytes else torch.float32


@dataclass(frozen=True)
class _Case:
    """A regime in a task."""

    name: str
    frozen: Frozen
    data: Data
    goal: Goal
    parts: dict[str, Array]
    budget: Budget
    seed: int

    @property
    def by(self) -> str:
        """What candidates are chosen by."""
        return "squared error" if self.data.classes is None else "balanced accuracy"

    def expected(self, encoder: Encoder) -> int:
        """Numbers that the regime trains."""
        return expected_trainable(self.name, encoder, self.goal.n_outputs, used=self.frozen.used)


def run_regime(
    name: str,
    make_encoder: Callable[[], Encoder],
    examples: Examples,
    frozen: Frozen,
    *,
    seed: int,
    budget: Budget = DEFAULT_BUDGET,
    within: bool = False,
) -> Prediction:
    """Train as a regime says, choose on the validation part, and predict the test part.

    Parameters
    ----------
    name : str
        One of `REGIMES`.
    make_encoder : callable
        For `lora` and `full` the encoder that was frozen, for `scratch` the same architecture as training starts with
        it. Torch's generator is seeded while it runs.
    examples : Examples
        The windows that were frozen, with labels and parts.
    frozen : Frozen
    seed : int
        Of initial weights, order and dropout.
    budget : Budget
    within : bool
        Participants stand on several sides on purpose.

    Returns
    -------
    prediction : Prediction
        Probabilities of the classes, or one column of values where labels are floats (`classes` is empty then).

    Raises
    ------
    LeakError
        If a participant is in two parts (unless `within`), or a level of a channel or a feature is the label.
    ConfigError
        If there is no such regime, parts do not allow a fit, the encoder is not the one that the regime is of, or the
        number of trained parameters is not that of the regime.
    ValueError
        If windows are others than the frozen ones, or features are not finite.
    """
    if name not in REGIMES:
        raise ConfigError(f"regime {name}: there is none of this name; take one of {', '.join(REGIMES)}")
    case = _case(name, frozen, examples, seed=seed, budget=budget, within=within)
    if name == "linear":
        return _linear(case)
    return _attentive(case) if name == "attentive" else _tuned(case, make_encoder)


def _case(name: str, frozen: Frozen, examples: Examples, *, seed: int, budget: Budget, within: bool) -> _Case:
    """Everything a regime needs, if nothing of the test is known in training."""
    if not examples.same_windows(frozen.examples):
        raise ValueError(f"regime {name}: the windows are not those that were frozen; make a Frozen of them")
    data = prepare(frozen.features_WD, examples.labels_W, examples.participants_W, examples.parts_W)
    if not within:
        check_apart(data.participants_W, data.folds_NW)
    if reason := unusable(data):
        raise ConfigError(f"regime {name}: {reason}; leave this fold out, or label more windows")
    check_levels(frozen.groups, examples.labels_W, examples.parts_W)
    if name in ("linear", "attentive"):
        used_N = np.flatnonzero(examples.parts_W != "")
        check_label_leak(data.features_WF, np.asarray(examples.labels_W), windows=used_N)
    parts = {part: data.part(0, part) for part in PARTS}
    n_classes = 0 if data.classes is None else data.n_outputs
    goal = Goal(data.target_W, n_classes=n_classes, trained_N=parts["train"])
    return _Case(name, frozen, data, goal, parts, budget, seed)


def _linear(case: _Case) -> Prediction:
    """Logistic (ridge) regression on standardised mean tokens."""
    settings = ProbeSettings(penalties=case.budget.strengths, max_train=len(case.data.target_W))
    _, outputs, penalties, hints = fit_all(case.data, settings, np.random.default_rng(case.seed))
    read = linear_size(case.data.features_WF.shape[1], case.data.n_outputs)
    n_trainable = check_trainable(case.name, case.frozen.encoder, case.expected(case.frozen.encoder), beside=read)
    strengths = ", ".join(f"{penalty:g}" for penalty in settings.penalties)
    rule = f"penalty {penalties[0]:g} of {strengths} by {case.by} on validation, ties to the strongest"
    return _prediction(case, outputs["linear"], len(settings.penalties), 0, "; ".join([rule, *hints]), n_trainable)


def _attentive(case: _Case) -> Prediction:
    """The head alone, on tokens that were kept, or are made anew for each batch."""
    encoder, head = case.frozen.encoder, _new_head(case, case.frozen.encoder)
    n_trainable = check_trainable(case.name, Reader(encoder, head, frozen=True), case.expected(encoder))
    learners = [_head_learner(case, head, setting) for setting in case.budget.settings]
    winner, n_epochs, rule = tune(learners, case.budget.settings, epochs=case.budget.epochs, by=case.by)
    return _prediction(case, winner.test_NL, len(learners), n_epochs, rule, n_trainable)


def _tuned(case: _Case, make_encoder: Callable[[], Encoder]) -> Prediction:
    """Adapters and head, or everything."""
    encoder = _made(case, make_encoder)
    expected, settings = case.expected(encoder), case.budget.settings
    head, epochs, spent = _new_head(case, encoder), case.budget.epochs, 0
    if case.name != "scratch":  # a head on random tokens would learn what the next step unmakes
        epochs, spent = _warm_up(case, head)
    slow = {"encoder.": ENCODER_RATE} if case.name == "full" else {}
    learners = []
    for setting in settings:
        network = Reader(deepcopy(encoder), deepcopy(head))
        with drawn_from(case.seed):  # the same adapters for all settings
            _set_free(case, network.encoder)
        check_trainable(case.name, network, expected)
        learners.append(_learner(case, network, case.frozen.groups, setting, slow=slow))
    winner, n_epochs, rule = tune(learners, settings, epochs=epochs, by=case.by)
    rule += f"; first {spent} epochs of the head alone" if spent else ""
    return _prediction(case, winner.test_NL, len(settings), n_epochs + spent, rule, expected)


def _prediction(case: _Case, said_NL: Array, n_fits: int, n_epochs: int, rule: str, n_trainable: int) -> Prediction:
    sizes = {name: value.numel() for name, value in case.frozen.encoder.named_parameters()}
    beside = 0 if case.name in ("full", "scratch") else sum(sizes[name] for name in case.frozen.used)
    return Prediction(
        classes=np.empty(0, str) if case.data.classes is None else case.data.classes,
        windows_N=case.parts["test"],
        proba_NL=said_NL,
        n_fits=n_fits,
        n_epochs=n_epochs,
        rule=rule,
        n_trainable=n_trainable,
        n_parameters=beside + n_trainable,
    )


def _made(case: _Case, make_encoder: Callable[[], Encoder]) -> Encoder:
    """The encoder to be trained, which is the frozen one, or for `scratch` has nothing of it but the architecture."""
    device = case.frozen.device
    with drawn_from(case.seed, device=device):
        encoder = deepcopy(make_encoder()).to(device).requires_grad_(False)
    known, new = (dict(one.named_parameters()) for one in (case.frozen.encoder, encoder))
    if {name: value.shape for name, value in known.items()} != {name: value.shape for name, value in new.items()}:
        raise ConfigError(f"regime {case.name}: tensors differ in name or shape from the frozen model; make it alike")
    # scores of mixed-up weights look like any others, so that nobody would notice
    same = all(torch.equal(known[name], new[name]) for name in case.frozen.used)
    if case.name == "scratch" and same:
        raise ConfigError("regime scratch: the encoder has the weights of the pretrained one; make it untrained")
    if case.name != "scratch" and not same:
        raise ConfigError(f"regime {case.name}: the weights are not those of the frozen model; load the same one")
    return encoder


def _set_free(case: _Case, encoder: Encoder) -> None:
    """Make trainable what the regime trains of a frozen encoder."""
    if case.name == "lora":
        add_adapters(encoder, case.frozen.used)
        return
    for name, value in encoder.named_parameters():
        value.requires_grad_(name in case.frozen.used)


def _warm_up(case: _Case, head: AttentiveHead) -> tuple[int, int]:
    """Train the head alone, in place; epochs that are left for each candidate, and those that were spent.

    What is taken from the candidates is spent on the head, so that all together costs what it costs without.
    """
    n_settings, epochs = len(case.budget.settings), case.budget.epochs
    left = max(epochs - round(WARM_SHARE * epochs), (n_settings - 1).bit_length(), 1)
    spent = cost(n_settings, epochs) - cost(n_settings, left)
    if spent:
        learner = _head_learner(case, head, case.budget.settings[0], state=True)
        learner.train(spent)
        head.load_state_dict({name.removeprefix("head."): value.cpu() for name, value in learner.state.items()}, False)
    return left, spent


def _new_head(case: _Case, encoder: Encoder) -> AttentiveHead:
    """A head with weights drawn from the seed; it standardises tokens as they are in training at the start."""
    kept = case.frozen.tokens if case.name != "scratch" else []  # an untrained encoder has tokens of its own
    read: nn.Module = nn.Identity() if kept else encoder.eval()
    mean_D, sd_D = token_statistics(read, kept or case.frozen.groups, case.parts["train"], device=case.frozen.device)
    with drawn_from(case.seed):
        return AttentiveHead(mean_D, sd_D, n_outputs=case.goal.n_outputs)


def _head_learner(case: _Case, head: AttentiveHead, setting: Setting, *, state: bool = False) -> Learner:
    if case.frozen.tokens:
        return _learner(case, deepcopy(head), case.frozen.tokens, setting, state=state)
    network = Reader(case.frozen.encoder, deepcopy(head), frozen=True)
    return _learner(case, network, case.frozen.groups, setting, state=state)


def _learner(
    case: _Case,
    network: nn.Module,
    groups: Sequence[Group],
    setting: Setting,
    *,
    slow: dict[str, float] | None = None,
    state: bool = False,
) -> Learner:
    training = Training(
        network,
        groups,
        case.goal,
        parts=case.parts,
        setting=setting,
        seed=case.seed,
        batch_size=case.budget.batch_size,
        slow=slow,
        device=case.frozen.device,
    )
    return Learner(training, state=state)
