"""Each baseline reads a planted rhythm from people it does not know, and says what it was given to do so."""

from typing import Any

import numpy as np
import pytest

from neuroloom.config import ConfigError
from neuroloom.evaluation.baselines import BASELINES, Budget, band_power, run_baseline
from neuroloom.evaluation.splits import LeakError

SFREQ = 100.0
QUICK = Budget(epochs=20, learning_rates=(1e-3, 3e-3), weight_decays=(1e-2,), components=(4, 2), penalties=(0.1, 0.01))


def signals(rng: np.random.Generator, *, n_people: int = 8, n: int = 24) -> tuple[Any, Any, Any, Any]:
    """Seven channels, average reference, volts; the class is the power of 10 Hz in two of the mixed sources."""
    person_W = np.repeat(np.arange(n_people), n)
    labels = np.where(np.tile(np.arange(n), n_people) % 2, "left", "right")
    wave_WT = np.sin(2 * np.pi * (10 * np.arange(200) / SFREQ + rng.random((len(labels), 1))))
    source_WCT = rng.standard_normal((len(labels), 7, 200))
    source_WCT[:, 0] += np.where(labels == "left", 2.0, 0.2)[:, None] * wave_WT
    source_WCT[:, 1] += np.where(labels == "right", 2.0, 0.2)[:, None] * wave_WT
    mixing_CC = np.eye(7) + 0.4 * rng.standard_normal((7, 7))
    x_WCT = 1e-5 * np.einsum("cd,wdt->wct", mixing_CC, source_WCT)
    parts = np.array(["train", "train", "validation", "test"])[person_W % 4]
    return x_WCT - x_WCT.mean(axis=1, keepdims=True), labels, person_W.astype(str), parts


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "majority"])
def test_a_planted_rhythm_is_read(name: str, rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng)
    made = run_baseline(name, x_WCT, labels, people, parts, sfreq=SFREQ, rng=rng, budget=QUICK)
    predicted = made.classes[made.proba_NL.argmax(axis=1)]
    assert made.windows_N.tolist() == np.flatnonzero(parts == "test").tolist()
    assert made.proba_NL.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert np.mean(predicted == labels[made.windows_N]) > (0.7 if name == "shallow" else 0.85)
    assert made.n_epochs == (40 if name in ("eegnet", "shallow") else 0)  # two settings in one round
    assert made.n_fits == (4 if name == "band_power_lda" else 2)
    assert (made.n_trainable > 100) == (name in ("eegnet", "shallow"))
    assert "balanced accuracy on validation" in made.rule


def test_everyone_gets_as_many_candidates(rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng, n_people=4, n=8)
    budget = Budget(epochs=3, candidates=3)
    fits = {
        name: run_baseline(name, x_WCT, labels, people, parts, sfreq=SFREQ, rng=rng, budget=budget)
        for name in BASELINES
        if name != "majority"
    }
    assert {name: made.n_fits for name, made in fits.items()} == dict.fromkeys(fits, 3)
    assert {fits[name].n_epochs for name in ("eegnet", "shallow")} == {3 + 2 * 2}


@pytest.mark.parametrize("name", ["band_power_lda", "csp_lda", "riemann"])
def test_shuffled_labels_are_not_read(name: str, rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng, n_people=12)
    hits = []
    for _ in range(4):
        shuffled = rng.permutation(labels)
        made = run_baseline(name, x_WCT, shuffled, people, parts, sfreq=SFREQ, rng=rng, budget=QUICK)
        hits.append(np.mean(made.classes[made.proba_NL.argmax(axis=1)] == shuffled[made.windows_N]))
    assert np.mean(hits) == pytest.approx(0.5, abs=3 * 0.5 / np.sqrt(4 * 72))


def test_the_majority_knows_training_only(rng: np.random.Generator) -> None:
    x_WCT, _, people, parts = signals(rng)
    labels = np.where((parts == "train") & (np.arange(len(parts)) % 4 > 0), "b", "a")
    made = run_baseline("majority", x_WCT, labels, people, parts, sfreq=SFREQ, rng=rng)
    assert made.proba_NL[0] == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("name", ["riemann", "eegnet"])
def test_the_test_part_does_not_reach_the_fit(name: str, rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng, n_people=4)
    changed, given = x_WCT.copy(), {"sfreq": SFREQ, "budget": QUICK}
    tested = np.flatnonzero(parts == "test")
    changed[tested[1:]] *= 100
    one, other = (
        run_baseline(name, x, labels, people, parts, rng=np.random.default_rng(4), **given) for x in (x_WCT, changed)
    )
    assert one.proba_NL[0] == pytest.approx(other.proba_NL[0], abs=1e-5)


def test_networks_repeat_and_leave_the_global_generator_alone(rng: np.random.Generator) -> None:
    import torch

    x_WCT, labels, people, parts = signals(rng)
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    short = Budget(epochs=2)
    one, other = (
        run_baseline("eegnet", x_WCT, labels, people, parts, sfreq=SFREQ, rng=np.random.default_rng(4), budget=short)
        for _ in range(2)
    )
    assert torch.rand(1) == expected
    assert (one.proba_NL == other.proba_NL).all()


def test_leaks_and_misuse_are_refused(rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng)
    planted, broken_WCT = parts.copy(), x_WCT.copy()
    planted[0], broken_WCT[3, 0, 0] = "test", np.nan
    with pytest.raises(LeakError, match="participant 0 is in train and in test"):
        run_baseline("majority", x_WCT, labels, people, planted, sfreq=SFREQ, rng=rng)
    with pytest.raises(ConfigError, match="baseline svm"):
        run_baseline("svm", x_WCT, labels, people, parts, sfreq=SFREQ, rng=rng)
    with pytest.raises(ConfigError, match="one class in training"):
        run_baseline("riemann", x_WCT, parts, people, parts, sfreq=SFREQ, rng=rng)
    with pytest.raises(ValueError, match="features of 1 of"):
        run_baseline("riemann", broken_WCT, labels, people, parts, sfreq=SFREQ, rng=rng)
    broken_WCT[3] = 0.0
    with pytest.raises(ValueError, match="1 windows hold no signal"):
        run_baseline("riemann", broken_WCT, labels, people, parts, sfreq=SFREQ, rng=rng)


def test_a_flat_channel_is_survived(rng: np.random.Generator) -> None:
    x_WCT, labels, people, parts = signals(rng)
    x_WCT[:, 2] = 0.0
    for name in ("band_power_lda", "csp_lda", "riemann"):
        made = run_baseline(name, x_WCT, labels, people, parts, sfreq=SFREQ, rng=rng, budget=QUICK)
        assert np.mean(made.classes[made.proba_NL.argmax(axis=1)] == labels[made.windows_N]) > 0.8


def test_band_power_has_a_number_for_each_band(rng: np.random.Generator) -> None:
    x_WCT = 1e-5 * np.sin(2 * np.pi * 10 * np.arange(400) / 200.0) + 1e-7 * rng.standard_normal((2, 3, 400))
    assert band_power(x_WCT, 200.0).reshape(2, 3, 5).argmax(axis=2).tolist() == [[2] * 3] * 2  # alpha
    assert band_power(x_WCT, 60.0).shape == (2, 12)  # low gamma starts beyond what 60 Hz can show
    with pytest.raises(ValueError, match="longer"):
        band_power(x_WCT[..., :40], 200.0)
