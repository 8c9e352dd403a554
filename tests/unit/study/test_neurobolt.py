"""The published dataset on a made folder of the same form: EEGLAB files with volume events, pickled tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.io
import yaml

from neuroloom.bold.reading import read_bold
from neuroloom.config import ConfigError, IngestConfig, SourceConfig, parse_config
from neuroloom.records import ParcelSeries
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.reading import read_raw, source_files
from neuroloom.signals.triggers import volume_onsets
from neuroloom.study.neurobolt import FOLDER, GLOBAL, SCANS, STUDY, T_R, neurobolt_study, read_pickled_table
from neuroloom.study.public import PUBLIC
from neuroloom.study.sheet import check_files

# of the specification of NeuroBOLT, section 2
ELECTRODES = [
    *("FP1", "FP2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "F7", "F8", "T7", "T8", "P7", "P8"),
    *("FPZ", "FZ", "CZ", "PZ", "POZ", "OZ", "FT9", "FT10", "TP9", "TP10"),
]
OTHERS = ["EOG1", "EOG2", "EMG1", "EMG2", "EMG3", "ECG"]
PARCELS = ["Superior frontal sulcus", "Heschl\u2019s gyrus", "Thalamus", "Cuneus"]
N_VOLUMES = 12
SFREQ = 250.0


def write_set(path: Path, rng: np.random.Generator) -> None:
    """µV in a `.fdt` beside the `.set`, and an event at each volume, as EEGLAB writes them."""
    names = [*ELECTRODES, *OTHERS]
    n_times = int((N_VOLUMES + 1) * T_R * SFREQ)
    rng.normal(0, 10, (n_times, len(names))).astype("<f4").tofile(path.with_suffix(".fdt"))
    onsets = 1.0 + T_R * np.arange(N_VOLUMES)
    event = np.array(
        [("R149", 1 + SFREQ * onset, 1.0) for onset in onsets], [(n, "O") for n in ("type", "latency", "duration")]
    )
    facts: dict[str, Any] = {name: "" for name in ("setname", "filename", "filepath", "subject", "comments", "ref")}
    facts |= {name: np.zeros((0, 0)) for name in ("icaact", "icawinv", "icasphere", "icaweights", "times", "epoch")}
    facts |= {"nbchan": len(names), "trials": 1, "pnts": n_times, "srate": SFREQ, "xmin": 0.0, "xmax": n_times / SFREQ}
    facts |= {"data": path.with_suffix(".fdt").name, "event": event}
    facts["chanlocs"] = np.array([(name, "EEG") for name in names], [("labels", "O"), ("type", "O")])
    scipy.io.savemat(path, {"EEG": facts}, appendmat=False)


def make_table(rng: np.random.Generator) -> pd.DataFrame:
    """As `making_difumo.py` builds it: parcels in one block, then two columns of their own."""
    values_VP = rng.standard_normal((N_VOLUMES, len(PARCELS))).astype(np.float32)
    table = pd.DataFrame(values_VP, columns=pd.Index(PARCELS, dtype=object, name="Difumo_names"))
    for name in GLOBAL:
        table[name] = rng.standard_normal(N_VOLUMES).astype(np.float32)
    return table


@pytest.fixture
def tables() -> dict[str, pd.DataFrame]:
    return {}


@pytest.fixture
def made(tmp_path: Path, tables: dict[str, pd.DataFrame], rng: np.random.Generator) -> Path:
    """Subject 7 with two scans and subject 10 with its second one."""
    for folder in ("EEG_set", "fMRI_difumo64"):
        (tmp_path / FOLDER / folder).mkdir(parents=True)
    for name in ("sub07-scan01", "sub07-scan02", "sub10-scan02"):
        write_set(tmp_path / FOLDER / "EEG_set" / f"{name}_eeg.set", rng)
        tables[name] = make_table(rng)
        tables[name].to_pickle(tmp_path / FOLDER / "fMRI_difumo64" / f"{name}_difumo64_roi.pkl")
    return tmp_path


@pytest.fixture
def source(repository: Path) -> SourceConfig:
    """What `config/paper.yaml` says of the dataset."""
    return SourceConfig(**yaml.safe_load((repository / "config/paper.yaml").read_text())["sources"]["neurobolt"])


def merged(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Overlays as Snakemake lays them."""
    both = {key: merged(lower[key], upper[key]) for key in lower.keys() & upper.keys() if isinstance(lower[key], dict)}
    return lower | upper | both


