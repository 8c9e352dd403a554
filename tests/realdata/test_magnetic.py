"""Four MEG systems: each gets the method that its coils allow, and comes out finite, quieter and of full size."""

from pathlib import Path

import mne
import numpy as np
import pytest

from neuroloom.config import MeegConfig
from neuroloom.dims import UNITS
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.signals.ingest import head_locations
from neuroloom.signals.magnetic import fit_magnetic
from neuroloom.signals.magnetic_bads import find_meg_bads
from neuroloom.signals.maxwell import coil_info, tsss
from neuroloom.signals.preprocess import preprocess_meeg

FILES = {
    "neuromag": "sample_audvis_raw.fif",
    "ctf": "test_ctf_comp_raw.fif",
    "kit": "kit_test.sqd",
    "bti": "exported4D_solaris_raw.fif",
}


def load(system: str, real_data: Path) -> Recording:
    raw = mne.io.read_raw(real_data / "meg_small" / FILES[system], preload=True, verbose="error")
    raw.del_proj().pick(["meg", "ref_meg"])
    kernel = design_kernel(raw.info["sfreq"], l_freq=1.0, h_freq=min(70.0, 0.4 * raw.info["sfreq"]))
    kinds = raw.get_channel_types()
    return Recording(
        signal_CT=apply_kernel(raw.get_data().astype(np.float32), kernel),
        sfreq=raw.info["sfreq"],
        ch_names=raw.ch_names,
        ch_types=kinds,
        units=[UNITS[kind] for kind in kinds],
        status=["bad" if name in raw.info["bads"] else "good" for name in raw.ch_names],
        coil_C=np.array([int(channel["coil_type"]) & 0xFFFF for channel in raw.info["chs"]], np.int32),
        loc_C12=head_locations(raw.info),
    )


@pytest.mark.parametrize("system", ["neuromag", "bti"])
def test_temporal_separation_is_done_or_refused_with_a_reason(system: str, real_data: Path) -> None:
    config, rng = MeegConfig(magnetic="tsss"), np.random.default_rng(0)
    options = {"config": config, "window": 1.0, "file": "x.fif", "rng": rng}
    if system == "bti":
        with pytest.raises(UnusableRecording, match=r"x\.fif: .*noise of the coils"):
            preprocess_meeg(recording=load(system, real_data), **options)
        return
    clean, qc = preprocess_meeg(recording=load(system, real_data), **options)
    assert "temporal signal space separation in pieces of 10 s" in qc.notes
    assert np.isfinite(clean.load().signal_CT).all()


def bads_of(recording: Recording) -> list[str]:
    return [name for name, status in zip(recording.ch_names, recording.status, strict=True) if status == "bad"]


@pytest.mark.parametrize(
    ("system", "method", "words"),
    [
        ("neuromag", "maxwell", "internal order 8, external 3"),
        ("ctf", "maxwell", "what 29 references explain in one half"),
        ("kit", "reference", "3 reference coils regressed out"),
        ("bti", "hfc", "3 from 248 mag"),
    ],
)
def test_each_system_gets_what_its_coils_allow(system: str, method: str, words: str, real_data: Path) -> None:
    recording = load(system, real_data)
    signal_CT = recording.signal_CT
    fit = fit_magnetic(recording, signal_CT, bads_of(recording))
    assert fit.matrix_CC is not None
    assert (fit.method, fit.rebuilt) == (method, bads_of(recording) if method == "maxwell" else [])
    assert words in fit.note
    cleaned_CT = fit.matrix_CC @ signal_CT
    assert np.isfinite(cleaned_CT).all()
    for kind in ("mag", "grad"):
        picks = [at for at in recording.picks(kind) if recording.ch_names[at] not in bads_of(recording)]
        if picks:
            ratio = np.median(cleaned_CT[picks].std(axis=1) / signal_CT[picks].std(axis=1))
            assert 0.1 < ratio < 1.05


@pytest.mark.parametrize("system", ["ctf", "kit"])
def test_large_arrays_with_references_allow_expansions_too(system: str, real_data: Path) -> None:
    recording = load(system, real_data)
    fit = fit_magnetic(recording, recording.signal_CT, [], method="maxwell")
    assert fit.method == "maxwell"
    assert "internal order 8, external 3" in fit.note
    assert np.isfinite(fit.matrix_CC @ recording.signal_CT).all()


def test_temporal_extension_equals_mnes_on_a_real_recording(real_data: Path) -> None:
    recording = load("neuromag", real_data)
    cleaned = tsss(recording.signal_CT, recording, bads_of(recording), st_duration=1.0)
    picks = recording.picks("mag", "grad")
    info = coil_info(recording, picks, bads_of(recording))
    piece = round(recording.sfreq)
    raw = mne.io.RawArray(recording.signal_CT[picks, :piece].astype(float), info, verbose="error")
    options = {"st_duration": 1.0, "st_overlap": False, "origin": (0.0, 0.0, 0.04), "verbose": "error"}
    theirs = mne.preprocessing.maxwell_filter(raw, **options).get_data()
    ours = cleaned[:, :piece]
    for kind in ("mag", "grad"):
        same = np.array(recording.ch_types)[picks] == kind
        np.testing.assert_allclose(ours[picks[same]], theirs[same], atol=1e-3 * theirs[same].std())


@pytest.mark.parametrize("system", list(FILES))
def test_few_channels_of_real_helmets_do_not_fit_the_others(system: str, real_data: Path) -> None:
    """Half a second to two; where the samples are too few for the channels, nothing is claimed."""
    recording = load(system, real_data)
    found = find_meg_bads(recording, recording.signal_CT, bads_of(recording))
    assert len(found) <= 0.03 * len(recording.picks("mag", "grad"))
