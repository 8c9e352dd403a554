"""Time and memory of a study's jobs, and what more of them at a time would take."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

STAGES = {  # of each rule that is timed, in the order of the data
    "simulate_site": "simulate",
    "ingest_meeg": "ingest",
    "ingest_bold": "ingest",
    "preprocess_meeg": "preprocess",
    "preprocess_bold": "preprocess",
    "fit_tokenizer": "tokenize",
    "encode_tokens": "tokenize",
    "score_tokenizer": "tokenize",
    "pretrain_model": "pretrain",
    "evaluate_model": "evaluate",
    "evaluate_baselines": "evaluate",
    "federate": "federate",
    "align_pair": "synthesize",
    "find_ceiling": "synthesize",
    "synthesize_bold": "synthesize",
}
JOBS = ["rule", "stage", "job", "seconds", "cpu_seconds", "peak_mb"]
RUNTIME = ["rule", "jobs", "seconds", "median_seconds", "cpu_seconds", "peak_mb"]
SCHEDULE = ["n_jobs", "rule", "seconds"]
WORKERS = tuple(2**power for power in range(11))


def jobs_table(benchmarks: Sequence[Path]) -> pd.DataFrame:
    """One row for each job, from Snakemake's benchmark files.

    Parameters
    ----------
    benchmarks : sequence of Path
        `<rule>/<job>.tsv`.

    Returns
    -------
    DataFrame
        rule, stage, job, seconds (by the clock), cpu_seconds and peak_mb (resident memory: of its processes together,
        or, where it was forked (`neuroloom.forking`), of the largest), in the order of the stages.
    """
    frames = [
        pd.read_csv(path, sep="\t", na_values="-").assign(rule=path.parent.name, job=path.stem) for path in benchmarks
    ]
    if not frames:
        return pd.DataFrame(columns=JOBS)
    table = pd.concat(frames, ignore_index=True)
    table = table.rename(columns={"s": "seconds", "cpu_time": "cpu_seconds", "max_rss": "peak_mb"})
    order = table["rule"].map({rule: at for at, rule in enumerate(STAGES)}).fillna(len(STAGES))
    table = table.assign(stage=table["rule"].map(STAGES).fillna(table["rule"]), order=order)
    return table.sort_values(["order", "rule", "job"])[JOBS].reset_index(drop=True)


def runtime_table(jobs: pd.DataFrame) -> pd.DataFrame:
    """Time and memory by rule: jobs, seconds, their median, CPU seconds, peak memory in MB."""
    if jobs.empty:
        return pd.DataFrame(columns=RUNTIME)
    table = jobs.groupby("rule", sort=False).agg(
        jobs=("seconds", "size"),
        seconds=("seconds", "sum"),
        median_seconds=("seconds", "median"),
        cpu_seconds=("cpu_seconds", "sum"),
        peak_mb=("peak_mb", "max"),
    )
    return table.reset_index()


def schedule_table(jobs: pd.DataFrame) -> pd.DataFrame:
    """What each rule would take with so many jobs at a time, computed from the seconds of its jobs.

    Parameters
    ----------
    jobs : DataFrame
        As `jobs_table` gives it.

    Returns
    -------
    DataFrame
        n_jobs, rule, seconds. A rule begins when the rule before it has ended, so that the seconds of a study are their
        sum. Waiting in a queue and starting a job are not in it.
    """
    rows = [
        (n_jobs, rule, list_schedule(part["seconds"].tolist(), n_jobs))
        for n_jobs in WORKERS
        for rule, part in jobs.groupby("rule", sort=False)
    ]
    return pd.DataFrame(rows, columns=SCHEDULE)


def list_schedule(seconds: Sequence[float], n_jobs: int) -> float:
    """Seconds until the last job ends, if the longest that waits begins wherever a place becomes free (Graham 1969)."""
    ends = [0.0] * min(n_jobs, max(len(seconds), 1))
    for length in sorted(seconds, reverse=True):
        heapq.heappush(ends, heapq.heappop(ends) + length)
    return max(ends)
