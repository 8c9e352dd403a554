from pathlib import Path

import mne
import numpy as np
import pytest

from neuroloom.config import ColumnsConfig, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.signals.reading import read_raw, site_files, source_files

SFREQ = 128.0
COLUMNS = ColumnsConfig(channels={"a": "Cz", "b": "Pz"}, unit="uV", sfreq=SFREQ, time="t", events="m")


@pytest.fixture
def raw(rng: np.random.Generator) -> mne.io.RawArray:
    return mne.io.RawArray(
        20e-6 * rng.standard_normal((2, 512)), mne.create_info(["Cz", "Pz"], SFREQ, "eeg"), verbose="error"
    )


def write_table(path: Path, *, rate: float = SFREQ) -> np.ndarray:
    values = np.random.default_rng(0).normal(0, 20, (256, 2))
    marker = np.zeros(256)
    marker[64:96] = 2
    marker[96:128] = 1
    rows = np.column_stack([np.arange(256) / rate, values, marker])
    np.savetxt(path, rows, delimiter=",", header="t,a,b,m", comments="")
    return values


def test_a_table_is_read_by_its_column_map(tmp_path: Path) -> None:
    values = write_table(tmp_path / "x.csv")
    raw = read_raw(tmp_path / "x.csv", source=SourceConfig(columns=COLUMNS))
    assert raw.ch_names == ["Cz", "Pz"]
    np.testing.assert_allclose(raw.get_data(), values.T * 1e-6)
    assert list(raw.annotations.description) == ["2", "1"]
    np.testing.assert_allclose(raw.annotations.onset, [0.5, 0.75])
    np.testing.assert_allclose(raw.annotations.duration, [0.25, 0.25])


def test_an_arff_file_is_a_table(tmp_path: Path) -> None:
    path = tmp_path / "x.arff"
    path.write_text("@RELATION r\n@ATTRIBUTE a NUMERIC\n@ATTRIBUTE b NUMERIC\n@DATA\n" + "1,2\n3,4\n" * 64)
    columns = ColumnsConfig(channels={"a": "Cz", "b": "Pz"}, unit="mV", sfreq=SFREQ)
    raw = read_raw(path, source=SourceConfig(columns=columns))
    np.testing.assert_allclose(raw.get_data()[:, :2], [[1e-3, 3e-3], [2e-3, 4e-3]])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "without a column map"),
        (COLUMNS.model_copy(update={"events": "marker"}), "missing marker"),
        (COLUMNS.model_copy(update={"sfreq": 250.0}), r"run at 128\.00 Hz, the config says 250 Hz"),
    ],
)
def test_a_wrong_column_map_is_named(tmp_path: Path, columns: ColumnsConfig | None, message: str) -> None:
    write_table(tmp_path / "x.csv")
    with pytest.raises(UnusableRecording, match=message):
        read_raw(tmp_path / "x.csv", source=SourceConfig(columns=columns))


@pytest.mark.parametrize("name", ["x.csv", "x.arff"])
def test_a_damaged_table_is_unusable_not_a_crash(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"@ATTRIBUTE a NUMERIC\n@DATA\n1\n1,2\n\xff\xfe\x00")
    with pytest.raises(UnusableRecording, match="pandas cannot read it"):
        read_raw(tmp_path / name, source=SourceConfig(columns=COLUMNS))


def test_a_fif_file_is_read_whole(tmp_path: Path, raw: mne.io.RawArray) -> None:
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    again = read_raw(tmp_path / "x_raw.fif", source=SourceConfig())
    np.testing.assert_allclose(again.get_data(), raw.get_data(), rtol=1e-6)


@pytest.mark.parametrize("suffix", [".edf", ".fif", ".vhdr", ".set", ".cnt", ".xyz"])
def test_a_damaged_or_unknown_file_is_unusable_not_a_crash(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"\x00\x01damaged" * 50)
    with pytest.raises(UnusableRecording, match="MNE cannot read it"):
        read_raw(path, source=SourceConfig())


