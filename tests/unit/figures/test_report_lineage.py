"""The report names the file of a table, its digest, and the job that made it."""

import hashlib
from pathlib import Path

import pandas as pd
import yaml

from neuroloom.config import parse_config
from neuroloom.figures.report import render_report
from neuroloom.figures.report_lineage import table_files
from neuroloom.journal import Entry, Journal

from .test_report import figures, page_of, tables

__all__ = ["figures", "tables"]
MADE = {"tables/quarantine.parquet": "aa" * 32}
READ = {"tables/recordings.parquet": "bb" * 32, "ingest/r1.manifest.json": "cc" * 32}


def journal(study: Path) -> Journal:
    return Journal(study, (Entry("collect_tables", "all", "2026-01-01", READ, MADE, {}, "", "", "ab" * 20 + "+", {}),))


def test_a_table_is_told_with_its_digest_and_its_maker(tmp_path: Path) -> None:
    paths = [tmp_path / "tables" / f"{name}.parquet" for name in ("quarantine", "recordings")]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(path.name.encode())
    found = table_files(paths, journal(tmp_path))
    made, unknown = found["quarantine"], found["recordings"]
    assert made.sha256 == hashlib.sha256(b"quarantine.parquet").hexdigest()
    assert (made.rule, made.commit, made.inputs) == ("collect_tables", "abababababab+", READ)
    assert made.recorded == "aa" * 32
    assert (unknown.rule, unknown.inputs, unknown.path) == ("", {}, paths[1].as_posix())
    assert unknown.listing == "figures/tables/recordings.csv"
    assert made.listing == ""


def test_the_page_leads_from_a_table_to_its_file_and_record(
    repository: Path, tables: dict[str, pd.DataFrame], figures: dict[str, Path], tmp_path: Path
) -> None:
    config = parse_config(yaml.safe_load((repository / "config/config.yaml").read_text()))
    paths = [tmp_path / "tables" / f"{name}.parquet" for name in tables]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(b"PAR1")
    files = table_files(paths, journal(tmp_path))
    html = render_report(config=config, tables=tables, figures=figures, files=files)
    digest = hashlib.sha256(b"PAR1").hexdigest()
    study, lineage = page_of(html, "study"), page_of(html, "lineage")
    assert f'<a href="tables/quarantine.parquet">quarantine.parquet</a>; sha256 <code>{digest[:12]}</code>' in study
    assert '<a href="#lineage-quarantine">' in study
    entry = lineage.split('id="lineage-quarantine"')[1].split("</article>")[0]
    assert f"<code>{digest}</code> <b>changed since its job recorded aaaaaaaaaaaa</b>" in entry
    assert '<a href="#lineage-recordings">tables/recordings.parquet</a> <code>bbbbbbbbbbbb</code>' in entry
    assert "no record says which job" in lineage.split('id="lineage-runtime"')[1].split("</article>")[0]