def test_the_overlay_in_the_comments_of_the_config_is_a_valid_one(repository: Path) -> None:
    text = (repository / "config/paper.yaml").read_text()
    lines = text[text.index("# study:") : text.index("\nsources:")].splitlines()
    overlay = yaml.safe_load("\n".join(line.removeprefix("# ") for line in lines))
    base = yaml.safe_load((repository / "config/config.yaml").read_text())
    config = parse_config(merged(merged(base, yaml.safe_load(text)), overlay))
    assert (config.study.name, config.study.recordings, config.study.root) == (STUDY, "config/neurobolt.tsv", "data")
    assert (config.preprocess.meeg.gradient, config.preprocess.meeg.cardiac) == ("none", "none")
    assert config.sources[STUDY].atlas == "difumo64"
    assert config.split.held_out_devices == config.evaluate.use == config.federate.use == ()


def test_there_are_29_scans_of_22_people() -> None:
    assert (len(SCANS), len({subject for subject, _ in SCANS})) == (29, 22)
    assert PUBLIC["neurobolt"] is neurobolt_study


def test_scans_become_rows_with_files(made: Path) -> None:
    rows = neurobolt_study(folder=made, subjects=[7, 10])
    assert [row.recording for row in rows[:3]] == [
        "neurobolt_vanderbilt_sub-07_ses-01_task-rest_eeg",
        "neurobolt_vanderbilt_sub-07_ses-01_task-rest_bold",
        "neurobolt_vanderbilt_sub-07_ses-02_task-rest_eeg",
    ]
    assert [row.path for row in rows[-2:]] == [
        "NeuroBOLT/EEG_set/sub10-scan02_eeg.set",
        "NeuroBOLT/bold_tables/sub-10_ses-02_task-rest_bold.tsv",
    ]
    check_files(rows, made)


def test_eeg_is_ingested_with_what_the_config_says_and_its_volumes_are_found(made: Path, source: SourceConfig) -> None:
    path = made / neurobolt_study(folder=made, subjects=[10])[0].path
    assert {file.suffix for file in source_files(path)} == {".set", ".fdt"}
    raw = read_raw(path, source=source)
    recording, _ = to_recording(raw, path=path, source=source, config=IngestConfig())
    assert [recording.ch_names[at] for at in recording.picks("eeg")][-6:] == ["POz", "Oz", "FT9", "FT10", "TP9", "TP10"]
    assert [len(recording.picks(kind)) for kind in ("eeg", "eog", "emg", "ecg")] == [26, 2, 3, 1]
    assert (recording.sfreq, recording.scanner_t_r, recording.reference) == (250.0, 2.1, "FCz")
    assert 8e-6 < np.std(recording.signal_CT[0, :]) < 12e-6  # V
    onset_V, note = volume_onsets(recording.events, t_r=T_R, file=path.name)
    np.testing.assert_allclose(onset_V, 1.0 + T_R * np.arange(N_VOLUMES), atol=1 / SFREQ)
    assert "R149" in note


def test_bold_is_read_by_the_reader_of_tables(
    made: Path, tables: dict[str, pd.DataFrame], source: SourceConfig
) -> None:
    rows = [row for row in neurobolt_study(folder=made, subjects=[7]) if row.modality == "bold"]
    for row, name in zip(rows, ("sub07-scan01", "sub07-scan02"), strict=True):
        series = read_bold(made / row.path, source=source)
        assert isinstance(series, ParcelSeries)
        assert (series.parcels, series.t_r, series.atlas, series.space) == (PARCELS, T_R, "difumo64", "MNI152")
        np.testing.assert_allclose(series.bold_PV, tables[name][PARCELS].to_numpy().T, rtol=1e-6)


def test_the_original_is_left_alone_and_a_second_call_writes_nothing(made: Path) -> None:
    pickled = made / FOLDER / "fMRI_difumo64/sub10-scan02_difumo64_roi.pkl"
    before = pickled.read_bytes()
    table = made / neurobolt_study(folder=made, subjects=[10])[1].path
    written = table.stat().st_mtime_ns, table.with_suffix(".json").stat().st_mtime_ns
    neurobolt_study(folder=made, subjects=[10])
    assert (table.stat().st_mtime_ns, table.with_suffix(".json").stat().st_mtime_ns) == written
    assert pickled.read_bytes() == before
    facts = json.loads(table.with_suffix(".json").read_text())
    assert (table.parent / facts["Sources"][0]).samefile(pickled)


