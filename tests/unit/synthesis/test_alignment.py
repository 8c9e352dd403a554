from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.bold.hrf import estimate_lag, hrf_response, read_at
from neuroloom.bold.preprocess import preprocess_parcels
from neuroloom.bold.scrubbing import with_censored
from neuroloom.config import BoldConfig
from neuroloom.manifest import ArtifactError
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Confounds, Events, ParcelSeries, Recording
from neuroloom.synthesis.alignment import AlignedSeries, Alignment, align

N_VOLUMES, T_R, START, SFREQ = 40, 2.0, 3.0, 50.0
EVERY = np.arange(N_VOLUMES)


def triggers(onset: np.ndarray, label: str = "R128") -> Events:
    return Events(onset, np.zeros(len(onset)), [label] * len(onset))


def eeg(events: Events, *, seconds: float = 90.0, **changes: Any) -> Recording:
    n_channels = 2
    facts = {
        "signal_CT": np.zeros((n_channels, int(seconds * SFREQ)), np.float32),
        "sfreq": SFREQ,
        "ch_names": ["Cz", "Pz"],
        "ch_types": ["eeg"] * n_channels,
        "units": ["V"] * n_channels,
        "status": ["good"] * n_channels,
        "coil_C": np.ones(n_channels, np.int32),
        "loc_C12": np.zeros((n_channels, 12), np.float32),
        "events": events,
        "scanner_t_r": T_R,
    }
    return Recording(**(facts | changes))


def bold(n_volumes: int = N_VOLUMES, **changes: Any) -> ParcelSeries:
    change_PV = np.arange(3 * n_volumes, dtype=np.float32).reshape(3, n_volumes)
    change_PV[1] = np.nan
    facts = {
        "bold_PV": np.zeros((3, n_volumes), np.float32),
        "parcels": ["a", "b", "c"],
        "centroid_P3": np.zeros((3, 3), np.float32),
        "n_voxels_P": np.ones(3, np.int32),
        "t_r": T_R,
        "atlas": "made",
        "atlas_sha256": "0",
        "space": "MNI152",
        "confounds": Confounds.none(n_volumes),
        "unit": "%",
        "change_PV": change_PV,
    }
    return ParcelSeries(**(facts | changes))


def aligned(events: Events, series: ParcelSeries | None = None, **options: Any) -> Alignment:
    recording = eeg(events, **{name: options.pop(name) for name in ("seconds", "scanner_t_r") if name in options})
    return align(recording, series or bold(), file="pair x", **options)


def test_volumes_lie_where_their_triggers_are() -> None:
    found = aligned(triggers(START + T_R * EVERY))
    np.testing.assert_allclose(found.onset_V, START + T_R * EVERY, atol=1e-9)
    assert found.kept_V.all()
    assert (found.start, found.drift, found.jitter, found.n_dummies) == pytest.approx((START, 0, 0, 0), abs=1e-9)


def test_values_stand_for_a_moment_inside_the_volume() -> None:
    found = aligned(triggers(START + T_R * EVERY), bold(start_time=1.0))
    np.testing.assert_allclose(found.onset_V, START + 1.0 + T_R * EVERY, atol=1e-9)
    assert found.start == pytest.approx(START)


def test_triggers_of_slices_serve_as_well() -> None:
    found = aligned(triggers(START + T_R / 20 * np.arange(20 * N_VOLUMES)))
    np.testing.assert_allclose(found.onset_V, START + T_R * EVERY, atol=1e-9)
    assert "slice (20 a volume)" in found.notes[0]


def test_lost_triggers_are_taken_from_the_grid_and_said() -> None:
    found = aligned(triggers(np.delete(START + T_R * EVERY, [3, 17, 18])))
    np.testing.assert_allclose(found.onset_V, START + T_R * EVERY, atol=1e-6)
    assert "3 triggers missing" in found.notes[0]


