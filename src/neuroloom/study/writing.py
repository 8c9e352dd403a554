"""Writing simulated recordings as a BIDS dataset, in the formats of real machines and without any date of today."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from neuroloom.bold.confounds import framewise_displacement
from neuroloom.bold.images import write_nifti
from neuroloom.config import RecordingRow
from neuroloom.records import Array, Events
from neuroloom.study.bold_model import MOTION, SPACE, Scan, VoxelGrid
from neuroloom.study.sources import Traits

EXTENSIONS = {"edf": "edf", "brainvision": "vhdr", "eeglab": "set"}
RESOLUTION = 1e-7
_DATE = datetime(2020, 1, 1, 12, tzinfo=UTC)
_TASKS = {
    "rest": "Rest in alternating blocks with eyes open and eyes closed.",
    "imagery": "Kinaesthetic imagery of movements of the left or right hand, 4 s each, with rest between.",
}
_LEVELS = {
    "eyes_open": "Rest with eyes open",
    "eyes_closed": "Rest with eyes closed",
    "left_hand": "Imagery of the left hand",
    "right_hand": "Imagery of the right hand",
    "volume": "Beginning of an fMRI volume",
}
_MACHINE = {
    "Manufacturer": "NeuroLoom",
    "ManufacturersModelName": "neuroloom.study.simulate",
    "SoftwareVersions": "n/a",
    "DeviceSerialNumber": "n/a",
    "InstitutionName": "n/a",
}
_REFERENCES = {"average": "average of all electrodes", "Cz": "Cz", "ears": "linked ears (A1, A2)"}


@dataclass(frozen=True)
class Tracing:
    """An EEG or MEG recording on its way to a file.

    Attributes
    ----------
    info : mne.Info
    signal_CT : array
        V, T or T/m.
    events : Events
    file_format : str
        `edf`, `brainvision`, `eeglab` or `fif`.
    unit : str
        Unit in EDF and BrainVision files.
    reference : str or None
        EEG reference, a key of `REFERENCES`.
    """

    info: Any
    signal_CT: Array
    events: Events
    file_format: Literal["edf", "brainvision", "eeglab", "fif"]
    unit: Literal["uV", "mV"]
    reference: str | None


def datatype_name(row: RecordingRow, suffix: str) -> str:
    """BIDS file name of a recording: its entities and a suffix with extension."""
    return f"sub-{row.subject}_task-{row.task}_{suffix}"


def write_tracing(tracing: Tracing, *, row: RecordingRow, bids: Path, scratch: Path) -> None:
    """Write one EEG or MEG recording with all its sidecars.

    Parameters
    ----------
    tracing : Tracing
    row : RecordingRow
        Entities and modality.
    bids : Path
        Root of the dataset.
    scratch : Path
        Folder for the machine's own file, which mne-bids copies; made, and removed afterwards.
    """
    import mne
    import mne_bids

    scratch.mkdir()
    source = _WRITERS[tracing.file_format](tracing, scratch)
    # mne-bids copies files as they are and refuses data that have been changed in memory.
    raw = mne.io.read_raw(source)
    raw.info["line_freq"] = tracing.info["line_freq"]
    if row.modality == "eeg":
        names = zip(raw.ch_names, tracing.info.get_channel_types(), strict=True)
        raw.set_channel_types({name: kind for name, kind in names if kind != "eeg"}, on_unit_change="ignore")
        raw.set_montage(_montage_for(raw, tracing))
    raw.set_annotations(_annotations(tracing.events, raw.info["meas_date"]))
    path = mne_bids.BIDSPath(subject=row.subject, task=row.task, datatype=row.modality, root=bids)
    path = mne_bids.write_raw_bids(raw, path, readme=False, overwrite=True)
    sidecar = path.copy().update(suffix=row.modality, extension=".json")
    mne_bids.update_sidecar_json(sidecar, _sidecar(tracing, row.task))
    _write_event_levels(path.copy().update(suffix="events", extension=".json").fpath, tracing.events)
    if tracing.file_format == "eeglab":
        _undate_mat(path.fpath)
        _correct_unit(path.copy().update(suffix="channels", extension=".tsv").fpath)
    shutil.rmtree(scratch)


def write_scan(
    scan: Scan, *, row: RecordingRow, bids: Path, grid: VoxelGrid, events: Events, t_r: float, slice_time_Z: Array
) -> None:
    """Write one BOLD run with events and sidecar; slice times stand there where slices differ in them."""
    folder = bids / f"sub-{row.subject}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    write_nifti(folder / datatype_name(row, "bold.nii.gz"), scan.bold_XYZV, grid.affine_44, t_r=t_r)
    sidecar = _MACHINE | {
        "RepetitionTime": t_r,
        "TaskName": row.task,
        "TaskDescription": _TASKS[row.task],
        "Instructions": _TASKS[row.task],
        "MagneticFieldStrength": 3,
        "SpatialReference": SPACE,
        **({"SliceTiming": slice_time_Z.tolist()} if slice_time_Z.any() else {}),
    }
    _write_json(folder / datatype_name(row, "bold.json"), sidecar)
    table = pd.DataFrame({"onset": events.onset, "duration": events.duration, "trial_type": events.label})
    _write_tsv(folder / datatype_name(row, "events.tsv"), table)
    _write_event_levels(folder / datatype_name(row, "events.json"), events)


def write_derivatives(scan: Scan, *, row: RecordingRow, bids: Path, grid: VoxelGrid) -> None:
    """Write the confounds of a run, under fMRIPrep's names, and its brain mask."""
    folder = bids / "derivatives" / "simulated" / f"sub-{row.subject}" / "func"
    folder.mkdir(parents=True, exist_ok=True)
    confounds = dict(zip(MOTION, scan.motion_V6.T, strict=True))
    confounds["framewise_displacement"] = framewise_displacement(scan.motion_V6)
    _write_tsv(folder / datatype_name(row, "desc-confounds_timeseries.tsv"), pd.DataFrame(confounds | scan.confounds))
    mask = datatype_name(row, f"space-{SPACE}_desc-brain_mask")
    write_nifti(folder / f"{mask}.nii.gz", grid.brain_XYZ.astype(np.uint8), grid.affine_44)
    _write_json(folder / f"{mask}.json", {"Type": "Brain", "SpatialReference": SPACE})