PROMISED = [".edf", ".bdf", ".gdf", ".vhdr", ".set", ".fif", ".sqd", ".con", ".cnt", ".mff", ".ds", ".raw"]


@pytest.mark.parametrize("suffix", PROMISED)
def test_every_promised_format_has_a_reader(tmp_path: Path, suffix: str) -> None:
    """A damaged file of each is refused by its own reader, not for want of one."""
    path = tmp_path / f"x_raw{suffix}"
    if suffix in (".mff", ".ds"):
        path.mkdir()
    else:
        path.write_bytes(b"damaged" * 100)
    with pytest.raises(UnusableRecording) as error:
        read_raw(path, source=SourceConfig())
    assert "Unsupported" not in str(error.value)


def test_a_bdf_file_is_read_in_volts(tmp_path: Path) -> None:
    import edfio

    data = np.random.default_rng(0).normal(0, 20, 1024)
    signal = edfio.BdfSignal(data, SFREQ, label="Cz", physical_dimension="uV", physical_range=(-200, 200))
    edfio.Bdf([signal]).write(tmp_path / "x.bdf")
    raw = read_raw(tmp_path / "x.bdf", source=SourceConfig())
    np.testing.assert_allclose(raw.get_data()[0], data * 1e-6, atol=1e-10)


def test_a_folder_that_is_no_recording_says_so(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnusableRecording, match="a folder without a BTi data file"):
        read_raw(tmp_path / "folder", source=SourceConfig())


def test_a_truncated_edf_is_unusable_or_short(tmp_path: Path, real_data: Path) -> None:
    whole = (real_data / "eegmmidb_S001" / "S001R01.edf").read_bytes()
    path = tmp_path / "x.edf"
    path.write_bytes(whole[:5000])
    with pytest.raises(UnusableRecording):
        read_raw(path, source=SourceConfig())


def test_a_missing_file_is_unusable(tmp_path: Path) -> None:
    with pytest.raises(UnusableRecording, match="does not exist"):
        read_raw(tmp_path / "x.edf", source=SourceConfig())


def test_source_files_are_the_header_and_its_data(tmp_path: Path) -> None:
    for name in ("x.vhdr", "x.eeg", "x.vmrk", "y.eeg"):
        (tmp_path / name).touch()
    assert [path.name for path in source_files(tmp_path / "x.vhdr")] == ["x.eeg", "x.vhdr", "x.vmrk"]
    folder = tmp_path / "z.ds"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a").touch()
    assert source_files(folder) == [folder / "deep" / "a"]


def test_source_files_of_a_bids_recording_include_its_sidecars(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "eeg"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text("{}")
    for name in (
        "sub-01_task-a_eeg.edf",
        "sub-01_task-a_eeg.json",
        "sub-01_task-a_events.tsv",
        "sub-01_task-b_events.tsv",
    ):
        (folder / name).touch()
    names = [path.name for path in source_files(folder / "sub-01_task-a_eeg.edf")]
    assert names == ["sub-01_task-a_eeg.edf", "sub-01_task-a_eeg.json", "sub-01_task-a_events.tsv"]


def test_the_sites_calibration_is_found_beside_a_bids_recording(tmp_path: Path) -> None:
    folder = tmp_path / "sub-01" / "meg"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "a", "BIDSVersion": "1.9.0"}')
    path = folder / "sub-01_task-rest_meg.fif"
    for name in (path.name, "sub-01_acq-calibration_meg.dat", "sub-01_acq-crosstalk_meg.fif"):
        (folder / name).touch()
    found = {name: file.name for name, file in site_files(path).items()}
    assert found == {"calibration": "sub-01_acq-calibration_meg.dat", "cross_talk": "sub-01_acq-crosstalk_meg.fif"}
    assert {file.name for file in source_files(path)} >= set(found.values()), "they are part of the provenance"
    assert site_files(tmp_path / "plain.fif") == {}
