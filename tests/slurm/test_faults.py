"""What happens to a run on a cluster when something goes wrong: it goes on, and ends in the digests of a quiet one."""

import shutil
import time

from .conftest import Study

OUTAGE = 30  # s, longer than two questions are apart


def memory(study: Study) -> list[str]:
    """What the jobs of a study that have ended asked for, in their order."""
    rows = [line for line in (study.cluster.folder / "jobs.txt").read_text().splitlines() if str(study.folder) in line]
    return [line.split("mem=")[1].split(",")[0] for line in rows]


def test_a_cancelled_job_is_tried_again_with_more(study: Study, target: list[str], expected: dict[str, str]) -> None:
    study.start(*target)
    study.wait_for(lambda: study.jobs("rule_simulate_site", "RUNNING"))
    study.cluster.call("scancel", *study.jobs("rule_simulate_site"))
    assert study.finish() == 0, study.log[-3000:]
    assert "SLURM status is: 'CANCELLED'" in study.log
    assert "Trying to restart job" in study.log
    assert memory(study)[:2] == ["3000M", "6000M"]  # of the simulation, which comes first
    assert study.digests() == expected


def test_a_job_that_needs_more_memory_gets_it(study: Study, target: list[str], expected: dict[str, str]) -> None:
    study.start(*target, "--set-resources", "simulate_site:mem_mb=400 * attempt ** 3")
    assert study.finish() == 0, study.log[-3000:]
    (told,) = (study.folder / ".snakemake" / "slurm_logs").rglob("rule_simulate_site/**/*.log")  # of what failed
    assert "exceeded memory limit" in told.read_text()
    assert memory(study)[:2] == ["400M", "3200M"]
    assert study.digests() == expected


def test_a_run_outlives_its_controller(study: Study, target: list[str], expected: dict[str, str]) -> None:
    """Snakemake asks while the controller is away, and hears nothing."""
    study.start(*target)
    study.wait_for(lambda: study.jobs("rule_recording", "RUNNING"))
    study.cluster.stop("slurmctld")
    study.wait_for(lambda: "SLURM does not answer: 1 jobs are waited for" in study.log)
    time.sleep(OUTAGE)
    study.cluster.start("slurmctld")
    assert study.finish() == 0, study.log[-3000:]
    assert study.digests() == expected


def test_a_job_that_the_controller_has_lost_is_submitted_again(
    study: Study, target: list[str], expected: dict[str, str]
) -> None:
    """It comes back without its state, and knows no job; numbers start anew."""
    study.start(*target)
    study.wait_for(lambda: study.jobs("rule_simulate_site", "RUNNING"))
    study.cluster.stop("slurmctld")
    shutil.rmtree(study.cluster.folder / "state")
    (study.cluster.folder / "state").mkdir()
    study.cluster.start("slurmctld")
    study.cluster.wait_until_idle()
    assert study.finish() == 0, study.log[-3000:]
    assert "the controller has lost it" in study.log
    assert "Trying to restart job" in study.log
    assert study.digests() == expected