def test_surplus_triggers_are_dummies_at_the_start_and_said() -> None:
    onset = START + T_R * np.arange(N_VOLUMES + 3)
    found = aligned(triggers(onset), seconds=95)
    np.testing.assert_allclose(found.onset_V, onset[3:], atol=1e-9)
    assert found.n_dummies == 3
    assert "3 triggers too many: the first are taken for dummy volumes" in found.notes


def test_a_known_count_of_dummies_leaves_the_rest_at_the_end() -> None:
    onset = START + T_R * np.arange(N_VOLUMES + 3)
    found = aligned(triggers(onset), seconds=95, dummy_volumes=2)
    np.testing.assert_allclose(found.onset_V, onset[2:-1], atol=1e-9)
    assert {"the first 2 triggers are of dummy volumes", "1 triggers after the last volume left out"} <= set(
        found.notes
    )


def test_a_given_start_needs_no_triggers_and_is_said() -> None:
    found = aligned(Events.none(), start=1.5, scanner_t_r=None)
    np.testing.assert_allclose(found.onset_V, 1.5 + T_R * EVERY)
    assert np.isnan([found.drift, found.jitter]).all()
    assert "was said to start at 1.5 s" in found.notes[0]


def test_volumes_before_the_eeg_are_not_kept() -> None:
    found = aligned(Events.none(), start=-3.0, scanner_t_r=None)
    np.testing.assert_array_equal(found.kept_V, EVERY >= 2)
    assert "2 volumes have no EEG" in found.notes


def test_censored_volumes_are_not_kept() -> None:
    censored_V = EVERY % 4 == 1
    found = aligned(triggers(START + T_R * EVERY), bold(confounds=with_censored(Confounds.none(N_VOLUMES), censored_V)))
    np.testing.assert_array_equal(found.kept_V, ~censored_V)


STIMULI = triggers(np.cumsum(np.random.default_rng(0).uniform(1, 4, 30)), "tone")


