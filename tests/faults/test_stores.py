"""Stores that were damaged, lost, exchanged or wrongly dated after they were made: a job says so, and makes nothing."""

import json
import os
import time
from pathlib import Path

import pytest

from .conftest import RESULTS, contents, doctor, run

REC = "tiny_north_sub-{}_task-rest_{}"


def flip(store: Path) -> None:
    """One bit in each tenth of the largest chunk, which keeps its size."""
    chunk = max((path for path in store.rglob("c/**/*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(chunk.read_bytes())
    for at in range(len(content) // 20, len(content), len(content) // 10):
        content[at] ^= 1
    chunk.write_bytes(content)


def delete_chunk(store: Path) -> None:
    max((path for path in store.rglob("c/**/*") if path.is_file()), key=lambda path: path.stat().st_size).unlink()


def change_rate(store: Path) -> None:
    """Another sampling rate of as many digits: no size changes."""
    metadata = store / "zarr.json"
    text = metadata.read_text()
    rate = json.loads(text)["attributes"]["sfreq"]
    metadata.write_text(text.replace(f'"sfreq": {rate}', f'"sfreq": {rate + 1}'))


def truncate_manifest(store: Path) -> None:
    manifest = store.with_suffix(".manifest.json")
    manifest.write_bytes(manifest.read_bytes()[:-200])


def exchange(store: Path) -> None:
    """With another store of the same kind, manifests and all."""
    other = Path(str(store).replace("sub-03", "sub-02"))
    for one, two in ((store, other), *[(path.with_suffix(".manifest.json") for path in (store, other))]):
        one, two, spare = Path(one), Path(two), Path(f"{one}.spare")
        one.rename(spare)
        two.rename(one)
        spare.rename(two)


INGESTED = {
    REC.format("01", "eeg"): (flip, "signal/c/0/0 has changed"),
    REC.format("02", "eeg"): (delete_chunk, "signal/c/0/0 is missing"),
    REC.format("03", "eeg"): (change_rate, "zarr.json has changed"),
    REC.format("01", "bold"): (truncate_manifest, "the manifest is damaged"),
    REC.format("03", "bold"): (exchange, f"holds {REC.format('02', 'bold')}, so it was renamed or exchanged"),
    REC.format("02", "bold"): (lambda _: None, f"holds {REC.format('03', 'bold')}, so it was renamed or exchanged"),
}


def errors(folder: Path, rule: str, job: str) -> str:
    return (folder / "logs/tiny" / rule / f"{job}.log").read_text()


def test_a_damaged_store_stops_its_readers_and_is_made_again(finished: Path, reference: Path) -> None:
    """All kinds of damage at once, each in a store of its own, to which the one job that reads it leads."""
    targets = []
    for name, (damage, _) in INGESTED.items():
        damage(finished / RESULTS / "ingest" / f"{name}.zarr")
        targets.append(RESULTS / "preprocess" / f"{name}.manifest.json")
        (finished / targets[-1]).unlink()
    stopped = run(finished, "--cores", "2", *map(str, targets))
    assert stopped.returncode != 0
    assert not any((finished / target).exists() for target in targets), "nothing was made of what is damaged"
    for name, (_, said) in INGESTED.items():
        rule = f"preprocess_{'meeg' if name.endswith('eeg') else 'bold'}"
        last = errors(finished, rule, name).splitlines()[-1]
        assert f"{RESULTS}/ingest/{name}" in last
        assert said in last
        assert last.endswith("Delete it with its manifest and run snakemake again")

    found = doctor(finished)
    assert found.returncode == 1
    assert all(said in found.stdout for name, (damage, said) in INGESTED.items() if damage is not flip)
    assert doctor(finished, "--mend").returncode == 0
    flipped = finished / RESULTS / "ingest" / f"{REC.format('01', 'eeg')}.manifest.json"
    flipped.unlink()  # every byte of it had to be read to see it
    again = run(finished, "--cores", "2", *map(str, targets))
    assert again.returncode == 0, again.stdout[-5000:]
    assert contents(finished) == contents(reference)


# neither holds two of which one waits for the other
READERS = (
    {
        "score_tokenizer": "tokenize/lipcot/fold-0/tokenizers.parquet",
        "pretrain_model": "pretrain/reve/fold-0/model.safetensors",
        "evaluate_baselines": "evaluate/eyes/fold-0/baselines.parquet",
        "score_cleaning": "tables/cleaning.parquet",
        "export_bold": "synthesize/derivatives",
    },
    {
        "fit_tokenizer": "tokenize/lipcot/fold-0/model.safetensors",
        "evaluate_model": "evaluate/eyes/fold-0/reve.parquet",
        "federate": "federate/fold-0/fedavg.scores.parquet",
        "synthesize_bold": "synthesize/subject/mean.manifest.json",
    },
)


@pytest.mark.parametrize("readers", READERS)
def test_no_reader_makes_anything_of_flipped_bits(finished: Path, readers: dict[str, str]) -> None:
    """In each cleaned EEG, in tokens, pairs and predictions."""
    results = finished / RESULTS
    assert all((results / path).exists() for path in readers.values())
    for pattern in ("preprocess/*_eeg", "tokenize/*/*/*", "synthesize/pairs/*", "synthesize/subject/*"):
        for store in results.glob(f"{pattern}.zarr"):
            flip(store)
    assert run(finished, "--cores", "2", "--forcerun", *readers, "--until", *readers).returncode != 0
    for rule, path in readers.items():
        assert not (results / path).exists(), rule
        (log,) = (finished / "logs/tiny" / rule).rglob("*.log")
        last = log.read_text().splitlines()[-1]
        assert f"{RESULTS}/" in last, rule
        assert "has changed" in last, rule


def test_a_clock_that_was_wrong_changes_no_result(finished: Path, reference: Path) -> None:
    """Thirty years behind for one recording, two days ahead for another; Snakemake may do more than it has to."""
    for subject, shift in (("01", -30 * 365 * 86400.0), ("02", 2 * 86400.0)):
        for path in (finished / RESULTS / "ingest").glob(f"*sub-{subject}*eeg*"):
            os.utime(path, times=(time.time() + shift,) * 2)
    told = next(line for line in doctor(finished).stdout.splitlines() if "dated in the future" in line)
    assert REC.format("02", "eeg") in told
    assert REC.format("01", "eeg") not in told
    targets = [str(RESULTS / "preprocess" / f"{REC.format(subject, 'eeg')}.manifest.json") for subject in ("01", "02")]
    again = run(finished, "--cores", "2", *targets)
    assert again.returncode == 0, again.stdout[-5000:]
    assert contents(finished) == contents(reference)
