"""`make figures`: figures and tables of the paper from the tables of a study, where nothing else is left of it."""

import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from neuroloom.figures.gallery import FORMATS, drawn_from, rule_names
from neuroloom.figures.headline import headline_table
from neuroloom.figures.listings import listed_from
from neuroloom.figures.stamp import read_stamp
from neuroloom.runtime import JOBS, runtime_table, schedule_table

from .conftest import ROOT, run_snakemake

HEADER = "study\tsite\tsubject\tsession\ttask\trun\tmodality\tpath\n"
PARTS = ("tokenize", "pretrain", "evaluate", "federate", "synthesize")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A config, a sheet whose files are gone, and tables."""
    sheet = tmp_path / "recordings.tsv"
    sheet.write_text(HEADER + "lab\ta\t01\tn/a\trest\tn/a\teeg\tgone.edf\n")
    study = {"name": "old", "recordings": str(sheet), "root": str(tmp_path)}
    off = {part: {"use": []} for part in PARTS}
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump({"study": study, **off}))
    jobs = pd.DataFrame([("ingest_meeg", "ingest", "a", 2.0, 1.0, 100.0)], columns=JOBS)
    name = "lab_a_sub-01_task-rest_eeg"
    entities = {"recording": name, "study": "lab", "site": "a", "subject": "01", "modality": "eeg"}
    counts = {"n_channels": 32, "n_bads": 1, "n_ocular": 2, "n_muscle": 0, "n_windows": 12, "n_rejected": 1}
    mains = {"line_db_before": 12.0, "line_db_after": 0.1}
    tables = {
        "recordings": pd.DataFrame([{**entities, "duration": 60.0, "status": "artifact"}]),
        "quarantine": pd.DataFrame({"recording": [], "reason": []}),
        "qc_meeg": pd.DataFrame([{"recording": name, **counts, **mains}]),
        "qc_bold": pd.DataFrame({"recording": []}),
        "jobs": jobs,
        "runtime": runtime_table(jobs),
        "schedule": schedule_table(jobs),
        "headline": headline_table({}),
    }
    folder = tmp_path / "results/old/tables"
    folder.mkdir(parents=True)
    for name, table in tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    return tmp_path


def draw(archive: Path) -> str:
    words = ("--cores", "2", "--forceall", "--allowed-rules", *rule_names(), "--", "figures")
    run = run_snakemake(archive, *words, config=archive / "overlay.yaml")
    assert run.returncode == 0, run.stdout[-3000:]
    return run.stdout


def test_all_is_drawn_from_tables_alone_and_again_with_the_same_bytes(archive: Path) -> None:
    study = archive / "results/old"
    tables = {path.stem: path.read_bytes() for path in study.glob("tables/*.parquet")}
    draw(archive)
    figures = {path.name: path.read_bytes() for path in study.glob("figures/*.*")}
    listings = {path.name: path.read_bytes() for path in study.glob("figures/tables/*")}
    assert set(figures) == {f"{name}.{ending}" for name in drawn_from(tables) for ending in FORMATS}
    assert set(listings) == {f"{name}.{ending}" for name in listed_from(tables) for ending in ("tex", "csv")}
    assert {path.stem: path.read_bytes() for path in study.glob("tables/*.parquet")} == tables, "no table is made again"
    assert not (study / "preprocess").exists()
    assert set(read_stamp(study / "figures/quality_sites.pdf")["tables"]) == {"recordings", "qc_meeg", "qc_bold"}

    changed = pd.read_parquet(study / "tables/qc_meeg.parquet").assign(n_bads=2)
    changed.to_parquet(study / "tables/qc_meeg.parquet")
    draw(archive)
    again = {path.name: path.read_bytes() for path in study.glob("figures/*.*")}
    assert {name for name in figures if again[name] != figures[name]} == {
        f"quality_sites.{ending}" for ending in FORMATS
    }
    assert {path.name: path.read_bytes() for path in study.glob("figures/tables/*")} == listings


def test_make_figures_asks_for_the_same_rules() -> None:
    recipe = re.search(r"^figures: .*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    assert all(
        word in recipe[1] for word in ("--forceall", "--allowed-rules", "-m neuroloom.figures.gallery", "-- figures")
    )
