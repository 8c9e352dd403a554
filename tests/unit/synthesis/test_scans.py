from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.config import RecordingRow
from neuroloom.manifest import ArtifactError
from neuroloom.quarantine import Quarantined, QuarantineRow, write_quarantine
from neuroloom.records import Confounds, ParcelSeries, Recording
from neuroloom.synthesis.alignment import AlignedSeries, align
from neuroloom.synthesis.pairs import Pair, find_pairs
from neuroloom.synthesis.scans import Scan, open_scan, rejected_spans, touched, usable_volumes, window, windows_at

SFREQ, T_R, START, N_VOLUMES = 250.0, 1.0, 3.1, 16
ROWS = [
    RecordingRow(study="s", site="n", subject="01", session="a", task="rest", run="2", modality=kind, path=f"{kind}.x")
    for kind in ("eeg", "bold")
]
PAIR: Pair = find_pairs(ROWS)[0]


class Counted:
    """A signal that counts how often it is read."""

    def __init__(self, signal_CT: np.ndarray) -> None:
        self.signal_CT, self.shape, self.n_reads = signal_CT, signal_CT.shape, 0

    def __getitem__(self, key: Any) -> np.ndarray:
        self.n_reads += 1
        return self.signal_CT[key]


def series() -> ParcelSeries:
    change_PV = np.random.default_rng(1).standard_normal((3, N_VOLUMES)).astype(np.float32)
    change_PV[1] = np.nan
    return ParcelSeries(
        bold_PV=np.zeros_like(change_PV),
        parcels=["a", "b", "c"],
        centroid_P3=np.eye(3, dtype=np.float32),
        n_voxels_P=np.array([9, 0, 9], np.int32),
        t_r=T_R,
        atlas="made",
        atlas_sha256="0",
        space="MNI152",
        confounds=Confounds(["trans_x"], np.ones((N_VOLUMES, 1), np.float32)),
        unit="%",
        change_PV=change_PV,
    )