def test_the_global_signal_is_a_column_where_it_is_asked_for(made: Path, tables: dict[str, pd.DataFrame]) -> None:
    table = made / neurobolt_study(folder=made, subjects=[10], with_global=True)[1].path
    text = pd.read_csv(table, sep="\t")
    assert list(text) == [*PARCELS, "global signal clean"]
    np.testing.assert_allclose(text[GLOBAL[0]], tables["sub10-scan02"][GLOBAL[0]], rtol=1e-6)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("old_numpy", [False, True])
def test_pickled_frames_of_today_and_of_old_numpy_are_read(
    protocol: int, old_numpy: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    """The files on the hub are of protocol 5, written with the module names of NumPy 1 (`numpy.core`)."""
    table, path = make_table(rng), tmp_path / "a.pkl"
    table["counts"] = np.arange(N_VOLUMES)
    table.to_pickle(path, protocol=protocol)
    if old_numpy:
        data = path.read_bytes()
        for name in (b"numpy._core.numeric", b"numpy._core.multiarray"):
            short = name.replace(b"._core", b".core")
            data = data.replace(b"\x8c" + bytes([len(name)]) + name, b"\x8c" + bytes([len(short)]) + short)
        path.write_bytes(data)
    values_VP, names = read_pickled_table(path)
    assert names == list(table)
    np.testing.assert_array_equal(values_VP, table.to_numpy(float))


class Trap:
    """Would make a file if anything were called."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_nothing_that_a_pickle_names_is_called(tmp_path: Path) -> None:
    path, sprung = tmp_path / "a.pkl", tmp_path / "sprung"
    pd.to_pickle(Trap(sprung), path)
    with pytest.raises(ConfigError, match=r"a\.pkl: not a table of numbers"):
        read_pickled_table(path)
    assert not sprung.exists()
    function, arguments = Trap(sprung).__reduce__()
    function(*arguments)
    assert sprung.exists()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: pd.Series([1.0, 2.0]), id="a series"),
        pytest.param(lambda: pd.DataFrame({"a": pd.Series([1, "b"], dtype=object)}), id="text"),
        pytest.param(lambda: {"a": [1.0]}, id="a dict"),
        pytest.param(lambda: {1, 2}, id="a set"),
    ],
)
def test_other_pickles_are_refused(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    pd.to_pickle(content(), path)
    with pytest.raises(ConfigError, match="Bring the file again from NeurdyLab/NeuroBOLT"):
        read_pickled_table(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_file_that_breaks_off_is_refused(share: float, made: Path) -> None:
    path = made / FOLDER / "fMRI_difumo64/sub10-scan02_difumo64_roi.pkl"
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(ConfigError, match=r"sub10-scan02_difumo64_roi\.pkl: not a table of numbers"):
        neurobolt_study(folder=made, subjects=[10])


@pytest.mark.usefixtures("no_network")
def test_without_a_network_the_error_says_what_to_place_where(made: Path) -> None:
    with pytest.raises(ConfigError, match="neurobolt: 78 of 87 files are not there and cannot be fetched") as caught:
        neurobolt_study(folder=made)
    assert f"Looked for {made / FOLDER / 'EEG_set/sub01-scan01_eeg.set'}, " in str(caught.value)
    assert f"huggingface.co/datasets/NeurdyLab/NeuroBOLT in {made / FOLDER}" in str(caught.value)


def test_what_is_missing_is_fetched(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = made / FOLDER / "EEG_set/sub07-scan02_eeg.fdt"
    data = gone.read_bytes()
    gone.unlink()

    def fetch(repository: str, *, repo_type: str, revision: str, local_dir: Path, allow_patterns: list[str]) -> str:
        assert (repository, repo_type, revision) == ("NeurdyLab/NeuroBOLT", "dataset", "main")
        assert allow_patterns == ["EEG_set/sub07-scan02_eeg.fdt"]
        (local_dir / allow_patterns[0]).write_bytes(data)
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert len(neurobolt_study(folder=made, subjects=[7])) == 4


def test_files_that_the_hub_does_not_have_are_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (made / FOLDER / "EEG_set/sub10-scan02_eeg.fdt").unlink()
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: "")
    with pytest.raises(ConfigError, match=r"1 of 3 files .* \(no network, or the dataset has no such files\)"):
        neurobolt_study(folder=made, subjects=[10])


def test_unknown_subjects(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there are subjects 1-22"):
        neurobolt_study(folder=tmp_path, subjects=[23])
