"""One report of small tables, and one browser, for all tests that look at it."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from tests.unit.figures.test_evaluation_plots import evaluation_table
from tests.unit.figures.test_federation_plots import federation_tables
from tests.unit.figures.test_model_plots import models_table, pretraining_table
from tests.unit.figures.test_report_evaluation import all_tables
from tests.unit.figures.test_synthesis_plots import synthesis_tables

from neuroloom.config import parse_config
from neuroloom.figures.headline import headline_table
from neuroloom.figures.report import render_report
from neuroloom.figures.report_lineage import table_files
from neuroloom.figures.style import plot_notice, save_figure
from neuroloom.journal import Entry, Journal

ROOT = Path(__file__).parents[2]
CHROMIUM = next((found for name in ("chromium", "google-chrome") if (found := shutil.which(name))), "")
DRIVER = shutil.which("chromedriver") or ""
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --hide-scrollbars --disable-sync"
RECORDINGS = [("01", "artifact"), ("02", "quarantined"), ("03", "artifact")]


def study_tables() -> dict[str, pd.DataFrame]:
    """Tables of a study with every stage."""
    rows = [
        {"recording": f"r{subject}_eeg", "study": "s", "site": "north", "subject": subject, "modality": "eeg"}
        | {"status": status, "duration": 60.0 * int(subject), "bytes": 1000, "digest": "ab" * 32}
        for subject, status in RECORDINGS
    ]
    lost = {"stage": "ingest_meeg", "file": "x.edf", "reason": "the file is truncated", "remedy": "Bring it again"}
    tables = {
        "recordings": pd.DataFrame(rows),
        "quarantine": pd.DataFrame([{"recording": "r02_eeg", **lost}]),
        "qc_meeg": pd.DataFrame([{"recording": "r01_eeg", "n_channels": 19, "n_bads": 1, "bads": '{"Cz": "flat"}'}]),
        "qc_bold": pd.DataFrame([{"recording": "r03_bold", "n_volumes": 200, "fd_mean": 0.12}]),
        "runtime": pd.DataFrame(
            {"rule": [f"rule {at}" for at in range(12)], "seconds": [float(at * 7 % 12) for at in range(12)]}
        ),
        "pretraining": pretraining_table(),
        "models": models_table(),
        **all_tables(evaluation_table(("eyes",))),
        **federation_tables(),
        **synthesis_tables(("mean", "ridge", "artefact", "sources")),
    }
    return {**tables, "headline": headline_table(tables)}


def journal_of(study: Path, paths: list[Path]) -> Journal:
    """The record of a job that made all tables."""
    made = {path.relative_to(study).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    facts: Any = ("collect_tables", "collect_tables", "2026-01-01", {"ingest/r01_eeg.manifest.json": "cd" * 32}, made)
    return Journal(study, (Entry(*facts, {}, "", "", "", {}),))


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a study with tables, figures and a report."""
    folder = tmp_path_factory.mktemp("results") / "demo"
    tables = study_tables()
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    for name, table in tables.items():
        table.to_parquet(folder / "tables" / f"{name}.parquet")
    paths = sorted((folder / "tables").glob("*.parquet"))
    drawn = {name: folder / "figures" / f"{name}.png" for name in ("evaluation_downstream", "synthesis_maps")}
    for name, path in drawn.items():
        files = [path, path.with_suffix(".pdf"), path.with_suffix(".svg")]
        save_figure(plot_notice(name, "text"), *files, tables=paths[:1])
    save_figure(plot_notice("r01_eeg", "text"), folder / "r01_eeg.png")
    html = render_report(
        config=parse_config(yaml.safe_load((ROOT / "config/config.yaml").read_text())),
        tables=tables,
        figures={"r01_eeg": folder / "r01_eeg.png"},
        drawn=drawn,
        files=table_files(paths, journal_of(folder, paths)),
    )
    (folder / "report.html").write_text(html)
    return folder


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Headless Chromium, which tells what it asks the network for and what its console says."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium with its driver on this machine: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser: Any, study: Path) -> Callable[..., Any]:
    """Open a page of the report at a width; its logs begin with it."""

    def open_page(anchor: str = "", width: int = 1280, height: int = 800) -> Any:
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 800}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get("about:blank")
        browser.get(f"{(study / 'report.html').as_uri()}{f'#{anchor}' if anchor else ''}")
        return browser

    return open_page
