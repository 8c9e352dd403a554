"""What every script of a rule does around its one call: log, provenance, write, quarantine."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from neuroloom.artifacts import write_artifact
from neuroloom.journal import write_entry
from neuroloom.manifest import ArtifactError, find_damaged
from neuroloom.provenance import UNTOLD, config_digest, file_digest, git_commit, versions
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording, write_quarantine

logger = logging.getLogger(__name__)
AGAIN = "then run the same command again: what is finished is kept"
MEMORY = f"Memory is used up: give the rule more, or use fewer cores, {AGAIN}"
MACHINE = {  # failures of the machine, for which no recording is to blame
    errno.ENOSPC: f"The disk is full: make room, {AGAIN}",
    errno.EDQUOT: f"The quota of the disk is used up: make room or ask for more, {AGAIN}",
    errno.EROFS: f"The disk can only be read: have it mounted for writing, or work in another folder, {AGAIN}",
    errno.EACCES: f"A file may not be read or written: correct its owner or mode, {AGAIN}",
    errno.EMFILE: f"Too many files are open: raise ulimit -n, {AGAIN}",
    errno.ESTALE: f"The network file system lost a file: see that it is mounted, {AGAIN}",
}


class Record(Protocol):
    """Anything that turns into the arrays and attributes of an artifact (`neuroloom.records`)."""

    def arrays(self) -> dict[str, Any]:
        """Arrays by name."""

    def attrs(self) -> dict[str, Any]:
        """Root attributes."""


@dataclass(frozen=True)
class Job:
    """One running rule.

    Attributes
    ----------
    snakemake : object
        The object that Snakemake gives to a script.
    stage : str
        Name of the rule.
    recording : str
        Identifier of the recording, pair or device.
    sources : dict
        sha256 of the source files that were read.
    """

    snakemake: Any
    stage: str
    recording: str
    sources: dict[Path, str] = field(default_factory=dict)

    def write(
        self,
        kind: str,
        record: Record,
        *,
        sources: Sequence[Path] = (),
        upstream: Mapping[str, str] | None = None,
        notes: Mapping[str, Any] | None = None,
        window: int | None = None,
    ) -> None:
        """Write `output.store` and its manifest, with provenance.

        Parameters
        ----------
        sources : sequence of Path
            Source files, hashed into the provenance.
        upstream : mapping
            Content digests of the stores that this one was made from.
        notes : mapping
            What the stage changed or found, kept in the root attributes.
        window : int, optional
            Samples in one chunk.
        """
        params = {key: value for key, value in self.snakemake.params.items() if key not in UNTOLD}
        self.sources.update({path: file_digest(path) for path in sources})
        attrs = {
            **record.attrs(),
            "recording": self.recording,
            "stage": self.stage,
            "source_files": {path.name: self.sources[path] for path in sources},
            "upstream": dict(upstream or {}),
            "notes": _without_nan(notes or {}),
            "config_digest": config_digest(params),
            "source_digest": self.snakemake.params.get("source", ""),
            "git_commit": git_commit(),
            "versions": versions(),
        }
        write_artifact(self.snakemake.output.store, kind, arrays=record.arrays(), attrs=attrs, window=window)

    def write_row(self, values: Mapping[str, Any], path: str) -> None:
        """Write one row of the QC table."""
        import pandas as pd

        pd.DataFrame([{"recording": self.recording, "quarantined": False, **values}]).to_parquet(path)


@contextmanager
def recording_job(snakemake: Any) -> Iterator[Job]:
    """Run the body for one recording, pair or device; what cannot be used is quarantined instead of failing the study.

    Every declared output is then written all the same (an empty store, a quarantine manifest, a row, a notice as
    figure), so that the graph goes on and the report can say why.
    """
    with logged(snakemake) as sources:
        names = (getattr(snakemake.wildcards, kind, "") for kind in ("recording", "pair", "device"))
        job = Job(snakemake, stage=snakemake.rule, recording=next(filter(None, names)), sources=sources)
        try:
            yield job
        except UnusableRecording as error:
            if _machine_fault(error):
                raise
            row = error.row if isinstance(error, Quarantined) else _row(job, error)
            logger.warning("quarantined: %s", error)
            _write_outputs(snakemake.output, row)


@contextmanager
def logged(snakemake: Any) -> Iterator[dict[Path, str]]:
    """Send log records of a script, and the traceback of a failure, to the rule's log file; note what was made of what.

    A failure that is the machine's, or a damaged input's, says so in its last lines.

    Yields
    ------
    dict
        sha256 of the source files that the script reads beside its inputs, to be filled by it.
    """
    stream = _open_log(Path(snakemake.log[0]))
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    sources: dict[Path, str] = {}
    try:
        yield sources
        write_entry(snakemake, sources)
    except BaseException as error:
        for note in _explain(error, snakemake):
            error.add_note(note)
        logger.exception("%s failed", snakemake.rule)
        raise
    finally:
        root.removeHandler(handler)
        stream.close()


def _open_log(path: Path) -> IO[str]:
    """The log of a job, for as long as it lives its own: a job that outlives its Snakemake writes the same outputs."""
    stream = path.open("a")
    if os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) != "0":
        return stream  # one job of several processes: the first of them holds the log
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.write("the same job of an earlier run is still at work; this one begins when it has ended\n")
        stream.flush()
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError:
        pass  # some network file systems have no locks
    stream.truncate(0)
    return stream


def _explain(error: BaseException, snakemake: Any) -> Iterator[str]:
    if remedy := _machine_fault(error):
        yield remedy
    elif isinstance(error, MemoryError):
        yield MEMORY
    elif isinstance(error, Exception) and not isinstance(error, ArtifactError):
        yield from (f"An input is damaged: {damage}" for damage in find_damaged(snakemake.input))


def _machine_fault(error: BaseException | None) -> str:
    """What to do about a failure of the machine, which may lie behind the error; empty for others."""
    while error is not None:
        told = re.search(r"os error (\d+)", str(error))  # as libraries in Rust say it (safetensors)
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number in MACHINE:
            return MACHINE[number]
        error = error.__cause__ or error.__context__
    return ""


def _without_nan(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has no NaN, which is the one value that differs from itself."""
    return {key: None if value != value else value for key, value in values.items()}


def _row(job: Job, error: UnusableRecording) -> QuarantineRow:
    return QuarantineRow(job.recording, job.stage, error.file, error.reason, error.remedy)


def _write_outputs(output: Any, row: QuarantineRow) -> None:
    import shutil

    shutil.rmtree(output.store, ignore_errors=True)
    Path(output.store).mkdir(parents=True)
    for path in (Path(name) for name in output if name != output.store):
        if path.suffix == ".parquet":
            import pandas as pd

            pd.DataFrame([{**asdict(row), "quarantined": True}]).to_parquet(path)
        elif path.suffix == ".png":
            from neuroloom.figures.style import plot_notice, save_figure

            save_figure(plot_notice(row.recording, f"quarantined by {row.stage}: {row.reason}\n{row.remedy}"), path)
    write_quarantine(Path(output.manifest), row)
