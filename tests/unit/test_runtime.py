"""Time and memory of the jobs, and what more of them at a time would take."""

from pathlib import Path

import pandas as pd
import pytest

from neuroloom.runtime import STAGES, jobs_table, list_schedule, runtime_table, schedule_table

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def jobs(tmp_path: Path) -> pd.DataFrame:
    found = (("federate", "1", 1, "-"), ("ingest_meeg", "b", 4, "30"), ("ingest_meeg", "a", 2, "10"))
    for rule, name, seconds, memory in found:
        (tmp_path / rule).mkdir(exist_ok=True)
        (tmp_path / rule / f"{name}.tsv").write_text(HEADER + f"{seconds}\t0\t{memory}\t1\t1\t1\t1\t1\t1\t0.5\n")
    return jobs_table(list(tmp_path.glob("*/*.tsv")))


def test_jobs_are_in_the_order_of_the_stages(jobs: pd.DataFrame) -> None:
    assert list(jobs["rule"]) == ["ingest_meeg", "ingest_meeg", "federate"]
    assert list(jobs["job"]) == ["a", "b", "1"]
    assert list(jobs["stage"]) == ["ingest", "ingest", "federate"]
    assert list(jobs["seconds"]) == [2, 4, 1]


def test_run_time_is_summed_by_rule(jobs: pd.DataFrame) -> None:
    table = runtime_table(jobs).set_index("rule")
    ingest = table.loc["ingest_meeg"]
    assert (ingest["jobs"], ingest["seconds"], ingest["median_seconds"], ingest["peak_mb"]) == (2, 6, 3, 30)
    assert table.loc["federate", "cpu_seconds"] == 0.5
    assert pd.isna(table.loc["federate", "peak_mb"])


def test_a_rule_waits_for_the_rule_before_it(jobs: pd.DataFrame) -> None:
    total = schedule_table(jobs).groupby("n_jobs")["seconds"].sum()
    assert total[1] == 2 + 4 + 1
    assert total[2] == 4 + 1
    assert total[1024] == 4 + 1


@pytest.mark.parametrize(("n_jobs", "seconds"), [(1, 15.0), (2, 8.0), (3, 5.0), (9, 5.0)])
def test_the_longest_job_that_waits_begins_where_a_place_is_free(n_jobs: int, seconds: float) -> None:
    """Five jobs of 1 to 5 s: on two places 5+2+1 and 4+3, on three 5, 4+1 and 3+2."""
    assert list_schedule([3.0, 1.0, 4.0, 5.0, 2.0], n_jobs) == seconds


def test_without_jobs_there_is_no_time() -> None:
    assert list_schedule([], 4) == 0
    for table in (runtime_table(jobs_table([])), schedule_table(jobs_table([]))):
        assert table.empty


def test_every_rule_that_is_timed_has_a_stage() -> None:
    rules = {path.stem for path in (ROOT / "src").glob("*.py")}
    assert set(STAGES) <= rules
