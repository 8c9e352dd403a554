import json
from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.signals.preprocess import preprocess_meeg
from neuroloom.signals.quality import MeegQc
from neuroloom.signals.streams import round_mantissa

CONFIG = MeegConfig(sfreq=200.0, mantissa_bits=None, ocular="none", muscle="none")


def cleaned(recording: Recording, *, file: str = "a", **changes: object) -> tuple[Recording, MeegQc]:
    config = CONFIG.model_copy(update=changes)
    rng = np.random.default_rng(0)
    clean, qc = preprocess_meeg(recording=recording, config=config, window=5.0, file=file, rng=rng)
    return clean.load(), qc


def spoil(recording: Recording, channel: int, values: np.ndarray | float) -> Recording:
    signal_CT = recording.signal_CT.copy()
    signal_CT[channel] = values
    return replace(recording, signal_CT=signal_CT)


def test_a_clean_recording_has_no_bads(recording: Recording) -> None:
    clean, qc = cleaned(recording)
    assert qc.bads == {}
    assert (clean.sfreq, clean.signal_CT.shape, clean.reference) == (200.0, (19, 4000), "average")
    assert set(clean.status) == {"good"}


@pytest.mark.parametrize(
    ("factor", "reason"), [(0.0, "dead"), (1e-3, "flat"), (30.0, "noisy")], ids=["dead", "flat", "noisy"]
)
def test_bad_channels_are_found_with_their_reason(
    recording: Recording, rng: np.random.Generator, factor: float, reason: str
) -> None:
    broken = spoil(recording, 5, factor * 10e-6 * rng.standard_normal(recording.signal_CT.shape[1]))
    clean, qc = cleaned(broken)
    assert list(qc.bads) == [recording.ch_names[5]]
    assert qc.bads[recording.ch_names[5]].startswith(reason)
    assert clean.status[5].startswith(f"interpolated: {reason}")


def test_interpolation_brings_a_lost_channel_back(recording: Recording) -> None:
    """Neighbours share their signal in the fixture, so that a lost channel can be told from them."""
    truth, _ = cleaned(recording)
    mended, _ = cleaned(spoil(recording, 9, 0.0))
    assert np.corrcoef(truth.signal_CT[9], mended.signal_CT[9])[0, 1] > 0.8


def test_without_interpolation_bads_stay_bad_and_out_of_the_reference(
    recording: Recording, rng: np.random.Generator
) -> None:
    broken = spoil(recording, 5, 1e-3 * rng.standard_normal(recording.signal_CT.shape[1]))
    clean, _ = cleaned(broken, interpolate=False)
    assert clean.status[5].startswith("bad: noisy")
    others = np.delete(clean.signal_CT, 5, axis=0)
    assert np.abs(others.mean(axis=0)).max() < 1e-9


def test_the_average_reference_sums_to_zero(recording: Recording) -> None:
    clean, _ = cleaned(recording)
    assert np.abs(clean.signal_CT.mean(axis=0)).max() < 1e-9


def test_mains_goes_and_its_figures_say_so(recording: Recording) -> None:
    times = np.arange(recording.signal_CT.shape[1]) / recording.sfreq
    hum = replace(
        recording,
        signal_CT=(recording.signal_CT + 20e-6 * np.sin(2 * np.pi * 50 * times)).astype(np.float32),
        line_freq=None,
    )
    _, qc = cleaned(hum)
    assert (qc.line_freq, qc.line_source) == (50.0, "detected")
    assert qc.line_db_before - qc.line_db_after > 30


def test_a_slow_recording_lowers_the_low_pass_and_says_so(recording: Recording) -> None:
    slow = replace(recording, sfreq=125.0)
    _, qc = cleaned(slow)
    assert qc.h_freq == pytest.approx(0.9 * 62.5)


def test_few_missing_samples_are_filled_and_many_make_a_channel_bad(recording: Recording) -> None:
    signal_CT = recording.signal_CT.copy()
    signal_CT[2, 100:200] = np.nan
    signal_CT[3, :2000] = np.nan
    clean, qc = cleaned(replace(recording, signal_CT=signal_CT))
    assert list(qc.bads) == [recording.ch_names[3]]
    assert qc.bads[recording.ch_names[3]] == "missing (40% of samples)"
    assert qc.nan_fraction == pytest.approx(2100 / signal_CT.size)
    assert np.isfinite(clean.signal_CT).all()


def test_too_many_bads_quarantine_the_recording(recording: Recording) -> None:
    signal_CT = recording.signal_CT.copy()
    signal_CT[:10] = 0.0
    with pytest.raises(UnusableRecording, match=r"x\.edf: 10 of 19 channels are bad"):
        cleaned(replace(recording, signal_CT=signal_CT), file="x.edf")


def test_channels_that_are_not_of_the_body_stay_behind(recording: Recording) -> None:
    mixed = replace(recording, ch_types=["misc", "eog"] + ["eeg"] * 17)
    clean, qc = cleaned(mixed)
    assert clean.ch_names == recording.ch_names[1:]
    assert qc.left_behind == recording.ch_names[:1]
    assert np.abs(clean.signal_CT[1:].mean(axis=0)).max() < 1e-9, "the reference is of EEG alone"


def test_the_row_holds_scalars(recording: Recording) -> None:
    _, qc = cleaned(spoil(recording, 5, 0.0))
    row = qc.row()
    assert json.loads(row["bads"]) == qc.bads
    assert row["n_bads"] == 1
    assert all(value is None or isinstance(value, (str, int, float)) for value in row.values())


@pytest.mark.parametrize("bits", [4, 10, 22])
def test_rounding_errs_by_at_most_half_a_step(rng: np.random.Generator, bits: int) -> None:
    signal_CT = (rng.standard_normal((3, 1000)) * 20e-6).astype(np.float32)
    rounded = round_mantissa(signal_CT, bits)
    error = np.abs(rounded.astype(np.float64) - signal_CT) / np.abs(signal_CT)
    assert 0.2 * 2.0 ** -(bits + 1) < error.max() <= 2.0 ** -(bits + 1)
    assert (rounded.view(np.uint32) & np.uint32((1 << (23 - bits)) - 1) == 0).all()


def test_rounding_leaves_zero_missing_and_round_values_alone() -> None:
    values = np.array([[0.0, np.nan, 1.0, -0.5, np.inf]], np.float32)
    np.testing.assert_array_equal(round_mantissa(values, 10), values)


def test_without_a_number_of_bits_nothing_is_rounded(rng: np.random.Generator) -> None:
    signal_CT = rng.standard_normal((3, 100)).astype(np.float32)
    assert round_mantissa(signal_CT, None) is signal_CT
