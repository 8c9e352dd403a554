"""Real connectomes (Wirsich et al. 2024): read whole, in the order that anatomy confirms, and hard to predict."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroloom.study.connectome_files import read_connectomes
from neuroloom.synthesis.connectomes import ConnectomeSet, predict_connectomes


@pytest.fixture(scope="module")
def sets(real_data: Path) -> list[ConnectomeSet]:
    folder = real_data / "eegfmri_connectomes_tle"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return read_connectomes(folder)


@pytest.fixture(scope="module")
def table(sets: list[ConnectomeSet]) -> pd.DataFrame:
    return predict_connectomes(sets, n_draws=19, rng=np.random.default_rng(0))


def test_all_people_of_the_256_channel_site_are_there(sets: list[ConnectomeSet]) -> None:
    assert {one.group: one.eeg_SBE.shape for one in sets} == {
        "controls": (21, 5, 2278),
        "ltle": (13, 5, 2278),
        "rtle": (10, 5, 2278),
    }
    assert all(one.bands == ["delta", "theta", "alpha", "beta", "gamma"] for one in sets)
    assert all(0.03 < one.motion_S.min() <= one.motion_S.max() < 0.3 for one in sets)
    assert all(one.sex.count("M") + one.sex.count("F") == len(one.subjects) for one in sets)


def test_edges_are_in_the_order_of_the_rows(sets: list[ConnectomeSet]) -> None:
    """Near regions are connected, and so are a region and its counterpart; read by columns, neither holds."""
    mean_E = np.concatenate([one.fmri_SE for one in sets]).mean(axis=0)
    first_E, second_E = np.triu_indices(68, 1)
    position_N3 = sets[0].position_N3
    distance_E = np.linalg.norm(position_N3[first_E] - position_N3[second_E], axis=1)
    assert np.corrcoef(mean_E, distance_E)[0, 1] < -0.3
    assert mean_E[second_E - first_E == 34].mean() > 0.5
    assert abs(mean_E.mean()) < 0.05


def test_the_mean_of_others_is_not_beaten(table: pd.DataFrame) -> None:
    rows = table[table["kind"].isin(["model", "baseline"]) & (table["group"] == "all")]
    whole = rows[(rows["target"] == "fc") & (rows["metric"] == "r")].set_index("model")["score"]
    assert 0.5 < whole["training_mean"] < 0.65
    assert whole["distance"] < whole["training_mean"] - 0.1
    assert whole["eeg_pattern"] < whole["distance"]
    gain = rows[(rows["metric"] == "gain") & rows["model"].str.startswith("eeg_")]
    assert gain["score"].max() < 0.01
    explained = rows[(rows["metric"] == "r2") & rows["model"].str.startswith("eeg_")]
    assert explained["score"].max() < 0.02


def test_every_eeg_row_stands_next_to_its_null(table: pd.DataFrame) -> None:
    keys = ["model", "target", "metric", "group"]
    nulls = table[table["kind"] == "other_person"].set_index(keys)["score"]
    models = table[table["kind"] == "model"]
    assert set(map(tuple, models[keys].to_numpy())) <= set(nulls.index)
    assert models["p"].between(1 / 20, 1).all()
    assert models["q"].between(1 / 20, 1).all()
    assert set(table["n_participants"]) == {21, 13, 10, 44}
