"""Jobs as Snakemake runs them, on files of a few bytes: what they leave, and what is found when it is changed."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import chdir
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from neuroloom.artifacts import open_artifact
from neuroloom.cli import app
from neuroloom.crate import make_crate
from neuroloom.jobs import Job, logged, recording_job
from neuroloom.journal import read_journal
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Recording

from ..conftest import make_recording

STUDY = Path("results/s")
TABLE, FIGURE = STUDY / "tables/scores.parquet", STUDY / "figures/scores.png"


class Names(list):
    """Paths that can be walked through and some of which have a name, as Snakemake gives them."""

    def __init__(self, *paths: Path | str, **named: Path | str) -> None:
        super().__init__(str(path) for path in (*paths, *named.values()))
        vars(self).update({name: str(path) for name, path in named.items()})


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def snakemake_of(rule: str, job: str, inputs: Sequence[Path | str], outputs: Names, **params: Any) -> Any:
    log = Path("logs/s", rule, f"{job}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    for path in map(Path, outputs):
        path.parent.mkdir(parents=True, exist_ok=True)
    return SimpleNamespace(
        rule=rule,
        wildcards=SimpleNamespace(recording=job),
        log=[str(log)],
        input=Names(*inputs),
        output=outputs,
        params={"source": "c0de", **params},
    )


def ingest(name: str, source: Path, recording: Recording) -> Path:
    stem = STUDY / "ingest" / name
    outputs = Names(store=f"{stem}.zarr", manifest=f"{stem}.manifest.json")
    with recording_job(snakemake_of("ingest_meeg", name, [source], outputs, rows=[1], window=10.0)) as job:
        if not source.stat().st_size:
            raise UnusableRecording(source, "truncated", "Bring the whole file")
        job.write("recording", recording, sources=[source, source.with_suffix(".tsv")])
    return Path(outputs.manifest)


def tabulate(manifests: Sequence[Path], score: float = 1.0) -> None:
    with logged(snakemake_of("collect_tables", "collect_tables", manifests, Names(TABLE))):
        pd.DataFrame({"score": [score]}).to_parquet(TABLE)


def draw() -> None:
    with logged(snakemake_of("plot_scores", "plot_scores", [TABLE, "benchmarks/results/s/a.tsv"], Names(FIGURE))):
        FIGURE.write_bytes(b"PNG" + TABLE.read_bytes()[:10])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings, of which one is empty; a table of them; a figure of the table."""
    folder = tmp_path_factory.mktemp("made")
    recording = make_recording(np.random.default_rng(0), n_channels=2, seconds=2.0)
    with chdir(folder):
        make_study(recording)
    return folder


def make_study(recording: Recording) -> None:
    Path("raw").mkdir()
    Path("raw/a.edf").write_bytes(b"abc")
    Path("raw/b.edf").touch()
    for name in ("a", "b"):
        Path("raw", f"{name}.tsv").write_text("channels")
    tabulate([ingest(name, Path("raw", f"{name}.edf"), recording) for name in ("a", "b")])
    draw()


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / STUDY


