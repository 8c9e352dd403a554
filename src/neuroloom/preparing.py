"""One recording for a question outside of a run: a store of a study, or a file that goes the way of the rules."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuroloom.artifacts import Artifact, open_artifact, write_artifact
from neuroloom.config import Config, ConfigError, RecordingRow, SourceConfig
from neuroloom.records import Recording
from neuroloom.study.rows import source_of, study_rows

ENDING = ".manifest.json"


@dataclass(frozen=True)
class Prepared:
    """A cleaned recording, and its row of the sheet, None where no sheet has it."""

    artifact: Artifact
    row: RecordingRow | None


@contextmanager
def prepared(asked: str, *, config: Config, results: Path) -> Iterator[Prepared]:
    """A cleaned recording, for as long as the body runs.

    Parameters
    ----------
    asked : str
        Name of a recording of the study, a preprocessed store or its manifest, or a raw file.
    config : Config
        Says how a raw file is read and cleaned.
    results : Path
        Of the study.

    Raises
    ------
    ConfigError
        If there is no such recording.
    UnusableRecording
        If it cannot be used.
    """
    rows = study_rows(config, check=False)
    path, kept = Path(asked), results / "preprocess" / f"{asked}{ENDING}"
    if path.name.endswith((".zarr", ENDING)) and path.exists():
        yield _of_store(path, rows)
    elif "/" not in asked and kept.exists():
        yield _of_store(kept, rows)
    elif path.exists():
        row = _row_of_file(path, rows, root=_root(config, results))
        with tempfile.TemporaryDirectory(prefix="neuroloom-") as folder:
            yield Prepared(clean_file(path, row=row, config=config, folder=Path(folder)), row)
    else:
        known = ", ".join(row.recording for row in rows[:3]) or "none yet"
        raise ConfigError(
            f"{asked}: neither a file nor a preprocessed recording of {results}; its sheet has {known}. Give "
            "a path, or run the study first"
        )


def _of_store(path: Path, rows: list[RecordingRow]) -> Prepared:
    artifact = open_artifact(path, kind="recording")
    name = str(artifact.attrs.get("recording", ""))
    if artifact.attrs.get("stage") == "ingest_meeg":
        raise ConfigError(f"{path}: is not cleaned; name the store of the same name in preprocess")
    return Prepared(artifact, next((row for row in rows if row.recording == name), None))


def _root(config: Config, results: Path) -> Path:
    """Folder that the sheet's paths start from."""
    return results / "simulated" if config.study.recordings is None else Path(config.study.root_path)


def _row_of_file(path: Path, rows: list[RecordingRow], *, root: Path) -> RecordingRow | None:
    return next((row for row in rows if (root / row.path).resolve() == path.resolve()), None)


def clean_file(path: Path, *, row: RecordingRow | None, config: Config, folder: Path) -> Artifact:
    """Ingest and preprocess one EEG or MEG file, with the numbers that the rules would give it.

    Parameters
    ----------
    path : Path
    row : RecordingRow or None
        Of the sheet, which says whose facts hold; None: those of the study.
    config : Config
    folder : Path
        Gets both stores.
    """
    from neuroloom.provenance import child_rng
    from neuroloom.signals.ingest import to_recording
    from neuroloom.signals.preprocess import preprocess_meeg
    from neuroloom.signals.reading import read_raw
    from neuroloom.signals.site import read_site
    from neuroloom.study.site_files import empty_rooms_of, head_files_of

    source = source_of(row, config) if row else config.sources.get(config.study.name, SourceConfig())
    name = row.recording if row else path.name.split(".")[0]
    ingested, _ = to_recording(read_raw(path, source=source), path=path, source=source, config=config.ingest)
    before = _stored(ingested, folder / "ingest" / f"{name}.zarr", config.ingest.window)
    site = read_site(*((empty_rooms_of(row, config), head_files_of(row, config)) if row else ([], [])))
    clean, _ = preprocess_meeg(
        recording=Recording.from_artifact(before),
        config=config.preprocess.meeg,
        window=config.ingest.window,
        rng=child_rng(config.study.seed, f"preprocess/{name}"),
        file=str(before.path),
        empty_room=site.empty_room,
        head=site.head,
    )
    return _stored(clean, folder / "preprocess" / f"{name}.zarr", config.ingest.window)


def _stored(recording: Recording, path: Path, window: float) -> Artifact:
    size = min(round(window * recording.sfreq), recording.signal_CT.shape[1])
    attrs = {**recording.attrs(), "recording": path.stem}
    write_artifact(path, "recording", arrays=recording.arrays(), attrs=attrs, window=size)
    return open_artifact(path, kind="recording")
