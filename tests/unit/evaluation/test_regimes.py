"""Each regime reads what was planted, trains what it declares, and knows nothing of the test."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuroloom.evaluation import regimes
from neuroloom.evaluation.halving import cost
from neuroloom.evaluation.networks import Budget
from neuroloom.evaluation.regimes import REGIMES, Frozen, run_regime
from neuroloom.evaluation.splits import LeakError
from neuroloom.schema import ConfigError

QUICK = Budget(epochs=12, candidates=2, learning_rates=(1e-2, 3e-3), batch_size=16)
TRAINED = ("attentive", "lora", "full", "scratch")


def run(name: str, encoder: Any, examples: Any, frozen: Any = None, *, seed: int = 1, **given: Any) -> Any:
    made = (lambda: type(encoder)(seed + 50)) if name == "scratch" else lambda: encoder
    frozen = Frozen(encoder, examples) if frozen is None else frozen
    return run_regime(name, made, examples, frozen, seed=seed, **{"budget": QUICK, **given})


def accuracy(made: Any, examples: Any) -> float:
    predicted = made.classes[made.proba_NL.argmax(axis=1)]
    return float(np.mean(predicted == examples.labels_W[made.windows_N]))


@pytest.mark.parametrize("name", REGIMES)
def test_a_planted_wave_is_read_with_the_declared_numbers(
    name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng), toy_encoder()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    made = run(name, encoder, examples)
    assert made.windows_N.tolist() == np.flatnonzero(examples.parts_W == "test").tolist()
    assert made.proba_NL.sum(axis=1) == pytest.approx(1.0, abs=1e-6)
    assert accuracy(made, examples) > 0.8
    base = 20 * 12 + 12 + 6 * 12 + 12 + 36 * 12 + 12 * 12 + 12  # what tokens depend on
    head, adapters = 12 + 12 + 2 * 13, 12 * (36 + 12) + 12 * 24  # rank is the smaller side
    expected = {"linear": 13, "attentive": head, "lora": head + adapters, "full": base + head, "scratch": base + head}
    assert made.n_trainable == expected[name]
    assert made.n_parameters == made.n_trainable + (0 if name in ("full", "scratch") else base)
    assert made.n_fits == 2
    assert made.n_epochs == (0 if name == "linear" else cost(2, 12))  # the same for all, and for the baselines
    assert "on validation, ties to the" in made.rule
    assert all(torch.equal(encoder.state_dict()[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", REGIMES)
def test_test_labels_and_test_signals_do_not_reach_the_fit(
    name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng, n=6), toy_encoder(dropout=0.2)
    tested = np.flatnonzero(examples.parts_W == "test")
    labels = examples.labels_W.copy()
    labels[tested] = np.where(labels[tested] == "left", "right", "left")
    one, other = (run(name, encoder, data) for data in (examples, replace(examples, labels_W=labels)))
    assert (one.proba_NL == other.proba_NL).all()
    assert one.rule == other.rule
    for window in tested[1:]:
        examples.corpus[examples.recording_W[window]].signal_NCT[examples.segment_W[window]] *= 50
    spoilt = run(name, encoder, examples)
    np.testing.assert_allclose(spoilt.proba_NL[0], one.proba_NL[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", TRAINED)
def test_a_seed_repeats_and_leaves_the_global_generator_alone(
    name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng, n=6), toy_encoder(dropout=0.2)
    frozen = Frozen(encoder, examples)
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    one, same, other = (run(name, encoder, examples, frozen, seed=seed) for seed in (4, 4, 5))
    assert torch.rand(1) == expected
    assert (one.proba_NL == same.proba_NL).all()
    assert (one.proba_NL != other.proba_NL).any()


def test_shuffled_labels_score_at_chance(toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    examples, encoder = toy_examples(rng, n=24), toy_encoder()
    frozen = Frozen(encoder, examples)
    for name in REGIMES:
        hits = []
        for _ in range(5):
            shuffled = replace(examples, labels_W=rng.permutation(examples.labels_W))
            short = replace(QUICK, epochs=3)
            hits.append(accuracy(run(name, encoder, shuffled, frozen, budget=short), shuffled))
        assert np.mean(hits) == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(5 * 48)), name


@pytest.mark.parametrize("name", ["linear", "scratch"])
def test_a_planted_label_leak_is_refused_and_would_have_fooled_the_score(
    name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = toy_examples(rng, effect=0.0)
    shuffled = replace(examples, labels_W=rng.permutation(examples.labels_W))  # labels without meaning
    for window, label in enumerate(shuffled.labels_W):
        at, row = shuffled.recording_W[window], shuffled.segment_W[window]
        shuffled.corpus[at].signal_NCT[row, 1] += 4.0 * (label == "left")
    with pytest.raises(LeakError, match="is the label"):
        run(name, toy_encoder(), shuffled)
    monkeypatch.setattr(regimes, "check_levels", lambda *given: None)
    monkeypatch.setattr(regimes, "check_label_leak", lambda *given, **more: None)
    assert accuracy(run(name, toy_encoder(), shuffled), shuffled) > 0.95


@pytest.mark.parametrize("name", REGIMES)
def test_a_planted_overlap_is_refused(name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    examples = toy_examples(rng, n=6)
    parts_W = examples.parts_W.copy()
    parts_W[0] = "test"
    planted = replace(examples, parts_W=parts_W)
    with pytest.raises(LeakError, match="participant s0 is in train and in test"):
        run(name, toy_encoder(), planted)
    assert len(run(name, toy_encoder(), planted, within=True, budget=replace(QUICK, epochs=2)).windows_N) == 13


@pytest.mark.parametrize("name", ["linear", "attentive", "lora"])
def test_a_forgotten_freeze_is_found(name: str, toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    class Stubborn(toy_encoder):  # type: ignore[misc]
        def requires_grad_(self, requires_grad: bool = True) -> Any:
            return self

    with pytest.raises(ConfigError, match=rf"regime {name}: [\d,]+ parameters would be trained, it has [\d,]+"):
        run(name, Stubborn(), toy_examples(rng, n=6))


def test_pretrained_and_untrained_are_not_mixed_up(
    toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng, n=4), toy_encoder()
    frozen = Frozen(encoder, examples)
    given = {"seed": 1, "budget": QUICK}
    with pytest.raises(ConfigError, match="has the weights of the pretrained one"):
        run_regime("scratch", lambda: encoder, examples, frozen, **given)
    with pytest.raises(ConfigError, match="tensors differ in name or shape"):
        run_regime("scratch", lambda: toy_encoder(1, width=8), examples, frozen, **given)
    with pytest.raises(ConfigError, match="regime lora: the weights are not those of the frozen model"):
        run_regime("lora", lambda: toy_encoder(1), examples, frozen, **given)


def test_signals_are_read_and_tokens_made_once(toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    examples, encoder = toy_examples(rng, n=6), toy_encoder()
    frozen = Frozen(encoder, examples)
    reads, calls = [list(pieces.reads) for pieces in examples.corpus], frozen.encoder.calls
    assert reads == [list(range(6))] * 10
    for name in REGIMES:
        for seed in (1, 2):
            few = examples.with_train(["r0", "r1", "r2"])
            run(name, encoder, few, frozen, seed=seed, budget=replace(QUICK, epochs=2))
    assert [pieces.reads for pieces in examples.corpus] == reads
    assert frozen.encoder.calls == calls


def test_tokens_that_are_too_many_are_halved_or_made_anew(
    toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng), toy_encoder()
    whole = Frozen(encoder, examples)
    n_bytes = sum(4 * group.inputs[0].numel() for group in whole.tokens)
    half, none = (Frozen(encoder, examples, max_bytes=limit) for limit in (n_bytes - 1, n_bytes // 2 - 1))
    assert {group.inputs[0].dtype for group in half.tokens} == {torch.bfloat16}
    assert none.tokens == []
    assert (half.features_WD == whole.features_WD).all()
    for name in ("attentive", "full"):
        one, rounded, anew = (run(name, encoder, examples, frozen) for frozen in (whole, half, none))
        np.testing.assert_allclose(anew.proba_NL, one.proba_NL, rtol=0, atol=1e-3)
        assert accuracy(rounded, examples) > 0.8


def test_numbers_are_regressed_in_all_regimes(toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    def ages(code_W: Any, rng: np.random.Generator) -> Any:
        return 40.0 + 10.0 * code_W + rng.standard_normal(len(code_W))

    examples, encoder = toy_examples(rng, n=16, labels=ages), toy_encoder()
    frozen = Frozen(encoder, examples)
    for name in REGIMES:
        made = run(name, encoder, examples, frozen)
        assert len(made.classes) == 0
        true_N, said_N = examples.labels_W[made.windows_N], made.proba_NL[:, 0]
        assert 1 - np.mean((true_N - said_N) ** 2) / np.var(true_N) > 0.25, name
        assert "squared error" in made.rule


def test_the_head_alone_comes_first_where_the_encoder_is_tuned(
    toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples = toy_examples(rng, n=6)
    made = run("full", toy_encoder(), examples, budget=Budget(epochs=20))
    assert cost(4, 20) - cost(4, 15) == 14
    assert "first 14 epochs of the head alone" in made.rule
    assert made.n_epochs == cost(4, 20)


def test_misuse_is_refused(toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    examples, encoder = toy_examples(rng, n=4), toy_encoder()
    frozen = Frozen(encoder, examples)
    with pytest.raises(ConfigError, match="regime probe: there is none"):
        run("probe", encoder, examples, frozen)
    with pytest.raises(ConfigError, match="one class in training"):
        run("linear", encoder, replace(examples, labels_W=examples.parts_W), frozen)
    with pytest.raises(ValueError, match="not those that were frozen"):
        run("linear", encoder, examples.subset(np.arange(20)), frozen)
    with pytest.raises(ConfigError, match="1 epochs for 4 candidates"):
        run("attentive", encoder, examples, frozen, budget=Budget(epochs=1))
