"""The smoke study knows where each of its files came from, and notices when one is not what it was."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from neuroloom.cli import app
from neuroloom.crate import NAME, make_crate
from neuroloom.journal import FOLDER, read_journal
from neuroloom.manifest import STAMP


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lineage_of(path: Path) -> dict[str, Any]:
    result = run("lineage", path, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.fixture
def renamed(smoke: Path, tmp_path: Path) -> Path:
    """The study in another place under another name; files are shared with it, so that one has to be replaced whole."""
    return Path(shutil.copytree(smoke / "results/smoke", tmp_path / "archive/renamed", copy_function=os.link))


def test_every_file_of_the_study_has_a_record(smoke: Path) -> None:
    study = smoke / "results/smoke"
    journal = read_journal(study)
    names = (path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file() and path.name != STAMP)
    unknown = {name for name in names if journal.output_of(name) is None}
    assert {name.split("/")[0] for name in unknown} <= {FOLDER, "privacy"}
    kinds = {Path(name).suffix for name in journal.makers}
    assert {".png", ".parquet", ".safetensors", ".html", ".gz", ".json"} <= kinds


def test_a_study_that_was_moved_and_renamed_verifies(renamed: Path) -> None:
    result = run("verify", renamed.parent)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("ok ")


@pytest.mark.parametrize("figure", ["cleaning_curves", "evaluation_downstream", "synthesis_scores"])
def test_a_figure_leads_back_to_the_edf_files(smoke: Path, figure: str) -> None:
    study = smoke / "results/smoke"
    found = lineage_of(study / f"figures/{figure}.png")
    edf = {
        path.relative_to(study).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in study.glob("simulated/north/bids/**/*_task-rest_eeg.edf")
    }
    assert len(edf) == 3
    assert edf.items() <= found["sources"].items()
    assert any(job.startswith("simulate_site/") for job in found["jobs"])
    assert all(job["config_digest"] and job["source_digest"] for job in found["jobs"].values())


def test_a_score_leads_through_the_weights_to_who_was_recorded(smoke: Path) -> None:
    found = lineage_of(smoke / "results/smoke/tables/evaluation.parquet")
    assert "pretrain/reve/fold-0/model.safetensors" in found["files"]
    assert "splits/fold-0.json" in found["files"]
    tokens = lineage_of(smoke / "results/smoke/tokenize/lipcot/fold-0/model.safetensors")
    assert any(path.endswith(".edf") for path in tokens["sources"])


@pytest.mark.parametrize("part", ["synthesize/derivatives", "report.html"])
def test_images_and_the_report_lead_back(smoke: Path, part: str) -> None:
    found = lineage_of(smoke / "results/smoke" / part)
    assert any(path.endswith("_bold.nii.gz") for path in found["sources"])


def test_a_changed_number_is_found_in_the_table_and_behind_its_figure(renamed: Path) -> None:
    table = renamed / "tables/evaluation.parquet"
    values = pd.read_parquet(table)
    number = values.select_dtypes("float").columns[0]
    values.loc[0, number] += 0.01
    table.unlink()
    values.to_parquet(table)
    for result in (run("verify", renamed), run("lineage", renamed / "figures/evaluation_downstream.png")):
        assert result.exit_code == 1
        assert "tables/evaluation.parquet: changed since collect_evaluation/collect_evaluation made it" in result.output
    assert run("lineage", renamed / "figures/cleaning_curves.png").exit_code == 0


def test_the_crate_names_files_with_their_digests_and_is_the_same_twice(smoke: Path) -> None:
    study = smoke / "results/smoke"
    text = (study / NAME).read_text()
    entities = {entity["@id"]: entity for entity in json.loads(text)["@graph"]}
    parts = [part["@id"] for part in entities["./"]["hasPart"]]
    assert {"report.html", "tables/evaluation.parquet", "pretrain/reve/fold-0/model.safetensors"} <= set(parts)
    for part in parts:
        path = study / part
        assert path.is_dir() if part.endswith("/") else path.is_file(), part
        if path.is_file():
            assert entities[part]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert str(smoke) not in text
    journal = read_journal(study)
    roots = journal.makers[NAME].inputs
    assert json.dumps(make_crate(journal, roots, name="smoke"), indent=1) + "\n" == text
