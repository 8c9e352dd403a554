"""A study of many recordings: the whole graph is built in a time that follows their number."""

import sys
from pathlib import Path

import pytest

from .conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))

SECONDS = 60.0  # CPU; 1,000 recordings took 9 (docs/explanation/scale.md)
MEMORY_MB = 300.0  # measured: 180, and 400 with torch
GROWTH = 1.5  # measured: 0.80 from 100 to 1,000, 1.00 to 10,000; a search of the sheet in each job would be 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, float]]:
    """Dry runs of 100 and 300 recordings, each in a process of its own, as the benchmark makes them."""
    import dag_scale
    from measure import in_own_process

    found = {}
    for n_recordings in (100, 300):
        folder = tmp_path_factory.mktemp(f"scale{n_recordings}")
        dag_scale.make_study(folder, n_recordings)
        found[n_recordings] = in_own_process(str(Path(dag_scale.__file__)), "--folder", str(folder))
    return found


def test_the_graph_of_300_recordings_is_whole_and_quick(runs: dict[int, dict[str, float]]) -> None:
    people = 100  # two jobs for each of three recordings, one for each pair
    assert runs[300]["jobs"] > 7 * people
    assert runs[300]["cpu_seconds"] < SECONDS


def test_a_recording_costs_as_much_in_a_larger_study(runs: dict[int, dict[str, float]]) -> None:
    """CPU seconds of building the graph, without what each start costs."""
    assert runs[300]["graph"] / runs[100]["graph"] < 3**GROWTH


def test_starting_does_not_load_what_computes(runs: dict[int, dict[str, float]]) -> None:
    """Each job of a cluster parses the rules, too; torch alone would be 200 MB and two seconds of it."""
    assert runs[100]["peak_mb"] < MEMORY_MB
