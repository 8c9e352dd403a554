"""Arms side by side, from stores to tables: who is scored, who was seen, and what stays where it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.federation import SETTINGS, TASK, Study, fresh

from neuroloom.evaluation.contamination import ContaminationError, seen_subjects
from neuroloom.evaluation.splits import split_subjects, to_json
from neuroloom.federated.client import site_training
from neuroloom.federated.comparing import compare
from neuroloom.federated.config import StrategyConfig
from neuroloom.federated.network import state_of
from neuroloom.federated.site import open_site, read_site_file
from neuroloom.federated.tables import collect_federation
from neuroloom.quarantine import UnusableRecording
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.fitting import write_unfitted
from neuroloom.training.checkpoint import write_card

ARMS = {
    "local": StrategyConfig(kind="local"),
    "centralised": StrategyConfig(kind="centralised"),
    "fedavg": StrategyConfig(kind="fedavg"),
    "fleeg": StrategyConfig(kind="fleeg", network="fleeg"),
}


def compared(study: Study, folder: Path, name: str, **changes: Any) -> dict[str, pd.DataFrame]:
    config = SETTINGS.model_copy(update={"strategies": ARMS, "use": tuple(ARMS), "task": "work", **changes})
    return compare(
        name=name,
        config=config,
        task=TASK,
        rows=study.rows,
        manifests=study.manifests,
        split_file=study.split_file,
        model=None if ARMS[name].network == "fleeg" else study.model,
        folder=folder,
        ledgers=folder / "privacy",
        fold=0,
        seed=7,
    )


@pytest.fixture(scope="module")
def arms(federation: Study, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, pd.DataFrame]]:
    folder = tmp_path_factory.mktemp("arms")
    more = {"rounds": 6, "local_epochs": 6, "n_seeds": 2}
    return {name: compared(federation, folder / name, name, **more) for name in ARMS}


def test_every_arm_has_a_row_for_each_site_and_for_all(arms: dict[str, dict[str, pd.DataFrame]]) -> None:
    for name, tables in arms.items():
        scores = tables["scores"].query("metric == 'balanced_accuracy'")
        assert sorted(scores["site"].unique()) == ["all", "s/north", "s/south", "s/west"]
        assert len(scores) == 2 * 4
        assert scores["strategy"].eq(name).all()
        assert scores["chance"].between(0.3, 0.7).all()
        assert not scores["seen"].any()
        assert tables["subjects"]["participant"].nunique() == 3


def test_every_arm_learns_what_was_planted(arms: dict[str, dict[str, pd.DataFrame]]) -> None:
    """A rhythm tells the classes apart; people of the test are of no training part."""
    for name, least in {"local": 0.6, "centralised": 0.75, "fedavg": 0.75}.items():
        pooled = arms[name]["scores"].query("metric == 'balanced_accuracy' and site == 'all'")
        assert pooled["score"].mean() > least, (name, pooled["score"].tolist())


def test_every_arm_passes_as_often_over_its_windows(arms: dict[str, dict[str, pd.DataFrame]]) -> None:
    for name, tables in arms.items():
        rows = tables["rounds"].query("status == 'used'")
        windows = rows.groupby(["seed", "round"])["n_windows"].sum()
        assert len(windows) == 2 * 6, name
        assert windows.nunique() == 1
        assert windows.iloc[0] == 36, name


def test_attacks_stand_beside_the_untrained_model(arms: dict[str, dict[str, pd.DataFrame]]) -> None:
    attacks = arms["fedavg"]["attacks"]
    assert set(attacks["state"]) == {"after training", "before training"}
    membership = attacks[attacks["site"] == "all"]
    assert membership["n_members"].eq(3).all()
    assert membership["n_others"].eq(6).all()
    assert set(attacks["site"]) == {"all", "s/north", "s/south", "s/west"}


def test_the_same_seed_gives_the_same_rows(
    federation: Study, arms: dict[str, dict[str, pd.DataFrame]], tmp_path: Path
) -> None:
    again = compared(federation, tmp_path, "fedavg", rounds=6, local_epochs=6, n_seeds=2)
    for table in ("scores", "subjects", "attacks"):
        pd.testing.assert_frame_equal(again[table], arms["fedavg"][table])


def test_tables_of_a_study(arms: dict[str, dict[str, pd.DataFrame]], tmp_path: Path) -> None:
    paths = []
    for name, tables in arms.items():
        for kind, table in tables.items():
            paths.append(tmp_path / f"{name}.{kind}.parquet")
            table.to_parquet(paths[-1])
    found = collect_federation(paths)
    summary = found["federation_summary"].query("metric == 'balanced_accuracy' and site == 'all'")
    assert list(summary["n_runs"]) == [2, 2, 2, 2]
    gains = found["federation_gains"].set_index(["strategy", "site"])
    people = arms["fedavg"]["subjects"].groupby("participant")["score"].mean()
    alone = arms["local"]["subjects"].groupby("participant")["score"].mean()
    assert gains.loc[("fedavg", "all"), "difference"] == pytest.approx((people - alone).mean())
    assert gains.loc[("fedavg", "all"), "n_participants"] == 3
    assert np.isnan(gains.loc[("fedavg", "s/north"), "ci_low"])  # one person gives no interval
    assert "fleeg" not in gains.index.get_level_values("strategy")  # nothing local of its network
    cost = found["federation_cost"].set_index("strategy")
    assert cost.loc["fleeg", "n_shared_bytes"] == 4 * 202_802
    assert cost.loc["local", "n_shared_bytes"] == 0
    assert cost.loc["fedavg", "n_used"] == 2 * 6 * 3


def test_people_that_pretraining_has_seen_stop_the_run_or_mark_the_rows(federation: Study, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(federation.model, model)
    write_card(model, {"architecture": "reve", "salt": "s", "seen_subjects": seen_subjects(federation.rows, salt="s")})
    planted = Study(federation.rows, federation.manifests, federation.split, federation.split_file, model)
    with pytest.raises(ContaminationError, match="s_north_sub-n"):
        compared(planted, tmp_path, "fedavg")
    marked = compared(planted, tmp_path, "fedavg", allow_seen_subjects=True, attacks=False)
    assert marked["scores"]["seen"].all()
    assert marked["scores"]["note"].str.contains("pretraining has seen 3 of 3 people of the training parts").all()


def test_a_person_whose_runs_are_kept_apart_is_known_by_nature_and_marked(federation: Study, tmp_path: Path) -> None:
    """West is one person with three runs, whom pretraining has seen: marked, where anybody else stops the run."""
    rows, manifests = [], dict(federation.manifests)
    for at, row in enumerate(federation.rows):
        one = row.model_copy(update={"subject": "w0", "run": str(at)}) if row.site == "west" else row
        manifests[one.recording] = manifests[row.recording]
        rows.append(one)
    split = split_subjects([row for row in rows if row.site != "west"], n_folds=3, fold=0)
    (tmp_path / "split.json").write_text(to_json(split))
    model = tmp_path / "model"
    shutil.copytree(federation.model, model)
    seen = seen_subjects([row for row in rows if row.site == "west" or row.recording in split.train], salt="s")
    write_card(model, {"architecture": "reve", "salt": "s", "seen_subjects": seen})
    study = Study(tuple(rows), manifests, split, tmp_path / "split.json", model)
    scores = compared(study, tmp_path, "fedavg", attacks=False)["scores"].set_index("site")
    assert scores.loc[["s/west", "all"], "seen"].all()
    assert not scores.loc[["s/north", "s/south"], "seen"].any()
    within = scores["note"].str.contains("within subjects")
    assert set(scores.index[within]) == {"s/west", "all"}


def test_a_model_that_there_was_nothing_to_train_on_is_a_row_with_the_reason(federation: Study, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_unfitted(model, UnusableRecording("the training corpus", "no recording is left", "see the quarantine table"))
    tables = compared(replace(federation, model=model), tmp_path, "fedavg")
    assert tables["scores"]["score"].isna().all()
    assert "no recording is left" in tables["scores"]["note"].iloc[0]


def test_shuffled_labels_score_at_chance(set_up: Callable[..., Any], rng: np.random.Generator) -> None:
    """The same training as above, of classes that mean nothing: what it then says of the test is a coin."""
    right: dict[bool, list[float]] = {True: [], False: []}
    for shuffled in (True, False):
        for number in range(3):
            setup = set_up("fedavg", name=f"{shuffled}-{number}", rounds=6, local_epochs=6)
            data = [open_site(file) for file in setup.files]
            if shuffled:
                data = [replace(one, target_W=rng.permutation(one.target_W)) for one in data]
            sites = [site_training(file, one) for file, one in zip(setup.files, data, strict=True)]
            shared = state_of(sites[0].network, sites[0].shared)
            for at in range(1, 7):
                updates = [site.round(at, shared) for site in sites]
                shared = {name: np.mean([one.tensors[name] for one in updates], axis=0) for name in shared}
            for site in sites:
                said_N = site.finish(shared).argmax(axis=1)
                right[shuffled] += (said_N == site.data.target_W[site.data.parts["test"]]).tolist()
    assert np.mean(right[False]) > 0.75
    assert abs(np.mean(right[True]) - 0.5) < 0.15  # 108 windows


def test_a_site_without_training_people_is_left_out_with_the_reason(federation: Study, tmp_path: Path) -> None:
    parts = federation.split
    lost = next(name for name in parts.train if name.startswith("s_west"))
    split = replace(parts, train=tuple(name for name in parts.train if name != lost))
    split = replace(split, left_out=(*split.left_out, lost))
    (tmp_path / "split.json").write_text(to_json(split))
    study = Study(federation.rows, federation.manifests, split, tmp_path / "split.json", federation.model)
    scores = compared(study, tmp_path, "fedavg", attacks=False)["scores"]
    missing = scores[scores["score"].isna()]
    assert list(missing["site"]) == ["s/west"]
    assert "s/west" in missing["note"].iloc[0]
    assert set(scores.dropna(subset=["score"])["site"]) == {"all", "s/north", "s/south"}


def test_a_site_file_of_another_sites_recordings_is_refused(set_up: Callable[..., Any], tmp_path: Path) -> None:
    one, other, _ = set_up("fedavg").files
    path = tmp_path / "mixed.json"
    path.write_text(one.model_copy(update={"rows": (*one.rows, other.rows[0])}).model_dump_json())
    with pytest.raises(ConfigError, match=r"mixed\.json: s_south_sub-s0.*not of s/north"):
        read_site_file(path)


def test_a_site_opens_its_own_stores_and_no_other(set_up: Callable[..., Any], tmp_path: Path) -> None:
    """All other stores are gone from this machine: training goes on, because nothing asks for them."""
    site = set_up("fedavg").files[0]
    folder = tmp_path / "hospital"
    folder.mkdir()
    manifests = {}
    for recording, path in site.manifests.items():
        shutil.copytree(Path(path).with_name(f"{recording}.zarr"), folder / f"{recording}.zarr")
        shutil.copy(path, folder / Path(path).name)
        manifests[recording] = str(folder / Path(path).name)
    training = fresh(site.model_copy(update={"manifests": manifests}))
    assert set(training.data.sites_W) == {"s/north"}
    assert set(training.data.recordings_W) <= set(manifests)
    assert open_site(site).target_W.tolist() == training.data.target_W.tolist()
