"""Read any EEG or MEG file that MNE knows, a BIDS recording, or a table, as an `mne.io.Raw`."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.config import ColumnsConfig, SourceConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.sidecars import read_object
from neuroloom.signals.streams import Stream
from neuroloom.study.bids import dataset_root
from neuroloom.study.links import check_companions
from neuroloom.trial import find_harm

TABLES = (".csv", ".tsv", ".txt", ".arff")
VOLTS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "nV": 1e-9}
PLAUSIBLE_SFREQ = (1.0, 200_000.0)
MIN_SECONDS = 0.1
VALUES_PER_BYTE = 50  # files of few fast and many slow channels, which MNE brings to one rate, reach 20
NAMED = re.compile(r"^(?:DataFile|MarkerFile)\s*=\s*(.+?)\s*$", re.MULTILINE)
REMEDY = "Check that the file is complete and of the format that its name says"
logger = logging.getLogger(__name__)


def read_raw(path: Path, *, source: SourceConfig) -> Any:
    """Open a recording; its samples stay in the file where the format allows it.

    Parameters
    ----------
    path : Path
        A file, or a folder (CTF `.ds`, BTi, EGI `.mff`).
    source : SourceConfig
        What the file does not say itself; `columns` is needed for tables.

    Returns
    -------
    mne.io.BaseRaw
        V and T, with annotations.

    Raises
    ------
    UnusableRecording
        If the file is missing, damaged or of an unknown format.
    """
    if not (path.is_file() or path.is_dir()):
        found = "neither a file nor a folder" if path.exists() else "the file does not exist"
        raise UnusableRecording(path, found, "Correct the sheet's path or bring the file")
    if _is_bti(path):
        _bti_file(path)  # before any other folder is searched through
    import mne.io  # noqa: F401  before the fork, or child and parent load it each

    files = source_files(path)
    check_companions(path, [*files, *_named_files(path)])
    if harm := find_harm(lambda: _open(path, source), size=sum(file.stat().st_size for file in files)):
        raise UnusableRecording(path, harm, REMEDY)
    try:
        raw = _open(path, source)
        _check_claims(raw, path, size=sum(file.stat().st_size for file in files))
    except UnusableRecording:
        raise
    except Exception as error:  # readers of vendor formats raise anything from struct.error to IndexError
        raise _unreadable(path, "pandas" if path.suffix.lower() in TABLES else "MNE", error) from error
    return raw


def _open(path: Path, source: SourceConfig) -> Any:
    import mne

    if path.suffix.lower() in TABLES:
        return read_table(path, columns=source.columns)
    if root := bids_root(path):
        return _read_bids(path, root)
    if _is_bti(path):
        return mne.io.read_raw_bti(_bti_file(path), head_shape_fname=None, verbose="error")
    if path.suffix.lower() == ".raw":
        return mne.io.read_raw_egi(path, verbose="error")
    return mne.io.read_raw(path, verbose="error")


def _named_files(path: Path) -> list[Path]:
    """Files that a BrainVision header names."""
    if path.suffix.lower() not in (".vhdr", ".ahdr"):
        return []
    names = NAMED.findall(path.read_text(encoding="latin-1"))
    if elsewhere := [name for name in names if "/" in name or "\\" in name]:
        reason = f"its header names {elsewhere[0]!r}, which is no file beside it"
        raise UnusableRecording(path, reason, "Place the file beside the header and name it there without a folder")
    return [path.parent / name for name in names]


def _check_claims(raw: Any, path: Path, *, size: int) -> None:
    """Refuse what no recording has, before anything is made as large as the header says."""
    check_companions(path, [Path(file) for file in raw.filenames if file is not None])
    raw.get_channel_types()  # raises where the file has types of its own
    sfreq, n_channels, n_times = float(raw.info["sfreq"]), len(raw.ch_names), int(raw.n_times)
    low, high = PLAUSIBLE_SFREQ
    if not low <= sfreq <= high:
        raise UnusableRecording(path, f"a sampling rate of {sfreq:g} Hz (plausible: {low:g} to {high:g})", REMEDY)
    if n_times < MIN_SECONDS * sfreq:
        raise UnusableRecording(path, f"{n_times} samples, {n_times / sfreq:.3g} s, are no recording", REMEDY)
    if n_channels * n_times > VALUES_PER_BYTE * size:
        reason = f"the header claims {n_channels} channels of {n_times} samples, the file has {size} bytes"
        raise UnusableRecording(path, reason, REMEDY)
    if odd := [name for name in raw.ch_names if not name.isprintable()]:
        raise UnusableRecording(path, f"channel names that cannot be printed: {odd}", "Repair the header")


def _unreadable(path: Path, reader: str, error: Exception) -> UnusableRecording:
    said = str(error).strip().splitlines()[0] if str(error).strip() else ""
    reason = f"{reader} cannot read it ({type(error).__name__}: {said})"
    return UnusableRecording(path, reason, REMEDY)


class RawStream(Stream):
    """The samples of an `mne.io.Raw`, which stay in its file until they are asked for.

    Parameters
    ----------
    raw : mne.io.BaseRaw
    path : Path
        Named in errors.
    factor_C : array
        Multiplies each channel, for files that name a wrong unit.
    """

    def __init__(self, raw: Any, *, path: Path, factor_C: np.ndarray) -> None:
        super().__init__((len(raw.ch_names), int(raw.n_times)))
        self._raw, self._path, self._factor_C1 = raw, path, factor_C[:, None].astype(np.float32)

    def read(self, first: int, stop: int) -> np.ndarray:
        """From the file; a file that breaks off here cannot be used."""
        try:
            signal_CT = self._raw[:, first:stop][0].astype(np.float32)
        except Exception as error:
            raise _unreadable(self._path, "MNE", error) from error
        return signal_CT if (self._factor_C1 == 1).all() else signal_CT * self._factor_C1


def _is_bti(path: Path) -> bool:
    """Whether it is a folder of the one kind without a suffix."""
    return path.is_dir() and path.suffix.lower() not in (".ds", ".mff")


def bids_root(path: Path) -> Path | None:
    """The BIDS dataset that a recording belongs to, None outside of one or under another name."""
    return dataset_root(path) if path.name.startswith("sub-") else None


def read_sidecar(path: Path) -> dict[str, Any]:
    """The JSON sidecar beside a BIDS recording, empty where there is none."""
    sidecar = path.with_name(path.name.split(".")[0] + ".json")
    if bids_root(path) is None or not sidecar.exists():
        return {}
    return read_object(sidecar)


def site_files(path: Path) -> dict[str, Path]:
    """Fine calibration and cross-talk of a Neuromag site, where BIDS keeps them: beside the recording."""
    names = {"calibration": "*_acq-calibration_meg.dat", "cross_talk": "*_acq-crosstalk_meg.fif"}
    found = {name: sorted(path.parent.glob(pattern)) for name, pattern in names.items()} if bids_root(path) else {}
    return {name: files[0] for name, files in found.items() if files}


def source_files(path: Path) -> list[Path]:
    """All files of a recording, sorted: headers with their data, sidecars, folders with their content."""
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    companions = {".vhdr": (".eeg", ".vmrk", ".dat"), ".set": (".fdt",)}.get(path.suffix.lower(), ())
    files = [path, *(path.with_suffix(suffix) for suffix in companions if path.with_suffix(suffix).exists())]
    if bids_root(path):
        stem = path.name.rsplit("_", 1)[0]
        files += [file for file in path.parent.glob(f"{stem}_*") if file.suffix in (".json", ".tsv")]
        files += site_files(path).values()
    return sorted(set(files))


def read_table(path: Path, *, columns: ColumnsConfig | None) -> Any:
    """Read a csv, tsv or arff recording by its column map.

    Raises
    ------
    UnusableRecording
        If there is no column map, a column is missing or not numeric, or the time stamps contradict `sfreq`.
    """
    import mne

    if columns is None:
        raise UnusableRecording(path, "a table without a column map", "Give sources.<study>.columns in the config")
    table = (
        _read_arff(path)
        if path.suffix.lower() == ".arff"
        else pd.read_csv(path, sep="," if path.suffix.lower() == ".csv" else "\t")
    )
    wanted = [*columns.channels, *(name for name in (columns.time, columns.events) if name)]
    if missing := [name for name in wanted if name not in table.columns]:
        found = f"columns {', '.join(map(str, table.columns))}; missing {', '.join(missing)}"
        raise UnusableRecording(path, found, "Correct sources.<study>.columns")
    numbers = table[wanted].apply(pd.to_numeric, errors="coerce")
    if columns.time:
        _check_clock(path, numbers[columns.time].to_numpy(), columns.sfreq)
    signal_CT = numbers[list(columns.channels)].to_numpy().T * VOLTS[columns.unit]
    info = mne.create_info(list(columns.channels.values()), columns.sfreq, "eeg")
    raw = mne.io.RawArray(signal_CT, info, verbose="error")
    if columns.events:
        raw.set_annotations(_marker_annotations(numbers[columns.events].fillna(0).to_numpy(), columns.sfreq))
    return raw


def _read_arff(path: Path) -> pd.DataFrame:
    lines = path.read_text().splitlines()
    names = [line.split()[1] for line in lines if line.lower().startswith("@attribute")]
    start = next((at for at, line in enumerate(lines) if line.lower().startswith("@data")), None)
    if start is None:
        raise UnusableRecording(path, "no @DATA line", "Check that the file is a complete arff file")
    rows = [line.split(",") for line in lines[start + 1 :] if line.strip() and not line.startswith("%")]
    return pd.DataFrame(rows, columns=names)


def _check_clock(path: Path, time_T: np.ndarray, sfreq: float) -> None:
    """Time stamps of consumer headsets jitter and repeat, so the mean rate counts, not each step."""
    rate = (len(time_T) - 1) / (time_T[-1] - time_T[0]) if len(time_T) > 1 and time_T[-1] > time_T[0] else 0.0
    if not np.isclose(rate, sfreq, rtol=0.02):
        reason = f"time stamps run at {rate:.2f} Hz, the config says {sfreq:g} Hz"
        raise UnusableRecording(path, reason, "Correct sources.<study>.columns.sfreq, or look for lost samples")


def _marker_annotations(marker_T: np.ndarray, sfreq: float) -> Any:
    """An event at each change to a non-zero marker; its duration is as long as the marker holds."""
    import mne

    edges = np.flatnonzero(np.diff(marker_T, prepend=0))
    ends = np.append(edges[1:], len(marker_T))
    kept = marker_T[edges] != 0
    labels = [f"{marker_T[edge]:g}" for edge in edges[kept]]
    return mne.Annotations(edges[kept] / sfreq, (ends - edges)[kept] / sfreq, labels)


def _read_bids(path: Path, root: Path) -> Any:
    import mne_bids

    raw = mne_bids.read_raw_bids(mne_bids.get_bids_path_from_fname(path, verbose="error"), verbose="error")
    logger.info("read %s as BIDS below %s", path.name, root.name)
    return raw


def _bti_file(folder: Path) -> Path:
    """The data file of a BTi folder: the one beside `config` whose name has the processing flags (`c,rfDC`)."""
    found = sorted(file for file in folder.glob("*c,rf*") if not file.name.endswith("hs_file"))
    if not found:
        raise UnusableRecording(folder, "a folder without a BTi data file", "Name the .ds, .mff or BTi folder")
    return found[0]