def test_a_figure_leads_back_to_its_source_files(study: Path) -> None:
    result = run("lineage", FIGURE, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["trusted"]
    assert found["sources"] == {
        "../../raw/a.edf": hashlib.sha256(b"abc").hexdigest(),
        "../../raw/a.tsv": hashlib.sha256(b"channels").hexdigest(),
        "../../raw/b.edf": hashlib.sha256(b"").hexdigest(),
    }
    assert set(found["jobs"]) == {
        "plot_scores/plot_scores",
        "collect_tables/collect_tables",
        "ingest_meeg/a",
        "ingest_meeg/b",
    }
    job = found["jobs"]["ingest_meeg/a"]
    attrs = open_artifact(study / "ingest/a.zarr").attrs
    assert {key: job[key] for key in ("config_digest", "source_digest", "git_commit", "versions")} == {
        key: attrs[key] for key in ("config_digest", "source_digest", "git_commit", "versions")
    }
    assert job["config"] == {"window": 10.0}, "the sheet would be repeated in every record"
    assert job["outputs"] == {"ingest/a.manifest.json": open_artifact(study / "ingest/a.zarr").digest}
    assert found["jobs"]["plot_scores/plot_scores"]["inputs"].keys() == {"tables/scores.parquet"}, "no run times"


def test_the_tree_has_files_jobs_and_sources(study: Path) -> None:
    lines = run("lineage", FIGURE).output.splitlines()
    assert [re.split(r"  +", line.strip())[0] for line in lines[:6]] == [
        "figures/scores.png",
        "by plot_scores/plot_scores",
        "tables/scores.parquet",
        "by collect_tables/collect_tables",
        "ingest/a.manifest.json",
        "by ingest_meeg/a",
    ]
    assert f"      ../../raw/a.edf  sha256 {hashlib.sha256(b'abc').hexdigest()}" in lines
    assert "code c0de" in lines[1]
    assert re.match(r"with neuroloom \S+, numpy \S+, ", lines[-1])


def test_quarantined_recordings_stand_in_the_lineage_of_tables(study: Path) -> None:
    result = run("lineage", TABLE)
    assert result.exit_code == 0
    assert "quarantined by ingest_meeg: truncated" in result.output
    assert list(json.loads(run("lineage", TABLE, "--json").output)["quarantined"]) == ["ingest/b.manifest.json"]
    assert "quarantined  ingest_meeg: truncated  b" in run("verify", STUDY).output


@pytest.mark.parametrize(
    "path", ["results", "results/s/ingest/../..", STUDY, FIGURE, STUDY / "ingest", STUDY / "ingest/a.zarr"]
)
def test_a_good_study_verifies(study: Path, path: Path | str) -> None:
    result = run("verify", path)
    assert result.exit_code == 0, result.output
    assert "record" not in result.output
    assert "FAILED" not in result.output


def test_a_store_without_its_manifest_is_told(study: Path) -> None:
    (study / "ingest/a.manifest.json").unlink()
    for path in (STUDY, STUDY / "ingest/a.zarr"):
        result = run("verify", path)
        assert result.exit_code == 1
        assert "no manifest, so the store is unfinished or foreign" in result.output


def change_number() -> None:
    pd.DataFrame({"score": [2.0]}).to_parquet(TABLE)


def change_chunk() -> None:
    chunk = STUDY / "ingest/a.zarr/signal/c/0/0"
    chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 1]) + chunk.read_bytes()[1:])


def change_source() -> None:
    Path("raw/a.edf").write_bytes(b"abd")


def change_record() -> None:
    path = STUDY / "provenance/collect_tables/collect_tables.json"
    path.write_text(path.read_text()[:-20])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_number, "tables/scores.parquet: changed since collect_tables/collect_tables made it"),
        (change_chunk, "signal/c/0/0 has changed"),
        (change_source, "../../raw/a.edf: changed since ingest_meeg/a read it"),
        (lambda: TABLE.unlink(), "tables/scores.parquet: gone since collect_tables/collect_tables made it"),
        (lambda: tabulate([STUDY / "ingest/a.manifest.json"], 3.0), "what plot_scores/plot_scores made is out of date"),
        (lambda: Path(STUDY, "provenance/ingest_meeg/a.json").unlink(), "ingest/a.manifest.json: no record says who"),
        (change_record, "provenance/collect_tables/collect_tables.json: the record is damaged"),
    ],
)
def test_what_was_changed_is_found(study: Path, change: Callable[[], object], message: str) -> None:
    change()
    for command, path in (("verify", STUDY), ("lineage", FIGURE)):
        result = run(command, path)
        assert result.exit_code == 1, command
        assert len(re.findall(r"^FAILED {7}", result.output, re.MULTILINE)) == 1, "one line for one fault"
        assert message in result.output, command


def test_swapped_stores_are_found(study: Path, recording: Recording) -> None:
    Path("raw/c.edf").write_bytes(b"c")
    Path("raw/c.tsv").touch()
    recording.signal_CT[0, 0] += 1e-6
    ingest("c", Path("raw/c.edf"), recording)
    assert run("verify", STUDY).exit_code == 0
    for suffix in (".zarr", ".manifest.json"):
        (study / f"ingest/a{suffix}").rename(study / "held")
        (study / f"ingest/c{suffix}").rename(study / f"ingest/a{suffix}")
        (study / "held").rename(study / f"ingest/c{suffix}")
    result = run("verify", STUDY)
    assert result.exit_code == 1
    assert "ingest/a.manifest.json: changed since ingest_meeg/a made it" in result.output
    assert "ingest/c.manifest.json: changed since ingest_meeg/c made it" in result.output


def test_a_study_that_was_moved_verifies(study: Path) -> None:
    moved = Path("archive/2026/other")
    moved.parent.mkdir(parents=True)
    shutil.move(STUDY, moved)
    result = run("verify", moved)
    assert result.exit_code == 0, result.output
    assert "3 source files not here" in result.output
    result = run("lineage", moved / "figures/scores.png")
    assert result.exit_code == 1, "the chain ends before the sources"
    assert "../../raw/a.edf: gone since ingest_meeg/a read it" in result.output


def test_a_copy_is_known_by_its_bytes(study: Path) -> None:
    copy = Path(shutil.copy(FIGURE, "mailed.png"))
    assert run("lineage", copy).exit_code == 2
    result = run("lineage", copy, "--study", STUDY)
    assert result.exit_code == 0
    assert result.output.startswith("figures/scores.png  ")
    copy.write_bytes(b"other")
    assert run("lineage", copy, "--study", STUDY).exit_code == 2


