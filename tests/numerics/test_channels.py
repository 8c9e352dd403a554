"""Interpolation as a matrix equals MNE's interpolation of the recording itself."""

from pathlib import Path

import mne
import numpy as np

from neuroloom.config import IngestConfig, SourceConfig
from neuroloom.records import Recording
from neuroloom.signals.channels import interpolation_matrix, to_info
from neuroloom.signals.ingest import to_recording


def mnes(recording: Recording, bads: list[str], ch_type: str, origin: tuple[float, float, float] | str) -> np.ndarray:
    picks = recording.picks(ch_type)
    raw = mne.io.RawArray(recording.load().signal_CT[picks].astype(float), to_info(recording, picks), verbose="error")
    raw.info["bads"] = bads
    return raw.interpolate_bads(reset_bads=False, origin=origin, verbose="error").get_data(picks=bads)


def test_eeg_equals_mnes_splines(recording: Recording) -> None:
    bads = ["Cz", "O1"]
    weights, bad, good = interpolation_matrix(recording, bads, "eeg")
    assert [recording.ch_names[at] for at in bad] == bads
    theirs = mnes(recording, bads, "eeg", "auto")
    np.testing.assert_allclose(weights @ recording.load().signal_CT[good], theirs, atol=1e-3 * theirs.std())


def test_meg_equals_mnes_field_mapping(real_data: Path) -> None:
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", preload=True, verbose="error")
    recording, _ = to_recording(raw, path=Path("a"), source=SourceConfig(), config=IngestConfig())
    bads = ["MEG 0112", "MEG 2443"]
    weights, _, good = interpolation_matrix(recording, bads, "grad")
    theirs = mnes(recording, bads, "grad", (0.0, 0.0, 0.04))
    np.testing.assert_allclose(weights @ recording.load().signal_CT[good], theirs, atol=1e-3 * theirs.std())


def test_meg_in_the_head_frame_equals_the_file_in_the_device_frame(real_data: Path) -> None:
    """Our coils are turned into the head frame; what MNE computes from them must not notice."""
    raw = mne.io.read_raw_fif(real_data / "meg_small" / "sample_audvis_raw.fif", preload=True, verbose="error")
    raw.del_proj()
    recording, _ = to_recording(raw.copy(), path=Path("a"), source=SourceConfig(), config=IngestConfig())
    weights, _, good = interpolation_matrix(recording, ["MEG 0113", "MEG 2443"], "grad")
    raw.info["bads"] = ["MEG 0113", "MEG 2443"]
    theirs = raw.pick("grad", exclude=[]).interpolate_bads(origin=(0.0, 0.0, 0.04), verbose="error")
    ours = weights @ recording.load().signal_CT[good]
    np.testing.assert_allclose(ours[0], theirs.get_data(picks="MEG 0113")[0], atol=1e-3 * ours.std())
