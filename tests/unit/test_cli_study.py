"""`neuroloom init`, `index` and `run`: from a BIDS folder to a config that the workflow takes."""

from pathlib import Path

import pytest
import yaml
from snakemake.utils import update_config
from tests.datasets import add_bold, make_bids, write_edf
from typer.testing import CliRunner, Result

from neuroloom.cli import app
from neuroloom.cli.app import CLONE
from neuroloom.config import Config, parse_config
from neuroloom.study.proposal import Machine, propose
from neuroloom.study.rows import study_rows
from neuroloom.study.survey import survey_bids
from neuroloom.terminal.running import command


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def overlaid(config: Path) -> Config:
    default = yaml.safe_load((CLONE / "config/config.yaml").read_text())
    update_config(default, yaml.safe_load(config.read_text()))
    return parse_config(default)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_init_writes_a_config_that_holds_and_says_why(here: Path) -> None:
    make_bids(here / "bids")
    result = run("init", "bids", "--name", "tiny")
    assert result.exit_code == 0, result.output
    config = overlaid(here / "config/tiny.yaml")
    assert [row.recording for row in study_rows(config)][:2] == [
        "tiny_tiny_sub-00_task-count_eeg",
        "tiny_tiny_sub-00_task-rest_eeg",
    ]
    assert config.sources["tiny"].montage == "colin27_1020"
    assert config.evaluate.use == ("task",)
    assert config.evaluate.tasks["task"].classes == {"rest": ("rest",), "count": ("count",)}
    assert config.pretrain.use == ("reve",)
    assert config.federate.use == config.synthesize.use == ()
    said = (here / "config/tiny.yaml").read_text()
    assert "# Found: 8 EEG of 4 people, 0.1 h of EEG and MEG; 100 Hz; tasks count, rest; 1 site(s)." in said
    assert "neuroloom run config/tiny.yaml" in result.output


def test_init_never_overwrites_unless_forced(here: Path) -> None:
    make_bids(here / "bids", people=3)
    assert run("init", "bids").exit_code == 0
    config = here / "config/bids.yaml"
    config.write_text("mine")
    refused = run("init", "bids")
    assert refused.exit_code == 1
    assert "config/bids.yaml and config/bids.tsv would be overwritten" in refused.output
    assert config.read_text() == "mine"
    assert run("init", "bids", "--force").exit_code == 0
    assert config.read_text() != "mine"


def test_two_people_are_cleaned_and_nothing_learns(here: Path) -> None:
    make_bids(here / "bids", people=2)
    assert run("init", "bids").exit_code == 0
    config = overlaid(here / "config/bids.yaml")
    assert config.tokenize.use == config.pretrain.use == config.evaluate.use == ()
    assert config.pretrain.sweep.of is None


def test_eeg_with_bold_in_a_template_is_synthesized(here: Path) -> None:
    add_bold(make_bids(here / "bids", people=3), 3)
    assert run("init", "bids").exit_code == 0
    config = overlaid(here / "config/bids.yaml")
    assert config.synthesize.use == ("mean", "ridge", "sources")
    assert config.sources["bids"].scanner_t_r == 2.1
    assert config.sources["bids"].atlas is None


def test_bold_in_native_space_gets_cubes_and_no_synthesis(here: Path) -> None:
    add_bold(make_bids(here / "bids", people=3), 3, space="")
    assert run("init", "bids").exit_code == 0
    config = overlaid(here / "config/bids.yaml")
    assert config.synthesize.use == ()
    assert config.sources["bids"].atlas == "grid25"


def test_a_column_is_asked_for_where_there_is_one_task(here: Path) -> None:
    make_bids(here / "bids", people=8, tasks=("rest",))
    survey = survey_bids(here / "bids", name="tiny")
    assert survey.columns == {"age": {str(20 + at): 1 for at in range(8)}, "group": {"b": 4, "a": 4}}
    sections = propose(survey, name="tiny", sheet="x", root="y", machine=Machine(cores=64, gpus=1))
    found = next(section.values["evaluate"] for section in sections if "evaluate" in section.values)
    assert found["use"] == ["group"]
    assert found["tasks"]["group"]["classes"] == {"b": ["b"], "a": ["a"]}
    assert "regimes" not in found  # a large machine keeps those of the default