def write_dataset_files(bids: Path, *, rows: Sequence[RecordingRow], people: Mapping[str, Traits]) -> None:
    """Write what belongs to the dataset as a whole: descriptions, participants, scans and README.

    Parameters
    ----------
    bids : Path
        Root of the dataset.
    rows : sequence of RecordingRow
        All recordings of the site.
    people : mapping
        Traits by subject.
    """
    generator = [{"Name": "NeuroLoom", "Description": "neuroloom.study.simulate"}]
    common = {"BIDSVersion": _bids_version(), "License": "CC0", "GeneratedBy": generator}
    name = f"{rows[0].study}, site {rows[0].site} (simulated)"
    authors = {"Authors": ["NeuroLoom contributors", "A random number generator"], "DatasetType": "raw"}
    _write_json(bids / "dataset_description.json", {"Name": name} | common | authors)
    persons = [
        {"participant_id": f"sub-{subject}", "age": traits.age, "sex": traits.sex, "hand": traits.hand}
        for subject, traits in people.items()
    ]
    _write_tsv(bids / "participants.tsv", pd.DataFrame(persons))
    columns = {
        "age": {"Description": "Age of the simulated person", "Units": "year"},
        "sex": {"Description": "Sex of the simulated person", "Levels": {"F": "female", "M": "male"}},
        "hand": {"Description": "Handedness", "Levels": {"R": "right", "L": "left"}},
    }
    _write_json(bids / "participants.json", columns)
    (bids / "README.md").write_text(_README.format(name=name))
    for subject in people:
        files = ["/".join(Path(row.path).parts[-2:]) for row in rows if row.subject == subject]
        scans = pd.DataFrame({"filename": files, "acq_time": _DATE.strftime("%Y-%m-%dT%H:%M:%SZ")})
        _write_tsv(bids / f"sub-{subject}" / f"sub-{subject}_scans.tsv", scans)
    derived = bids / "derivatives" / "simulated"
    if derived.exists():
        description = {"Name": f"{name}: confounds and masks"} | common | {"DatasetType": "derivative"}
        _write_json(derived / "dataset_description.json", description)
        # BIDS has no name for confounds yet; fMRIPrep's names are what readers look for.
        (derived / ".bidsignore").write_text("*_timeseries.tsv\n")


_README = """# {name}

Made by NeuroLoom: no person was measured. Each parcel of a template brain holds one source with 1/f background and
rhythms; electrodes and coils see it through a spherical head, and the BOLD signal follows its band power. Age, sex and
hand are random and have no effect. What was planted is in `truth.parquet` and `truth/` beside this folder.
"""


def _bids_version() -> str:
    from mne_bids.config import BIDS_VERSION

    return str(BIDS_VERSION)


def _sidecar(tracing: Tracing, task: str) -> dict[str, Any]:
    """What the file itself does not say."""
    common = _MACHINE | {"TaskDescription": _TASKS[task], "Instructions": _TASKS[task], "HardwareFilters": "n/a"}
    if tracing.reference is None:
        return common
    return common | {"EEGReference": _REFERENCES[tracing.reference], "SubjectArtefactDescription": "see truth.parquet"}


