from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.records import Array, Recording
from neuroloom.signals.bads import find_bads, robust_z
from neuroloom.signals.survey import survey

QUIET = MeegConfig(bridged_share=None, uncorrelated=None)


def found(recording: Recording, channel: int, values_T: Array, *, config: MeegConfig | None = None) -> dict[str, str]:
    signal_CT = recording.signal_CT.copy()
    signal_CT[channel] = values_T
    spoilt = replace(recording, signal_CT=signal_CT)
    return find_bads(spoilt, survey(signal_CT, recording.sfreq), signal_CT, config=config or MeegConfig())


def test_robust_z_is_not_moved_by_outliers() -> None:
    sample = np.array([1.0, 1.2, 0.8, 1.1, 0.9, 50.0])
    assert robust_z(2.0, sample) == pytest.approx(robust_z(2.0, sample[:-1]), rel=0.5)
    assert robust_z(1.05, np.ones(5)) == pytest.approx(0.5), "ten per cent is the smallest SD"


def test_a_clean_recording_has_none(recording: Recording) -> None:
    assert found(recording, 0, recording.signal_CT[0]) == {}


def test_a_quiet_channel_deviates(recording: Recording) -> None:
    bads = found(recording, 5, 0.03 * recording.signal_CT[5])
    assert list(bads) == ["F4"]
    assert bads["F4"].startswith("deviating (SD")
    assert bads["F4"].endswith("below the others)")


def test_a_channel_that_sees_something_else_is_uncorrelated(recording: Recording, rng: np.random.Generator) -> None:
    stranger_T = recording.signal_CT[9, rng.permutation(recording.signal_CT.shape[1])]
    bads = found(recording, 9, stranger_T)
    assert list(bads) == ["Cz"]
    assert bads["Cz"].startswith("uncorrelated (r 0.")
    assert found(recording, 9, stranger_T, config=QUIET) == {}


def test_bridged_electrodes_name_each_other(recording: Recording) -> None:
    bads = found(recording, 9, 1.01 * recording.signal_CT[10])
    assert sorted(bads) == ["C4", "Cz"]
    assert bads["Cz"].startswith("bridged with C4 (their difference has 1.0% of the SD)")
    assert found(recording, 9, 1.01 * recording.signal_CT[10], config=QUIET) == {}


def test_the_marks_of_the_file_stay(recording: Recording) -> None:
    marked = replace(recording, status=["bad: marked in the file"] + ["good"] * 18)
    assert found(marked, 0, recording.signal_CT[0]) == {"Fp1": "marked in the file"}


def test_the_survey_sees_gaps_levels_and_constants(recording: Recording) -> None:
    signal_CT = recording.signal_CT + np.float32(1.0)
    signal_CT[1, :2500], signal_CT[2], signal_CT[3] = np.nan, np.nan, 7.0
    seen = survey(signal_CT, recording.sfreq)
    np.testing.assert_allclose(seen.level_C[:4], [1.0, 1.0, 0.0, 7.0], atol=1e-4)
    np.testing.assert_allclose(seen.missing_C[:4], [0.0, 0.5, 1.0, 0.0], atol=0.01)
    np.testing.assert_array_equal(seen.constant_C[:4], [False, False, True, True])
    assert np.isfinite(seen.psd_CF).all()
