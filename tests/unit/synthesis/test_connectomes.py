"""Prediction of connectomes: a planted link is found, none is found where there is none, and people stay apart."""

from dataclasses import replace

import numpy as np
import pytest

from neuroloom.config import ConfigError
from neuroloom.synthesis import connectomes
from neuroloom.synthesis.connectomes import MODELS, ConnectomeSet, predict_connectomes

N_REGIONS = 12
N_EDGES = N_REGIONS * (N_REGIONS - 1) // 2
BANDS = ["theta", "alpha", "beta"]


def made(group: str, rng: np.random.Generator, *, n_people: int = 30, link: str = "none") -> ConnectomeSet:
    """People with one common pattern; what sets them apart is linked to EEG of the same edge, of one trait, or not."""
    position_N3 = np.random.default_rng(0).uniform(-60, 60, (N_REGIONS, 3))
    common_E = np.random.default_rng(1).standard_normal(N_EDGES)
    eeg_SBE = rng.standard_normal((n_people, len(BANDS), N_EDGES))
    noise_SE = 0.5 * rng.standard_normal((n_people, N_EDGES))
    motion_S = rng.gamma(4, 0.03, n_people)
    if link == "edges":
        noise_SE += 0.5 * eeg_SBE[:, 1] * np.random.default_rng(2).choice([-1, 1], N_EDGES)
    elif link == "bands":
        noise_SE += 0.5 * eeg_SBE[:, 1]
    elif link == "trait":
        trait_S1, to_eeg_E, to_fmri_E = rng.standard_normal((n_people, 1)), *rng.standard_normal((2, N_EDGES))
        eeg_SBE[:, 0] += 2 * trait_S1 * to_eeg_E
        noise_SE += trait_S1 * to_fmri_E
    elif link == "motion":
        noise_SE += 20 * (motion_S - motion_S.mean())[:, None] * rng.standard_normal(N_EDGES)
    return ConnectomeSet(
        eeg_SBE=eeg_SBE,
        fmri_SE=common_E + noise_SE,
        subjects=[f"{group}{at}" for at in range(n_people)],
        group=group,
        age_S=rng.uniform(20, 60, n_people),
        sex=list(rng.choice(["F", "M"], n_people)),
        motion_S=motion_S,
        bands=BANDS,
        position_N3=position_N3,
        network_N=np.arange(N_REGIONS) % 3,
    )


def score(table, model: str, target: str, metric: str, kind: str | None = None, group: str = "a"):
    chosen = table[(table[["model", "target", "metric", "group"]] == [model, target, metric, group]).all(axis=1)]
    (row,) = chosen[chosen["kind"].isin([kind] if kind else ["model", "baseline"])].to_dict("records")
    return row


@pytest.mark.parametrize(
    ("link", "finder"),
    [("edges", "eeg_edges"), ("bands", "eeg_bands"), ("trait", "eeg_components"), ("motion", "motion")],
)
def test_a_planted_link_is_found_by_the_model_that_can_see_it(link: str, finder: str, rng: np.random.Generator) -> None:
    table = predict_connectomes([made("a", rng, link=link)], n_draws=39, rng=rng)
    for metric, least in (("r", 0.15), ("identification", 0.6)):
        row = score(table, finder, "deviation", metric)
        null = score(table, finder, "deviation", metric, "other_person")
        assert row["score"] > least
        assert row["ci_low"] > null["ci_high"]
        assert (row["p"], row["n_participants"], null["n_draws"]) == (1 / 40, 30, 39)
    assert score(table, finder, "fc", "gain")["ci_low"] > 0
    assert score(table, finder, "deviation", "r2")["ci_low"] > 0


def test_weights_of_a_band_do_not_find_a_link_whose_sign_changes_from_edge_to_edge(rng: np.random.Generator) -> None:
    table = predict_connectomes([made("a", rng, link="edges")], n_draws=39, rng=rng)
    assert score(table, "eeg_bands", "deviation", "r")["score"] < 0.1
    shuffled = score(table, "eeg_edges", "deviation", "r", "shuffled_edges")
    assert shuffled["ci_high"] < score(table, "eeg_edges", "deviation", "r")["ci_low"]
    assert shuffled["n_draws"] == 8


def test_without_a_link_the_mean_is_as_good_and_p_is_that_of_chance(rng: np.random.Generator) -> None:
    p, identified = [], []
    for _ in range(10):
        table = predict_connectomes([made("a", rng, n_people=20)], n_draws=19, rng=rng)
        mean = score(table, "training_mean", "fc", "r")["score"]
        assert mean > 0.8
        for model in ("eeg_bands", "eeg_edges", "eeg_components"):
            assert abs(score(table, model, "fc", "r")["score"] - mean) < 0.03
            p.append(score(table, model, "deviation", "r")["p"])
            identified.append(score(table, model, "deviation", "identification")["score"])
    assert 0.35 < np.mean(p) < 0.7  # uniform on 1/20 ... 1 has mean 0.525
    assert np.mean(np.array(p) <= 0.05) < 0.2
    assert abs(np.mean(identified) - 0.5) < 0.06


