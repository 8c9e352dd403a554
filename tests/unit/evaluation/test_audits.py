"""Audits tell where a score came from: the band, the slope, the eyes, the person."""

from typing import Any

import numpy as np
import pytest

from neuroloom.evaluation.alterations import changes
from neuroloom.evaluation.audits import audit_table, signal_audit_table
from neuroloom.evaluation.examples import Examples
from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.evaluation.regimes import Frozen

SFREQ = 200.0
QUICK = ProbeSettings(penalties=(0.1, 0.01), n_permutations=30, n_resamples=30)
NAMES = ["Fp1", "Fp2", "AF7", "C3", "C4", "Oz"]


def noise(rng: np.random.Generator, shape: tuple[int, ...], exponent: Any = 1.0) -> Any:
    """Noise of unit SD whose power falls with this exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(shape), axis=-1)
    freqs_F = np.maximum(np.fft.rfftfreq(shape[-1], 1 / SFREQ), 0.5)
    x = np.fft.irfft(spectrum / freqs_F ** (np.asarray(exponent)[..., None] / 2), shape[-1], axis=-1)
    return (x / x.std(axis=-1, keepdims=True)).astype(np.float32)


def wave(freq: float, rng: np.random.Generator, count: int, n_times: int = 400) -> Any:
    return np.sqrt(2) * np.sin(2 * np.pi * (freq * np.arange(n_times) / SFREQ + rng.random((count, 1))))


def recordings(rng: np.random.Generator, toy_pieces: Any, plant: Any, *, n_people: int = 10, n: int = 20) -> Examples:
    """Windows of 2 s on six channels; `plant` puts the class of each into the signal."""
    place_C6 = np.zeros((6, 6), np.float32)
    place_C6[:, :2] = [[-0.03, 0.1], [0.03, 0.1], [-0.05, 0.08], [-0.06, 0], [0.06, 0], [0, -0.1]]
    code_NW = np.stack([rng.permutation(np.arange(n) % 2) for _ in range(n_people)])
    corpus = [
        toy_pieces(f"r{at}", plant(code_N).astype(np.float32), NAMES, place_C6, SFREQ)
        for at, code_N in enumerate(code_NW)
    ]
    person_W = np.repeat(np.arange(n_people), n)
    return Examples(
        corpus=corpus,
        recording_W=person_W,
        segment_W=np.tile(np.arange(n), n_people),
        labels_W=np.where(code_NW.ravel() == 1, "closed", "open"),
        participants_W=np.array([f"s{person}" for person in person_W]),
        parts_W=np.array(["train", "train", "train", "validation", "test"])[person_W % 5],
    )


def scores(table: Any) -> dict[str, float]:
    rows = table[(table["probe"] == "linear") & (table["metric"] == "balanced_accuracy")]
    return dict(zip(rows["audit"], rows["score"], strict=True))


def test_audits_name_the_band_that_a_score_was_read_from(toy_pieces: Any, rng: np.random.Generator) -> None:
    def plant(code_N: Any) -> Any:
        x_NCT = noise(rng, (len(code_N), 6, 400))
        x_NCT[:, 5] += np.where(code_N == 1, 1.5, 0.2)[:, None] * wave(10.0, rng, len(code_N))
        return x_NCT

    examples = recordings(rng, toy_pieces, plant)
    table = signal_audit_table(examples, target="eyes", rng=rng, settings=QUICK, sites_W=examples.participants_W)
    found = scores(table)
    assert list(found) == ["none", "identity", "site", *changes("reve", SFREQ)]
    assert min(found[name] for name in ("none", "alpha only", "without frontal", "no 1/f of recordings")) > 0.9
    others = ("delta only", "theta only", "beta only", "low gamma only", "frontal only")
    assert max(found[name] for name in others) < 0.75
    assert found["identity"] < 0.4
    assert np.isnan(found["site"])  # one participant each
    assert "left out, with one participant" in table.loc[table["audit"] == "site", "note"].iloc[0]


def test_audits_name_the_eyes(toy_pieces: Any, rng: np.random.Generator) -> None:
    def plant(code_N: Any) -> Any:
        x_NCT = noise(rng, (len(code_N), 6, 400))
        x_NCT[:, :3] += np.where(code_N == 1, 2.0, 0.2)[:, None, None] * wave(2.5, rng, len(code_N))[:, None]
        return x_NCT

    found = scores(signal_audit_table(recordings(rng, toy_pieces, plant), target="x", rng=rng, settings=QUICK))
    assert "site" not in found
    assert min(found[name] for name in ("none", "frontal only", "delta only")) > 0.9
    assert max(found[name] for name in ("without frontal", "low gamma only")) < 0.75


def test_audits_name_the_slope(toy_pieces: Any, rng: np.random.Generator) -> None:
    """A slope that changes between windows goes with their own slope, not with that of the recording."""

    def plant(code_N: Any) -> Any:
        return noise(rng, (len(code_N), 6, 400), np.repeat(np.where(code_N == 1, 1.5, 0.7)[:, None], 6, axis=1))

    found = scores(signal_audit_table(recordings(rng, toy_pieces, plant), target="x", rng=rng, settings=QUICK))
    assert min(found["none"], found["no 1/f of recordings"]) > 0.95
    assert found["no 1/f of windows"] < 0.8


def test_an_encoder_is_audited_by_its_frozen_features(
    toy_pieces: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    def plant(code_N: Any) -> Any:
        wave_T = np.sqrt(2) * np.sin(2 * np.pi * 10 * np.arange(400) / SFREQ)
        x_NCT = noise(rng, (len(code_N), 6, 400))
        x_NCT[:, 3] += 1.5 * (2 * code_N - 1)[:, None] * wave_T
        return x_NCT

    examples, encoder = recordings(rng, toy_pieces, plant, n=12), toy_encoder()
    frozen = Frozen(encoder, examples)
    given = {"target": "x", "settings": QUICK}
    table = audit_table(encoder, examples, frozen, rng=np.random.default_rng(1), **given)
    found = scores(table)
    assert list(found) == ["none", "identity", *changes("brainomni", SFREQ)]
    assert min(found[name] for name in ("none", "alpha only", "without frontal")) > 0.85
    assert max(found[name] for name in ("beta only", "frontal only")) < 0.8
    again = audit_table(encoder, examples, rng=np.random.default_rng(1), **given)
    assert scores(again) == pytest.approx(found, nan_ok=True)
    with pytest.raises(ValueError, match="not those that were frozen"):
        audit_table(encoder, examples.subset(np.arange(30)), frozen, rng=rng, **given)


def test_an_audit_that_cannot_be_made_says_why(toy_pieces: Any, rng: np.random.Generator) -> None:
    examples = recordings(rng, toy_pieces, lambda code_N: noise(rng, (len(code_N), 6, 400)), n=10)
    for pieces in examples.corpus:
        pieces.ch_names = ["Fp1", "Fp2", "Fpz", "AF7", "AF3", "AF4"]
    table = signal_audit_table(examples, target="x", rng=rng, settings=QUICK)
    missing = table[table["audit"] == "without frontal"]
    assert missing["score"].isna().all()
    assert "no channel is left by the frontal audit" in missing["note"].iloc[0]
    assert "low gamma only" not in changes("reve", 80.0)  # 36 Hz at most
