"""A small study: every table that a figure or a table of the paper reads."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroloom.figures.headline import headline_table
from neuroloom.runtime import jobs_table, runtime_table, schedule_table
from neuroloom.study.scoring import tabulate_curves, tabulate_scores

from .test_cleaning_plots import curves, row
from .test_evaluation_plots import evaluation_table
from .test_federation_plots import federation_tables
from .test_model_plots import models_table, pretraining_table
from .test_report_evaluation import all_tables
from .test_synthesis_maps import attribution
from .test_synthesis_plots import synthesis_tables
from .test_token_plots import atlas_table, example_tables, probes_table, tokenizers_table, usage_table

BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def recordings_tables() -> dict[str, pd.DataFrame]:
    """Three people at two sites, each with EEG, MEG and BOLD; one recording is lost."""
    rng, rows, meeg, bold = np.random.default_rng(5), [], [], []
    for at, (site, subject) in enumerate([("north", "01"), ("north", "02"), ("south", "01")]):
        for kind in ("eeg", "meg", "bold"):
            name = f"demo_{site}_sub-{subject}_task-rest_{kind}"
            lost = kind == "meg" and at == 2
            entities = {"recording": name, "study": "demo", "site": site, "subject": subject, "modality": kind}
            facts = {"duration": np.nan, "status": "quarantined"} if lost else {"duration": 120.0, "status": "artifact"}
            rows.append({**entities, **facts})
            found = {"recording": name}
            if kind == "bold":
                moved = {"fd_mean": rng.uniform(0.01, 0.2), "tsnr_median": rng.uniform(30, 60)}
                bold.append({**found, **moved, "n_volumes": 60, "n_censored": at})
            elif not lost:
                counts = {"n_channels": 32, "n_bads": at, "n_ocular": 2, "n_muscle": at, "n_windows": 12}
                mains = {"line_db_before": rng.uniform(10, 30), "line_db_after": rng.uniform(-1, 1)}
                meeg.append({**found, **counts, **mains, "n_rejected": at})
    lost = [row["recording"] for row in rows if row["status"] == "quarantined"]
    return {
        "recordings": pd.DataFrame(rows),
        "qc_meeg": pd.DataFrame(meeg),
        "qc_bold": pd.DataFrame(bold),
        "quarantine": pd.DataFrame({"recording": lost, "reason": "flat"}),
    }


def write_benchmarks(folder: Path) -> list[Path]:
    """Three short jobs and a long one of two rules."""
    jobs = {"ingest_meeg/a": 2.0, "ingest_meeg/b": 3.0, "ingest_meeg/c": 4.0, "pretrain_model/reve-fold-0": 10.0}
    for name, seconds in jobs.items():
        path = folder / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{BENCHMARK}{seconds}\t0:00:0{seconds:.0f}\t300\t1\t1\t1\t1\t1\t50\t{seconds / 2}\n")
    return sorted(folder.glob("*/*.tsv"), reverse=True)


@pytest.fixture(scope="session")
def study_tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    jobs = jobs_table(write_benchmarks(tmp_path_factory.mktemp("benchmarks")))
    from neuroloom.signals.scores import Score

    signals, spectra = example_tables(1, 2)
    tables = {
        **recordings_tables(),
        "cleaning": tabulate_scores([(row("north", "01"), [Score("scanner_r", 0.93)])]),
        "cleaning_curves": tabulate_curves([(row("north", "01"), curves(0.95))]),
        "tokenizers": tokenizers_table(2, 2),
        "token_usage": usage_table(1),
        "token_atlas": atlas_table(1, 6),
        "token_examples": signals,
        "token_example_spectra": spectra,
        "tokenizer_probes": probes_table(1),
        "pretraining": pretraining_table(("reve", "revenarrow"), steps=90).assign(seconds=0.2, waiting_seconds=0.01),
        "models": models_table(("reve", "revenarrow")).assign(tokens=253_440),
        **all_tables(evaluation_table(("eyes",))),
        **federation_tables(("fedavg", "local", "private")),
        **synthesis_tables(("mean", "ridge", "sources")),
        "synthesis_attribution": attribution(),
        "jobs": jobs,
        "runtime": runtime_table(jobs),
        "schedule": schedule_table(jobs),
    }
    return {**tables, "headline": headline_table(tables)}


@pytest.fixture(scope="session")
def study_files(study_tables: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    for name, table in study_tables.items():
        table.to_parquet(folder / f"{name}.parquet")
    return {name: folder / f"{name}.parquet" for name in study_tables}
