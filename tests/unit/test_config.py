import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuroloom.config import Config, ConfigError, RecordingRow, parse_config


@pytest.fixture
def values(repository: Path) -> dict[str, Any]:
    return yaml.safe_load((repository / "config/config.yaml").read_text())


def test_schema_file_is_the_models(repository: Path) -> None:
    """Regenerate with: python -c "from neuroloom.config import write_schema; write_schema()"."""
    assert json.loads((repository / "config/schema.json").read_text()) == Config.model_json_schema()


def leaves(values: Any, at: str = "") -> set[str]:
    if not isinstance(values, dict) or not values:
        return {at}
    return set().union(*(leaves(item, f"{at}.{key}" if at else key) for key, item in values.items()))


def test_default_config_names_every_key(values: dict[str, Any]) -> None:
    """Sites and arms differ: what each of them may have has to be said by one of them."""
    assert leaves(alike(values)) == leaves(alike(parse_config(values).model_dump()))


def alike(values: dict[str, Any]) -> dict[str, Any]:
    arms: dict[str, Any] = {}
    for arm in values["federate"]["strategies"].values():
        arms |= {key: value for key, value in arm.items() if value is not None or key not in arms}
    simulate = {**values["simulate"], "sites": {}}
    kinds: dict[str, Any] = {}
    for model in values["synthesize"]["models"].values():
        kinds[model["kind"]] = {**kinds.get(model["kind"], {}), **model}
    shared = ("splits", "folds")  # of every kind, said once
    models = {kind: {key: value for key, value in one.items() if key not in shared} for kind, one in kinds.items()}
    changed = {"federate": {**values["federate"], "strategies": arms}}
    changed["synthesize"] = {**values["synthesize"], "models": {**models, "any": dict.fromkeys(shared)}}
    return {**values, "simulate": simulate, **changed}


def test_default_config_explains_its_keys(repository: Path) -> None:
    """A key has a comment where it first stands, unless its name says the unit and the thing (`blinks_per_min`)."""
    plain = {"blinks_per_min", "n_subjects"}
    seen: set[str] = set()
    for line in (repository / "config/config.yaml").read_text().splitlines():
        key, _, value = line.strip().partition(":")
        if value.strip() and not key.startswith("#") and key not in seen | plain:
            assert "#" in value, f"{key} has no comment"
            seen.add(key)


@pytest.mark.parametrize("name", ["smoke", "real"])
def test_overlays_are_valid(values: dict[str, Any], repository: Path, name: str) -> None:
    from snakemake.utils import update_config

    update_config(values, yaml.safe_load((repository / f"config/{name}.yaml").read_text()))
    assert parse_config(values).study.name == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ingest": {"windw": 3}}, r"ingest\.windw: unknown key"),
        ({"ingest": {"window": -1}}, r"ingest\.window: .*greater than 0, found -1"),
        ({"preprocess": {"meeg": {"h_freq": 150.0}}}, "need l_freq < h_freq <= sfreq / 2"),
        ({"preprocess": {"bold": {"high_pass": 0.2}}}, "need high_pass < low_pass"),
        ({"study": {"name": "a b", "seed": 1}}, r"study\.name"),
    ],
)
def test_wrong_values_are_named_with_their_place(values: dict[str, Any], change: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**values, **change})


def test_all_problems_are_told_at_once(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="2 problem") as error:
        parse_config({**values, "ingest": {"window": -1, "nonsense": 1}})
    assert "window" in str(error.value)
    assert "nonsense" in str(error.value)


def test_root_takes_an_environment_variable_or_its_default(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = parse_config({**values, "study": {**values["study"], "root": "${SOME_FOLDER:-there}/x"}}).study
    monkeypatch.delenv("SOME_FOLDER", raising=False)
    assert study.root_path == "there/x"
    monkeypatch.setenv("SOME_FOLDER", "here")
    assert study.root_path == "here/x"


def test_identifier_names_all_entities() -> None:
    row = RecordingRow(
        study="s", site="a", subject="01", session="2", task="rest", run="3", modality="eeg", path="x.edf"
    )
    assert row.recording == "s_a_sub-01_ses-2_task-rest_run-3_eeg"