def test_a_file_that_no_job_made_is_not_trusted(study: Path) -> None:
    (study / "tables/foreign.parquet").touch()
    for command in ("lineage", "verify"):
        result = run(command, STUDY / "tables/foreign.parquet")
        assert result.exit_code == 1
        assert "no record says who made it" in result.output
        assert run(command, STUDY / "tables/nothing.parquet").exit_code == 2


def test_every_file_of_a_folder_is_recorded_on_either_side(study: Path) -> None:
    """Such as the raw `.ds` of a CTF system, and the derivatives that are exported."""
    for path in ("raw/x.ds/a.meg4", "raw/x.ds/b.res4"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(path)
    folder = STUDY / "derivatives"
    with logged(snakemake_of("export_bold", "export_bold", ["raw/x.ds"], Names(folder))):
        (folder / "north").mkdir(parents=True)
        (folder / "north/bold.nii.gz").write_bytes(b"nii")
        (folder / ".snakemake_timestamp").touch()
    found = json.loads(run("lineage", folder / "north", "--json").output)
    assert found["paths"] == ["derivatives/north/bold.nii.gz"]
    assert set(found["sources"]) == {"../../raw/x.ds/a.meg4", "../../raw/x.ds/b.res4"}
    (folder / "north/bold.nii.gz").write_bytes(b"nij")
    assert run("verify", folder).exit_code == 1


def test_the_last_of_two_jobs_made_a_file(study: Path) -> None:
    with logged(snakemake_of("old_rule", "a", [], Names(FIGURE))):
        FIGURE.write_bytes(b"old")
    path = STUDY / "provenance/old_rule/a.json"
    path.write_text(path.read_text().replace('"made": "20', '"made": "19'))
    draw()
    assert run("verify", STUDY).exit_code == 0
    assert "old_rule" not in run("lineage", FIGURE).output


def test_a_job_that_fails_leaves_no_record(study: Path) -> None:
    with pytest.raises(ZeroDivisionError), logged(snakemake_of("plot_x", "x", [TABLE], Names(STUDY / "x.png"))):
        raise ZeroDivisionError
    assert not (study / "provenance/plot_x").exists()


def test_a_job_without_a_recording_writes_a_record_of_its_store(study: Path, recording: Recording) -> None:
    outputs = Names(store=STUDY / "p.zarr", manifest=STUDY / "p.manifest.json")
    snakemake = snakemake_of("synthesize_bold", "p", [TABLE], outputs)
    with logged(snakemake):
        Job(snakemake, "synthesize_bold", "p").write("recording", recording)
    assert set(read_journal(study).makers["p.manifest.json"].inputs) == {"tables/scores.parquet"}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {value["@id"]} if value.keys() == {"@id"} else set[str]().union(*map(references, value.values()))
    return set[str]().union(*map(references, value)) if isinstance(value, list) else set()


def test_the_crate_holds_files_and_jobs_and_nothing_of_this_machine(study: Path, tmp_path: Path) -> None:
    crate = make_crate(read_journal(study), ["figures/scores.png"], name="s")
    entities = {entity["@id"]: entity for entity in crate["@graph"]}
    assert len(entities) == len(crate["@graph"])
    assert references(crate["@graph"]) - entities.keys() == {"https://w3id.org/ro/crate/1.1"}
    root = entities[entities["ro-crate-metadata.json"]["about"]["@id"]]
    assert {"@type", "name", "description", "license", "datePublished", "conformsTo"} <= root.keys()
    for part in root["hasPart"]:
        path = study / part["@id"]
        assert path.is_dir() if part["@id"].endswith("/") else path.is_file()
        if path.is_file():
            assert entities[part["@id"]]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert entities["#plot_scores/plot_scores"]["object"] == [{"@id": "tables/scores.parquet"}]
    assert entities["ingest/a.zarr/"]["identifier"] == f"sha256:{open_artifact(study / 'ingest/a.zarr').digest}"
    source = f"#source-{hashlib.sha256(b'abc').hexdigest()}"
    assert {"@id": source} in entities["#ingest_meeg/a"]["object"]
    text = json.dumps(crate)
    assert str(tmp_path) not in text
    assert text == json.dumps(make_crate(read_journal(study), ["figures/scores.png"], name="s"))


def test_every_script_notes_what_it_made(repository: Path) -> None:
    scripts = sorted((repository / "src").glob("*.py"))
    assert scripts
    assert all(re.search(r"^with (logged|recording_job)\(snakemake\)", path.read_text(), re.M) for path in scripts)
