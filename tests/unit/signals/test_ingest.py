from pathlib import Path

import mne
import numpy as np
import pytest

from neuroloom.config import IngestConfig, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.signals.ingest import to_recording

SFREQ = 100.0
FILE = Path("x.edf")


def make_raw(
    rng: np.random.Generator, *names: str, scale: float = 20e-6, types: str | list[str] = "eeg"
) -> mne.io.RawArray:
    info = mne.create_info(list(names), SFREQ, types)
    return mne.io.RawArray(scale * rng.standard_normal((len(names), 1000)), info, verbose="error")


def ingest(raw: mne.io.RawArray, source: SourceConfig | None = None) -> tuple[Recording, dict]:
    source = source or SourceConfig(montage="colin27_1020")
    return to_recording(raw, path=FILE, source=source, config=IngestConfig())


def test_names_positions_and_units(rng: np.random.Generator) -> None:
    recording, notes = ingest(make_raw(rng, "EEG Fp1", "Cz.", "T3"))
    assert recording.ch_names == ["Fp1", "Cz", "T7"]
    assert notes["channel_names_in_file"] == ["EEG Fp1", "Cz.", "T3"]
    assert recording.units == ["V"] * 3
    assert recording.signal_CT.dtype == np.float32
    x, y, z = recording.position_C3.T
    assert y[0] > 0.05, "Fp1 is in front"
    assert z[1] > 0.08, "Cz is on top"
    assert x[2] < -0.05, "T7 is on the left"
    assert (recording.orientation_C3 == 0).all()


def test_without_a_montage_positions_are_missing_and_said(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match=r"no positions for Fp1, Cz\. Name a montage"):
        ingest(make_raw(rng, "Fp1", "Cz"), SourceConfig())


def test_an_unknown_electrode_is_listed(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match="not in montage colin27_1020: X9, foo"):
        ingest(make_raw(rng, "Cz", "X9", "foo"))


def test_an_unknown_montage_is_answered_with_those_there_are(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match=r"'nonsense' is unknown.*biosemi64"):
        ingest(make_raw(rng, "Cz"), SourceConfig(montage="nonsense"))


def test_names_and_config_give_types(rng: np.random.Generator) -> None:
    source = SourceConfig(montage="colin27_1020", types={"A2-A1": "misc"})
    recording, _ = ingest(make_raw(rng, "Cz", "ECG ECG", "VEOG", "A2-A1"), source)
    assert recording.ch_types == ["eeg", "ecg", "eog", "misc"]


def test_a_type_for_a_channel_that_is_not_there_is_an_error(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match="no channel Pz; there are Cz"):
        ingest(make_raw(rng, "Cz"), SourceConfig(types={"Pz": "misc"}))


@pytest.mark.parametrize("scale", [20.0, 2e-9], ids=["µV read as V", "a thousand times too small"])
def test_a_wrong_unit_is_caught(rng: np.random.Generator, scale: float) -> None:
    with pytest.raises(UnusableRecording, match=r"eeg amplitude is .* µV \(plausible: 0\.1 to 1000\)"):
        ingest(make_raw(rng, "Cz", "Pz", scale=scale))


def test_the_scale_of_the_study_mends_a_wrong_unit(rng: np.random.Generator) -> None:
    recording, _ = ingest(make_raw(rng, "Cz", "Pz", scale=20.0), SourceConfig(montage="colin27_1020", scale=1e-6))
    assert recording.load().signal_CT.std() == pytest.approx(20e-6, rel=0.05)


def test_drift_does_not_fool_the_unit_check(rng: np.random.Generator) -> None:
    raw = make_raw(rng, "Cz", "Pz")
    raw._data += 0.3 + 0.01 * np.linspace(0, 1, 1000)
    ingest(raw)


def test_nothing_but_flat_channels_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match="all eeg channels are flat"):
        ingest(make_raw(rng, "Cz", "Pz", scale=0.0))


def test_no_brain_channel_is_refused(rng: np.random.Generator) -> None:
    with pytest.raises(UnusableRecording, match="no EEG or MEG channel"):
        ingest(make_raw(rng, "ECG"))


@pytest.mark.parametrize("date", [None, 1_500_000_000])
def test_annotations_are_events_from_the_first_sample(rng: np.random.Generator, date: int | None) -> None:
    raw = make_raw(rng, "Cz", "Pz").set_meas_date(date)
    raw.set_annotations(mne.Annotations([3.0, 4.5], [0.5, 0.0], ["left", "right"]))
    recording, _ = ingest(raw.crop(2.0, 8.0))
    np.testing.assert_allclose(recording.events.onset, [1.0, 2.5])
    assert recording.events.label == ["left", "right"]


def test_trigger_channels_become_events_and_are_said_to_be_dropped(rng: np.random.Generator) -> None:
    raw = make_raw(rng, "Cz", "STI 014", types=["eeg", "stim"])
    raw._data[1] = 0
    raw._data[1, 200:210] = 4
    raw._data[1, 500:510] = 7
    recording, notes = ingest(raw)
    np.testing.assert_allclose(recording.events.onset, [2.0, 5.0])
    assert recording.events.label == ["4", "7"]
    assert notes["dropped_channels"] == {"STI 014": "stim"}


def test_meg_coils_keep_type_and_normal(real_data: Path) -> None:
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", preload=True, verbose="error")
    recording, _ = ingest(raw, SourceConfig())
    mag, grad = recording.picks("mag"), recording.picks("grad")
    assert (len(mag), len(grad)) == (102, 204)
    assert set(recording.coil_C[mag]) == {3024}
    assert set(recording.coil_C[grad]) == {3012}
    np.testing.assert_allclose(np.linalg.norm(recording.orientation_C3[np.r_[mag, grad]], axis=1), 1, atol=1e-4)
    normals = mne.transforms.apply_trans(
        raw.info["dev_head_t"], [raw.info["chs"][at]["loc"][9:12] for at in mag], move=False
    )
    np.testing.assert_allclose(recording.orientation_C3[mag], normals, atol=1e-5)
    assert [recording.units[at] for at in (mag[0], grad[0])] == ["T", "T/m"]
    assert recording.status[recording.ch_names.index("MEG 2443")] == "bad: marked in the file"
