"""What every script of a rule does around its one call: log, provenance, write, quarantine."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from neuroloom.artifacts import write_artifact
from neuroloom.provenance import config_digest, file_digest, git_commit, versions
from neuroloom.quarantine import Quarantined, QuarantineRow, UnusableRecording, write_quarantine

logger = logging.getLogger(__name__)


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
    """

    snakemake: Any
    stage: str
    recording: str

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
        params = {key: value for key, value in self.snakemake.params.items() if key != "source"}
        attrs = {
            **record.attrs(),
            "recording": self.recording,
            "stage": self.stage,
            "source_files": {path.name: file_digest(path) for path in sources},
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
        pd.DataFrame([{"recording": self.recording, "quarantined": False, **values}]).to_parquet(path)


@contextmanager
def recording_job(snakemake: Any) -> Iterator[Job]:
    """Run the body for one recording, pair or device; what cannot be used is quarantined instead of failing the study.

    Every declared output is then written all the same (an empty store, a quarantine manifest, a row, a notice as
    figure), so that the graph goes on and the report can say why.
    """
    with logged(snakemake):
        names = (getattr(snakemake.wildcards, kind, "") for kind in ("recording", "pair", "device"))
        job = Job(snakemake, stage=snakemake.rule, recording=next(filter(None, names)))
        try:
            yield job
        except UnusableRecording as error:
            row = error.row if isinstance(error, Quarantined) else _row(job, error)
            logger.warning("quarantined: %s", error)
            _write_outputs(snakemake.output, row)


@contextmanager
def logged(snakemake: Any) -> Iterator[None]:
    """Send log records of a script, and the traceback of a failure, to the rule's log file."""
    handler = logging.FileHandler(snakemake.log[0], mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    except BaseException:
        logger.exception("%s failed", snakemake.rule)
        raise
    finally:
        root.removeHandler(handler)
        handler.close()


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
            pd.DataFrame([{**asdict(row), "quarantined": True}]).to_parquet(path)
        elif path.suffix == ".png":
            from neuroloom.figures.style import plot_notice, save_figure

            save_figure(plot_notice(row.recording, f"quarantined by {row.stage}: {row.reason}\n{row.remedy}"), path)
    write_quarantine(Path(output.manifest), row)