@pytest.mark.parametrize(
    ("events", "options", "reason"),
    [
        (Events.none(), {}, "no trigger repeats every 2 s.*no events"),
        (STIMULI, {}, "no trigger repeats every 2 s.*tone"),
        (triggers(START + T_R * EVERY[:-1]), {}, "39 volume triggers for 40 volumes"),
        (triggers(START + T_R * EVERY), {"dummy_volumes": 2}, "40 volume triggers .2 of them of dummy volumes. for 40"),
        (triggers(START + T_R * EVERY[:25]), {"seconds": 54.0}, "EEG ends at 54.0 s, 25 volumes into a scan of 40"),
        (Events.none(), {"start": 20.0}, "EEG ends at 90.0 s, the last volume is at 98.0 s"),
        (triggers(START + 2.5 * EVERY), {"seconds": 110.0}, "distance of the triggers is 2.5 s.*BOLD 2 s"),
        (triggers(START + 2.03 * EVERY), {}, "distance of the triggers is 2.03 s.*BOLD 2 s"),
        (triggers(START + T_R * EVERY), {"scanner_t_r": 2.5}, "scanner_t_r is 2.5 s.*BOLD 2 s"),
        (triggers(np.arange(80.0), "s"), {}, "no trigger repeats"),
        (triggers(START + T_R * np.arange(61)), {"seconds": 130}, "21 too many to be dummy volumes"),
        (
            triggers(START + T_R * EVERY),
            {"window": 70.0},
            "6 of 40 volumes can be used .0 censored.*34 with less than 70",
        ),
    ],
)
def test_what_cannot_be_aligned_is_quarantined_with_the_reason(
    events: Events, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(UnusableRecording, match=reason) as error:
        aligned(events, **options)
    assert error.value.file == "pair x"
    assert error.value.remedy


def test_one_percent_off_is_still_the_same_repetition_time() -> None:
    assert aligned(triggers(START + 2.018 * EVERY)).drift == pytest.approx(0.009)


def test_stimuli_that_are_as_regular_as_a_scanner_do_not_stand_in_its_way() -> None:
    onset = np.concatenate([START + T_R * EVERY, 1.5 * np.arange(60)])
    label = ["R128"] * N_VOLUMES + ["tone"] * 60
    found = aligned(Events(onset, np.zeros(len(onset)), label))
    np.testing.assert_allclose(found.onset_V, START + T_R * EVERY, atol=1e-9)


def test_fewer_than_ten_volumes_are_too_few() -> None:
    onset = START + T_R * EVERY[:17]
    assert aligned(triggers(onset), bold(17)).kept_V.sum() == 17
    with pytest.raises(UnusableRecording, match="9 of 16 volumes can be used"):
        aligned(triggers(onset[:16]), bold(16))


def test_a_pair_comes_back_from_its_store(tmp_path: Path) -> None:
    series = bold(start_time=0.5)
    before = AlignedSeries.of(series, aligned(triggers(START + T_R * EVERY), series), file="x")
    write_artifact(tmp_path / "p.zarr", "pair", arrays=before.arrays(), attrs=before.attrs())
    after = AlignedSeries.from_artifact(open_artifact(tmp_path / "p.zarr", kind="pair"))
    np.testing.assert_array_equal(after.bold_PV, series.change_PV)
    np.testing.assert_array_equal(after.onset_V, before.onset_V)
    np.testing.assert_array_equal(after.kept_V, before.kept_V)
    assert after.kept_V.dtype == bool
    assert (after.parcels, after.t_r, after.unit, after.facts) == (["a", "b", "c"], T_R, "%", before.facts)


def test_a_given_start_leaves_the_drift_open_in_the_store() -> None:
    alignment = aligned(Events.none(), start=1.5, scanner_t_r=None)
    facts = AlignedSeries.of(bold(), alignment, file="x").facts
    assert facts == {"start": 1.5, "drift": None, "jitter": None, "n_dummies": 0}


def test_series_without_their_values_from_before_cleaning_are_refused() -> None:
    series = replace(bold(), change_PV=None)
    with pytest.raises(ArtifactError, match=r"b\.zarr: no array 'change'.*run preprocess_bold"):
        AlignedSeries.of(series, aligned(triggers(START + T_R * EVERY)), file="b.zarr")


def test_a_lag_needs_features_for_every_parcel_and_parcels_with_values(rng: np.random.Generator) -> None:
    feature_PG, bold_PV = rng.standard_normal((3, 900)), rng.standard_normal((3, N_VOLUMES))
    given: dict[str, Any] = {"rate": 10.0, "onset_V": START + T_R * EVERY}
    with pytest.raises(ValueError, match="give one feature for each parcel"):
        estimate_lag(feature_PG[:2], bold_PV, **given)
    with pytest.raises(ValueError, match="no parcel with values in all 40 volumes"):
        estimate_lag(feature_PG, np.full_like(bold_PV, np.nan), **given)


def test_a_lag_beyond_those_tried_is_said_to_be_at_the_edge(rng: np.random.Generator) -> None:
    feature_PG, onset_V = rng.standard_normal((3, 900)), START + T_R * EVERY
    late_PV = read_at(hrf_response(feature_PG, rate=10.0, lag=3.0), rate=10.0, time_V=onset_V)
    assert estimate_lag(feature_PG, late_PV, rate=10.0, onset_V=onset_V, lags=(-1.0, 1.0, 0.1)).at_edge
    assert not estimate_lag(feature_PG, late_PV, rate=10.0, onset_V=onset_V).at_edge


def test_preprocessing_keeps_the_series_from_before_cleaning(rng: np.random.Generator) -> None:
    means_PV = (1000 + 5 * rng.standard_normal((3, N_VOLUMES)) + np.linspace(0, 30, N_VOLUMES)).astype(np.float32)
    means_PV[1] = np.nan
    series, _ = preprocess_parcels(series=bold(bold_PV=means_PV, change_PV=None), config=BoldConfig())
    expected_PV = 100 * (means_PV / means_PV.mean(axis=1, keepdims=True) - 1)
    assert series.change_PV is not None
    np.testing.assert_allclose(series.change_PV, expected_PV, atol=1e-4)
    assert np.isnan(series.change_PV[1]).all()
    assert np.ptp(series.bold_PV[0]) < np.ptp(series.change_PV[0]), "the trend is in it"