def test_the_mean_and_the_distance_say_nothing_of_a_person(rng: np.random.Generator) -> None:
    table = predict_connectomes([made("a", rng)], n_draws=1, rng=rng)
    assert np.isnan(score(table, "training_mean", "deviation", "r")["score"])
    assert score(table, "training_mean", "deviation", "r2")["score"] == 0
    assert score(table, "training_mean", "fc", "gain")["score"] == 0
    assert score(table, "distance", "deviation", "identification")["score"] == pytest.approx(0.5)
    assert table.loc[table["model"].isin(["training_mean", "distance"]), "p"].isna().all()


@pytest.mark.parametrize("model", MODELS)
def test_a_prediction_does_not_depend_on_the_person_that_is_predicted(model: str, rng: np.random.Generator) -> None:
    people = connectomes._gather([made("a", rng, link="edges"), made("b", rng, n_people=12)])
    folds = connectomes._folds(people.group_S, rng)
    predict = MODELS[model](people, folds)
    before_SE = predict(people.truth_SE)
    for train_N, test_N in folds:
        assert not set(train_N) & set(test_N)
        changed_SE = people.truth_SE.copy()
        changed_SE[test_N] = rng.standard_normal(changed_SE[test_N].shape)
        np.testing.assert_array_equal(predict(changed_SE)[test_N], before_SE[test_N])
    assert sorted(np.concatenate([test_N for _, test_N in folds])) == list(range(42))


def test_ridge_is_that_of_scikit_learn_with_the_penalty_of_its_leave_one_out(rng: np.random.Generator) -> None:
    """One edge with its own bands; scikit-learn chooses among the same penalties by the same errors."""
    from sklearn.linear_model import RidgeCV

    features_SF, wanted_S = rng.standard_normal((40, 5)), rng.standard_normal(40)
    wanted_S += features_SF @ [1.0, -0.5, 0, 0, 0.2]
    train_N, test_N = np.arange(30), np.arange(30, 40)
    ours_SE = connectomes._ridge(features_SF[None], [(train_N, test_N)])(wanted_S[:, None].astype(np.float32))
    scaled_SF = (features_SF - features_SF[train_N].mean(axis=0)) / features_SF[train_N].std(axis=0)
    mean_square = (np.linalg.svd(scaled_SF[train_N], compute_uv=False) ** 2).mean()
    theirs = RidgeCV(alphas=np.array(connectomes.PENALTIES) * mean_square).fit(scaled_SF[train_N], wanted_S[train_N])
    np.testing.assert_allclose(ours_SE[test_N, 0], theirs.predict(scaled_SF[test_N]), atol=1e-5)


def test_groups_get_rows_of_their_own_and_one_for_all(rng: np.random.Generator) -> None:
    sets = [made("a", rng, n_people=12), made("b", rng, n_people=8)]
    table = predict_connectomes(sets, n_draws=2, rng=rng)
    assert dict(table.groupby("group")["n_participants"].first()) == {"a": 12, "b": 8, "all": 20}
    assert list(table.columns) == [*connectomes.COLUMNS, "p", "q"]
    keys = ["model", "kind", "target", "metric", "group"]
    assert not table.duplicated(keys).any()
    assert set(table["kind"]) == {"baseline", "model", "other_person", "shuffled_edges"}
    known = table.dropna(subset=["p"])
    assert (known["q"] >= known["p"] - 1e-12).all()


def test_the_same_seed_gives_the_same_table(rng: np.random.Generator) -> None:
    one = made("a", rng, n_people=10)
    first, second = (predict_connectomes([one], n_draws=3, rng=np.random.default_rng(5)) for _ in range(2))
    assert first.equals(second)


def test_people_change_places_only_within_their_group(rng: np.random.Generator) -> None:
    group_S = np.repeat(["a", "b"], [7, 5])
    for _ in range(20):
        moved_S = connectomes._moved(group_S, rng)
        assert (group_S[moved_S] == group_S).all()
        assert sorted(moved_S) == list(range(12))


def test_sets_that_cannot_be_compared_are_refused(rng: np.random.Generator) -> None:
    one, other = made("a", rng), made("b", rng)
    with pytest.raises(ConfigError, match="connectomes of b and a differ in bands or regions"):
        predict_connectomes([one, replace(other, bands=["delta", *BANDS[1:]])], n_draws=1, rng=rng)
    with pytest.raises(ConfigError, match="connectomes of c: 5 people, fewer than 6"):
        predict_connectomes([made("c", rng, n_people=5)], n_draws=1, rng=rng)
    with pytest.raises(ConfigError, match="0 groups and 1 draws"):
        predict_connectomes([], n_draws=1, rng=rng)
