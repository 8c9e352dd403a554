"""A child that ingests what it is told, one file a line, in little memory: what a hostile file does stays in here.

A JSON object with `path` and `modality` comes in, one with `outcome` and `text` goes out. The outcome is `usable`,
`unusable`, or the name of another exception.
"""

import json
import resource
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any

import mne
import psutil

from neuroloom.artifacts import write_artifact
from neuroloom.bold.reading import bold_source_files, read_bold
from neuroloom.config import ColumnsConfig, IngestConfig, SourceConfig
from neuroloom.provenance import file_digest
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Volumes
from neuroloom.signals.ingest import to_recording
from neuroloom.signals.reading import read_raw, source_files

MEMORY = 2 * 2**30
COLUMNS = ColumnsConfig(channels={"a": "Cz", "b": "Pz"}, sfreq=100.0, time="t", events="m")
SOURCE = SourceConfig(columns=COLUMNS, montage="colin27_1020", line_freq=50)
ANY_SIZE = IngestConfig(plausible_eeg_uv=(0.0, 1e30))


def ingest(path: Path, modality: str) -> None:
    """What the scripts `ingest_meeg` and `ingest_bold` do with a file."""
    record: Any
    if modality == "bold":
        record, window, files = read_bold(path, source=SOURCE), None, bold_source_files(path)
        kind = "volumes" if isinstance(record, Volumes) else "bold"
    else:
        record, _ = to_recording(read_raw(path, source=SOURCE), path=path, source=SOURCE, config=ANY_SIZE)
        kind, window, files = "recording", min(round(10 * record.sfreq), record.signal_CT.shape[1]), source_files(path)
    attrs = dict.fromkeys(("recording", "stage", "config_digest", "source_digest", "git_commit", "upstream"), "")
    facts = {"source_files": {file.name: file_digest(file) for file in files}, "versions": {}, "notes": {}}
    store = path.parent / "out.zarr"
    try:
        write_artifact(store, kind, arrays=record.arrays(), attrs={**record.attrs(), **attrs, **facts}, window=window)
    finally:
        shutil.rmtree(store, ignore_errors=True)


def attempt(path: Path, modality: str) -> dict[str, str]:
    """How it went."""
    try:
        ingest(path, modality)
    except UnusableRecording as error:
        told = len(error.reason) > 5 and len(error.remedy) > 5 and path.parent.name in error.file
        return {"outcome": "unusable" if told else "says too little", "text": str(error)}
    except Exception as error:
        return {"outcome": type(error).__name__, "text": traceback.format_exc()}
    return {"outcome": "usable", "text": ""}


def main() -> None:
    """Answer until the input ends."""
    mne.channels.make_standard_montage("colin27_1020")
    limit = psutil.Process().memory_info().vms + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    out, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        out.write(json.dumps(attempt(Path(asked["path"]), asked["modality"])) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