def test_events_are_asked_for_where_enough_people_have_them(here: Path) -> None:
    make_bids(here / "bids", people=3, tasks=("oddball",))
    for at in range(3):
        rows = [f"{second}\t1\t{'odd' if second % 4 else 'even'}\n" for second in range(24)]
        file = here / f"bids/sub-{at:02d}/eeg/sub-{at:02d}_task-oddball_events.tsv"
        file.write_text("onset\tduration\ttrial_type\n" + "".join(rows))
    assert run("init", "bids").exit_code == 0
    task = overlaid(here / "config/bids.yaml").evaluate.tasks["events"]
    assert (task.by, set(task.classes)) == ("event", {"odd", "even"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("init", "nowhere"), "not a BIDS dataset"),
        (("init", "bids", "--name", "a b"), "is no name of a study"),
        (("run", "none.yaml"), "there is no such file"),
        (("index", "none.yaml"), "there is no such file"),
        (("index", "demo.yaml"), "study.bids_root of x is not set"),
        (("index", "list.yaml"), "holds a list"),
        (("where", "--config", "broken.yaml"), "no YAML"),
        (("doctor", "--config", "list.yaml"), "holds a list"),
        (("embed", "nothing", "--model", "nowhere", "--config", "demo.yaml"), "neither a file nor a preprocessed"),
    ],
)
def test_errors_are_one_paragraph(here: Path, arguments: tuple[str, ...], message: str) -> None:
    make_bids(here / "bids", people=1)
    (here / "demo.yaml").write_text("study: {name: x}\n")
    (here / "list.yaml").write_text("- 1\n")
    (here / "broken.yaml").write_text("study: {name: x\n")
    result = run(*arguments)
    assert result.exit_code in (1, 2)
    assert message in " ".join(result.output.replace("│", " ").split())
    assert "Traceback" not in result.output


def test_index_says_what_is_new_and_what_is_gone(here: Path) -> None:
    make_bids(here / "bids", people=3)
    assert run("init", "bids").exit_code == 0
    write_edf(here / "bids/sub-00/eeg/sub-00_task-sleep_eeg.edf")
    for file in (here / "bids/sub-01/eeg").glob("*task-count*"):
        file.unlink()
    result = run("index", "config/bids.yaml")
    assert result.exit_code == 0, result.output
    assert "new          bids_bids_sub-00_task-sleep_eeg" in result.output
    assert "gone         bids_bids_sub-01_task-count_eeg" in result.output
    assert "6 recordings, 1 new, 1 gone" in result.output


def test_run_hands_the_rest_to_snakemake_and_wants_a_clone(tmp_path: Path) -> None:
    words = command(Path("mine.yaml"), clone=CLONE, cores="2", target="all", more=["-n"])
    assert words[-4:] == ["mine.yaml", "-n", "--", "all"]
    assert str(CLONE / "Snakefile") in words
    with pytest.raises(ValueError, match="Clone the repository"):
        command(Path("mine.yaml"), clone=tmp_path, cores="2", target="all", more=[])


@pytest.mark.parametrize(
    "name",
    [
        "init", "run", "index", "where", "doctor", "verify", "lineage", "import-weights", "embed", "site-key", "join",
    ],
)  # fmt: skip
def test_every_command_shows_an_example_and_what_its_arguments_are(name: str) -> None:
    shown = run(name, "--help").output
    assert f"Example: neuroloom {name} " in shown
    words = shown.split("\n\nOptions:")[0].rpartition("Positional arguments:")[2].split()
    assert len(words) > 4 or name in ("where", "doctor")  # these take options alone
    assert "\nArguments:" not in shown
