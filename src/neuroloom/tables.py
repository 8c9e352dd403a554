"""Tidy tables of a study, gathered from the manifests and rows that its jobs left behind."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.artifacts import open_artifact
from neuroloom.config import ConfigError, RecordingRow
from neuroloom.quarantine import Quarantined, QuarantineRow

ENTITIES = ["study", "site", "subject", "session", "task", "run", "modality", "path"]
FACTS = ["n_rows", "n_columns", "duration", "bytes", "digest", "source_sha256"]
QUARANTINE = list(QuarantineRow.__dataclass_fields__)


def recordings_table(rows: Sequence[RecordingRow], manifests: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """One line for each recording of the sheet, and one for each that was quarantined.

    Parameters
    ----------
    rows : sequence of RecordingRow
    manifests : sequence of Path
        The last manifest of each recording, in the order of the rows.

    Returns
    -------
    recordings : DataFrame
        Entities and labels, status (`artifact` or `quarantined`), duration in s, size in bytes, content digest.
    quarantine : DataFrame
        Recording, stage, file, reason, remedy.
    """
    lines, lost = [], []
    for row, manifest in zip(rows, manifests, strict=True):
        entities = {"recording": row.recording, **row.model_dump(include=set(ENTITIES)), **row.labels}
        try:
            lines.append({**entities, "status": "artifact", **_facts(manifest)})
        except Quarantined as error:
            lost.append(vars(error.row))
            lines.append({**entities, "status": "quarantined"})
    recordings = pd.DataFrame(lines)
    missing = [name for name in FACTS if name not in recordings]  # where no recording at all became an artifact
    return recordings.assign(**dict.fromkeys(missing, np.nan)), pd.DataFrame(lost, columns=QUARANTINE).astype("string")


def _facts(manifest: Path) -> dict[str, Any]:
    artifact = open_artifact(manifest)
    shape = artifact.manifest["arrays"][artifact.spec.windowed]["shape"]
    step = artifact.attrs["t_r"] if "t_r" in artifact.attrs else 1 / artifact.attrs["sfreq"]
    return {
        "n_rows": shape[0],
        "n_columns": shape[-1],
        "duration": shape[-1] * step,
        "bytes": sum(size for size, _ in artifact.manifest["files"].values()),
        "digest": artifact.digest,
        "source_sha256": next(iter(_source_digests(artifact.path)), ""),
    }


def _source_digests(store: Path) -> Iterable[str]:
    """Digests of the source files, kept in the provenance of the ingested store of the same name."""
    return open_artifact(store.parent.parent / "ingest" / store.name).attrs["source_files"].values()


def concat_rows(paths: Sequence[Path]) -> pd.DataFrame:
    """QC rows of many recordings as one table; the recordings that were quarantined have no row."""
    rows = [pd.read_parquet(path) for path in paths]
    kept = [row for row in rows if not row["quarantined"].any()]
    return pd.concat(kept, ignore_index=True) if kept else pd.DataFrame({"recording": pd.Series(dtype="string")})


def concat_tables(paths: Sequence[Path]) -> pd.DataFrame:
    """Tables of one kind as one; those without a row are passed over."""
    tables = [pd.read_parquet(path) for path in paths]
    kept = [table for table in tables if len(table)]
    return pd.concat(kept, ignore_index=True) if kept else (tables[0] if tables else pd.DataFrame())


def check_quarantine(quarantine: pd.DataFrame, *, n_recordings: int, max_fraction: float) -> dict[str, Any]:
    """Refuse a study of which too much was lost.

    Raises
    ------
    ConfigError
        With the reasons, most frequent first.
    """
    fraction = len(quarantine) / max(n_recordings, 1)
    if fraction > max_fraction:
        reasons = quarantine.groupby("reason").size().sort_values(ascending=False).head(5)
        listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.items())
        raise ConfigError(
            f"{len(quarantine)} of {n_recordings} recordings were quarantined, more than quarantine.max_fraction = "
            f"{max_fraction:g} allows: {listed}. The report lists each with its remedy; mend them, or raise the limit"
        )
    return {"quarantined": len(quarantine), "recordings": n_recordings, "max_fraction": max_fraction}


def study_summary(recordings: pd.DataFrame) -> pd.DataFrame:
    """Subjects, recordings, usable minutes and quarantined recordings by study, site and modality."""
    grouped = recordings.assign(lost=recordings["status"] == "quarantined").groupby(["study", "site", "modality"])
    table = grouped.agg(
        subjects=("subject", "nunique"),
        recordings=("recording", "size"),
        minutes=("duration", lambda seconds: seconds.sum() / 60),
        quarantined=("lost", "sum"),
    )
    return table.reset_index()


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write a small JSON file."""
    path.write_text(json.dumps(values, indent=1) + "\n")
