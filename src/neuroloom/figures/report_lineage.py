"""Where the tables of the report come from: their files, and what the job that made each has recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neuroloom.figures.listings import LISTINGS
from neuroloom.journal import Journal, named
from neuroloom.lineage import SHORT
from neuroloom.provenance import file_digest


@dataclass(frozen=True)
class TableFile:
    """The file of a table.

    Attributes
    ----------
    name : str
        Its stem.
    path : str
        As it was given, from the folder that the workflow runs in.
    sha256 : str
    rule : str
        That made it; empty without a record.
    recorded : str
        Its digest in that record.
    commit : str
        Code that the rule ran.
    inputs : dict
        Digest of what it was made from, by path from the folder of the study.
    """

    name: str
    path: str
    sha256: str
    rule: str = ""
    recorded: str = ""
    commit: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """What people compare of the digest."""
        return self.sha256[:SHORT]

    @property
    def listing(self) -> str:
        """Its form for a paper, in the folder of the study, if there is one."""
        return f"figures/tables/{self.name}.csv" if self.name in LISTINGS else ""


def table_files(paths: Iterable[Path], journal: Journal) -> dict[str, TableFile]:
    """Files of tables by name, each with the record of the job that made it.

    Parameters
    ----------
    paths : iterable of Path
        Parquet files of one study.
    journal : Journal
        The records of that study; a job writes its own when it ends, so those of the tables are there.
    """
    return {path.stem: _table_file(path, journal) for path in paths}


def _table_file(path: Path, journal: Journal) -> TableFile:
    name = named(path, journal.study)
    digest = file_digest(path)
    entry = journal.makers.get(name)
    if entry is None:
        return TableFile(path.stem, path.as_posix(), digest)
    commit = entry.git_commit[:SHORT] + "+" * entry.git_commit.endswith("+")
    return TableFile(path.stem, path.as_posix(), digest, entry.rule, entry.outputs[name], commit, entry.inputs)