@pytest.fixture
def write_stores(recording: Recording, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """Writes EEG of 20 s with one EOG channel and a rejected window, and the pair; returns their manifests."""

    def write(*, upstream: str | None = None) -> tuple[Path, Path]:
        types = ["eeg"] * 18 + ["eog"]
        eeg = replace(recording, ch_types=types, window_status=["good", "rejected: burst", "good", "good"])
        write_artifact(tmp_path / "e.zarr", "recording", arrays=eeg.arrays(), attrs=eeg.attrs(), window=1250)
        digest = open_artifact(tmp_path / "e.zarr").digest if upstream is None else upstream
        found = align(eeg, series(), file="x", start=START, window=3.0)
        pair = AlignedSeries.of(series(), found, file="x")
        attrs = pair.attrs() | {"upstream": {"eeg": digest}}
        write_artifact(tmp_path / "p.zarr", "pair", arrays=pair.arrays(), attrs=attrs)
        return tmp_path / "p.manifest.json", tmp_path / "e.manifest.json"

    return write


@pytest.fixture
def scan(write_stores: Callable[..., tuple[Path, Path]]) -> Scan:
    return open_scan(*write_stores(), PAIR)


def test_a_scan_has_the_facts_of_both_recordings(scan: Scan, recording: Recording) -> None:
    names = (scan.name, scan.study, scan.participant, scan.site, scan.session, scan.task, scan.run)
    assert names == ("s_n_sub-01_ses-a_task-rest_run-2", "s", "s/n/01", "n", "a", "rest", "2")
    assert (scan.sfreq, scan.t_r, scan.unit, scan.parcels) == (SFREQ, T_R, "%", ["a", "b", "c"])
    assert scan.ch_names == recording.ch_names[:18], "EOG is no EEG"
    np.testing.assert_array_equal(scan.position_C3, recording.position_C3[:18])
    np.testing.assert_array_equal(scan.bold_PV, series().change_PV)
    np.testing.assert_allclose(scan.onset_V, START + T_R * np.arange(N_VOLUMES))
    np.testing.assert_array_equal(scan.centroid_P3, np.eye(3))
    assert scan.confounds.names == ["trans_x"]
    assert not isinstance(scan.signal_CT, np.ndarray), "the EEG stays in its store"


def test_a_parcel_that_was_not_measured_is_nan(scan: Scan) -> None:
    np.testing.assert_array_equal(scan.filled_P, [True, False, True])


@pytest.mark.parametrize(("volume", "length"), [(0, 2.0), (7, 3.0), (15, 0.5)])
def test_a_window_ends_when_its_volume_was_measured(
    scan: Scan, recording: Recording, volume: int, length: float
) -> None:
    stop = round((START + volume * T_R) * SFREQ)
    expected_CT = np.asarray(recording.signal_CT)[:18, stop - round(length * SFREQ) : stop]
    np.testing.assert_array_equal(window(scan, volume, length), expected_CT)


def test_many_windows_are_those_one_by_one_in_one_read(scan: Scan, recording: Recording) -> None:
    counted = Counted(np.asarray(recording.signal_CT)[:18])
    loaded = replace(scan, signal_CT=counted)
    volumes = [9, 2, 2, 15]
    windows_NCT = windows_at(loaded, volumes, 2.0)
    assert counted.n_reads == 1
    assert windows_NCT.shape == (4, 18, 500)
    for found_CT, volume in zip(windows_NCT, volumes, strict=True):
        np.testing.assert_array_equal(found_CT, window(scan, volume, 2.0))
    assert windows_at(scan, [], 2.0).shape == (0, 18, 500)


def test_a_window_that_would_begin_before_the_eeg_is_refused(scan: Scan) -> None:
    with pytest.raises(ValueError, match=r"s_n_sub-01.*4 s of EEG before volume 0 at 3\.10 s.*20\.00 s \(1 such"):
        windows_at(scan, [0, 1], 4.0)
    with pytest.raises(ValueError, match="a window without a sample"):
        windows_at(scan, [5], 0.001)
    late = replace(scan, onset_V=scan.onset_V + 5)
    with pytest.raises(ValueError, match="before volume 15 at 23"):
        window(late, 15, 4.0)


def test_usable_volumes_are_those_that_windows_exist_for(scan: Scan) -> None:
    np.testing.assert_array_equal(np.flatnonzero(~usable_volumes(scan, 5.1)), [0, 1])
    assert windows_at(scan, np.flatnonzero(usable_volumes(scan, 5.1)), 5.1).shape[0] == 14
    censored = replace(scan, kept_V=np.arange(N_VOLUMES) != 6)
    np.testing.assert_array_equal(np.flatnonzero(~usable_volumes(censored, 5.1)), [0, 1, 6])


def test_windows_that_touch_rejected_eeg_are_known(scan: Scan) -> None:
    np.testing.assert_array_equal(scan.rejected_N2, [[5.0, 10.0]])
    begin_V, end_V = scan.onset_V - 2.0, scan.onset_V
    np.testing.assert_array_equal(touched(scan, 2.0), (end_V > 5) & (begin_V < 10))
    clean_V = usable_volumes(scan, 2.0, clean=True)
    np.testing.assert_array_equal(clean_V, usable_volumes(scan, 2.0) & ~touched(scan, 2.0))
    assert clean_V.sum() == 9


def test_without_judged_windows_nothing_is_rejected(scan: Scan) -> None:
    unjudged = replace(scan, rejected_N2=rejected_spans([], 5.0))
    assert unjudged.rejected_N2.shape == (0, 2)
    assert not touched(unjudged, 2.0).any()


def test_loading_keeps_the_signal(scan: Scan) -> None:
    loaded = scan.load()
    assert isinstance(loaded.signal_CT, np.ndarray)
    np.testing.assert_array_equal(window(loaded, 5, 2.0), window(scan, 5, 2.0))


def test_another_version_of_the_eeg_is_refused(write_stores: Callable[..., tuple[Path, Path]]) -> None:
    with pytest.raises(ArtifactError, match=r"aligned to EEG 0{12}.*run align_pair again"):
        open_scan(*write_stores(upstream="0" * 64), PAIR)


def test_a_quarantined_pair_says_so(write_stores: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    _, eeg = write_stores()
    write_quarantine(tmp_path / "q.manifest.json", QuarantineRow("a", "align_pair", "f", "no triggers", "do"))
    with pytest.raises(Quarantined, match="no triggers"):
        open_scan(tmp_path / "q.manifest.json", eeg, PAIR)


class Outputs(list):
    """Named outputs that can also be walked through, as Snakemake gives them."""

    def __init__(self, **named: Path) -> None:
        super().__init__(str(path) for path in named.values())
        vars(self).update({name: str(path) for name, path in named.items()})


def run_script(repository: Path, folder: Path, **options: Any) -> None:
    """The rule `align_pair` on the stores of a folder."""
    snakemake = SimpleNamespace(
        rule="align_pair",
        wildcards=SimpleNamespace(pair=PAIR.name),
        log=[str(folder / "a.log")],
        params={"align": options, "source": "0123"},
        input=SimpleNamespace(eeg=folder / "e.manifest.json", bold=folder / "b.manifest.json"),
        output=Outputs(
            store=folder / f"{PAIR.name}.zarr",
            manifest=folder / f"{PAIR.name}.manifest.json",
            qc=folder / "a.parquet",
        ),
    )
    snakemake.params = Params(snakemake.params)
    run_path(str(repository / "src" / "align_pair.py"), init_globals={"snakemake": snakemake})


class Params(dict):
    """Parameters by attribute, as Snakemake gives them."""

    __getattr__ = dict.__getitem__


def test_the_script_writes_a_pair_that_opens_as_a_scan(
    write_stores: Callable[..., tuple[Path, Path]], repository: Path, tmp_path: Path
) -> None:
    _, eeg = write_stores()
    bold = series()
    write_artifact(tmp_path / "b.zarr", "bold", arrays=bold.arrays(), attrs=bold.attrs())
    run_script(repository, tmp_path, start=START, window=3.0)
    scan = open_scan(tmp_path / f"{PAIR.name}.manifest.json", eeg, PAIR)
    np.testing.assert_array_equal(scan.bold_PV, bold.change_PV)
    (qc,) = pd.read_parquet(tmp_path / "a.parquet").to_dict("records")
    assert (qc["recording"], qc["n_volumes"], qc["n_kept"], qc["quarantined"]) == (PAIR.name, N_VOLUMES, 16, False)


def test_the_script_quarantines_a_pair_without_triggers(
    write_stores: Callable[..., tuple[Path, Path]], repository: Path, tmp_path: Path
) -> None:
    _, eeg = write_stores()
    write_artifact(tmp_path / "b.zarr", "bold", arrays=series().arrays(), attrs=series().attrs())
    run_script(repository, tmp_path)
    with pytest.raises(Quarantined, match=r"no trigger repeats every 1 s") as error:
        open_scan(tmp_path / f"{PAIR.name}.manifest.json", eeg, PAIR)
    assert (error.value.row.recording, error.value.row.stage) == (PAIR.name, "align_pair")
    assert pd.read_parquet(tmp_path / "a.parquet")["quarantined"].all()


def test_predictions_of_two_scans_stand_side_by_side(rng: np.random.Generator, tmp_path: Path) -> None:
    true_PV = rng.standard_normal((3, 10)).astype(np.float32)
    arrays = {
        **{"bold_true": true_PV, "bold_pred": true_PV / 2, "bold_std": np.full_like(true_PV, np.nan)},
        **{"onset": np.arange(10.0), "volume_scan": np.repeat([0, 1], 5), **Confounds.none(10).arrays()},
        **{"parcel": ["a", "b", "c"], "centroid": np.eye(3), "scan_t_r": [2.0, 1.5]},
        **{name: ["x", "y"] for name in ("scan", "participant", "site", "task")},
    }
    names = ("model", "kind", "split", "folds", "seen")
    write_artifact(tmp_path / "p.zarr", "predictions", arrays=arrays, attrs=dict.fromkeys(names, ""))
    store = open_artifact(tmp_path / "p.zarr", kind="predictions")
    np.testing.assert_array_equal(store.read("bold_true"), true_PV)
    assert Confounds.from_artifact(store).values_VM.shape == (10, 0)
    assert store.read("scan_t_r").tolist() == [2.0, 1.5]