def _montage_for(raw: Any, tracing: Tracing) -> Any:
    """The cap's montage under the channel names of the file (`EEG Fp1`)."""
    montage = tracing.info.get_montage()
    names = zip(tracing.info.ch_names, raw.ch_names, strict=True)
    montage.rename_channels({ours: theirs for ours, theirs in names if ours in montage.ch_names})
    return montage


def _annotations(events: Events, meas_date: datetime | None) -> Any:
    import mne

    return mne.Annotations(events.onset, events.duration, events.label, orig_time=meas_date)


def _resolution(signal_CT: Array) -> float:
    """V per bit: 0.1 µV, or as many times twice that as 16 bits need."""
    peak = float(np.abs(signal_CT).max()) / RESOLUTION / np.iinfo(np.int16).max
    return RESOLUTION * 2.0 ** max(int(np.ceil(np.log2(max(peak, 1e-12)))), 0)


def _write_edf(tracing: Tracing, folder: Path) -> Path:
    import edfio

    volts, resolution = {"uV": 1e-6, "mV": 1e-3}[tracing.unit], _resolution(tracing.signal_CT)
    # Symmetric limits: digital zero is 0 V, so dead channels stay exactly zero.
    limits = (-32767 * resolution / volts, 32767 * resolution / volts)
    signals = [
        edfio.EdfSignal(
            np.clip(signal_T.astype(np.float64) / volts, *limits),
            sampling_frequency=float(tracing.info["sfreq"]),
            label=name if name == "ECG" else f"EEG {name}",
            physical_dimension=tracing.unit,
            physical_range=limits,
            digital_range=(-32767, 32767),
        )
        for name, signal_T in zip(tracing.info.ch_names, tracing.signal_CT, strict=True)
    ]
    events = zip(tracing.events.onset, tracing.events.duration, tracing.events.label, strict=True)
    edf = edfio.Edf(
        signals,
        recording=edfio.Recording(startdate=_DATE.date()),
        starttime=_DATE.time(),
        annotations=[edfio.EdfAnnotation(*event) for event in events],
    )
    path = folder / "tracing.edf"
    edf.write(path)
    return path


def _write_brainvision(tracing: Tracing, folder: Path) -> Path:
    import pybv

    sfreq, volts = float(tracing.info["sfreq"]), {"uV": 1e-6, "mV": 1e-3}[tracing.unit]
    events = [
        {"onset": int(onset * sfreq), "duration": int(duration * sfreq), "description": label, "type": "Comment"}
        for onset, duration, label in zip(
            tracing.events.onset, tracing.events.duration, tracing.events.label, strict=True
        )
    ]
    with warnings.catch_warnings():
        # mV is legal; pybv warns that some readers expect µV, which is the point of such a site.
        warnings.filterwarnings("ignore", message="Encountered unsupported voltage units", category=UserWarning)
        pybv.write_brainvision(
            data=tracing.signal_CT.astype(np.float64),
            sfreq=sfreq,
            ch_names=tracing.info.ch_names,
            fname_base="tracing",
            folder_out=str(folder),
            events=events,
            resolution=_resolution(tracing.signal_CT) / volts,
            unit={"uV": "µV", "mV": "mV"}[tracing.unit],
            fmt="binary_int16",
            meas_date=_DATE.replace(tzinfo=None),
        )
    return folder / "tracing.vhdr"


def _raw_array(tracing: Tracing) -> Any:
    import mne

    raw = mne.io.RawArray(tracing.signal_CT, tracing.info.copy())
    raw.set_meas_date(_DATE)
    return raw.set_annotations(_annotations(tracing.events, _DATE))


def _write_eeglab(tracing: Tracing, folder: Path) -> Path:
    import mne

    path = folder / "tracing.set"
    mne.export.export_raw(path, _raw_array(tracing), fmt="eeglab")
    return path


def _write_fif(tracing: Tracing, folder: Path) -> Path:
    path = folder / "tracing_raw.fif"
    _raw_array(tracing).save(path)
    return path


_WRITERS = {"edf": _write_edf, "brainvision": _write_brainvision, "eeglab": _write_eeglab, "fif": _write_fif}


def _undate_mat(path: Path) -> None:
    """MATLAB files begin with 116 bytes of free text, in which SciPy writes the time of day."""
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 5.0 MAT-file, written by NeuroLoom".ljust(116))


def _correct_unit(path: Path) -> None:
    """EEGLAB files hold µV; mne-bids writes the unit that MNE turns them into."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table["units"] = table["units"].replace("V", "µV")
    _write_tsv(path, table)


def _write_event_levels(path: Path, events: Events) -> None:
    """Say what the labels of the events mean, in the sidecar that mne-bids may have begun."""
    sidecar = json.loads(path.read_text()) if path.exists() else {}
    levels = {label: _LEVELS[label] for label in sorted(set(events.label))}
    _write_json(path, sidecar | {"trial_type": {"Description": "Condition", "Levels": levels}})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_tsv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", float_format="%.6g")
