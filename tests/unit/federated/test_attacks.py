"""Attacks find what was planted, and stay at chance where nothing is, also where people differ."""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score, roc_curve

from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.federated.attacks import COLUMNS, membership_inference, subject_identity

QUICK: dict[str, Any] = {"n_boot": 200, "n_permutations": 300}
PROBE = ProbeSettings(penalties=(0.1, 0.01), n_permutations=100, n_resamples=100)


def losses(
    rng: np.random.Generator,
    *,
    n_members: int = 8,
    n_others: int = 8,
    n: int = 15,
    voice: float = 1.0,
    learned: float = 0,
) -> dict[str, Any]:
    """Losses of people who differ (`voice`) for any model, less what the attacked one learned of its members."""
    member_K = rng.permutation(np.r_[np.ones(n_members, bool), np.zeros(n_others, bool)])
    person_W = np.repeat(np.arange(len(member_K)), n)
    easy_W = voice * rng.standard_normal(len(member_K))[person_W]
    member_W = member_K[person_W]
    return {
        "loss_W": 3 + easy_W - learned * member_W + 0.3 * rng.standard_normal(len(person_W)),
        "reference_W": 3 + easy_W + 0.3 * rng.standard_normal(len(person_W)),
        "member_W": member_W,
        "participants_W": np.array([f"s{at:02d}" for at in person_W]),
    }


def row(table: Any, attack: str = "loss", level: str = "subject", metric: str = "auroc") -> Any:
    found = table[(table["attack"] == attack) & (table["level"] == level) & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_planted_memorisation_is_found(rng: np.random.Generator) -> None:
    table = membership_inference(**losses(rng, voice=0.2, learned=2.0), rng=rng, **QUICK)
    assert table.columns.tolist() == list(COLUMNS)
    assert len(table) == 8
    assert (table["score"] > 0.95).all()
    assert (table["p"] < 0.01).all()
    assert (table[["n_members", "n_others"]] == 8).all().all()
    whole = row(table)
    assert np.isnan(whole["ci_low"])
    assert "no interval" in whole["note"]  # all members before all others
    assert whole["chance"] == pytest.approx(0.5, abs=0.05)


def test_the_reference_finds_what_differences_of_people_hide(rng: np.random.Generator) -> None:
    table = membership_inference(**losses(rng, voice=3.0, learned=0.5), rng=rng, **QUICK)
    plain, calibrated = row(table), row(table, "calibrated_loss")
    assert plain["p"] > 0.05
    assert calibrated["score"] > 0.95
    assert calibrated["p"] < 0.01
    window = row(table, "calibrated_loss", "window")
    assert window["ci_low"] < window["score"] < window["ci_high"]
    assert window["ci_low"] > 0.6


def test_nothing_learned_is_chance_within_the_interval(rng: np.random.Generator) -> None:
    tables = [membership_inference(**losses(rng), rng=rng, **QUICK) for _ in range(30)]
    for attack in ("loss", "calibrated_loss"):
        for level in ("window", "subject"):
            rows = [row(table, attack, level) for table in tables]
            inside = np.mean([one["ci_low"] <= 0.5 <= one["ci_high"] for one in rows])
            assert inside >= 0.8  # 95 % of 30, less three standard errors and a bit for 8 people
            assert np.mean([one["score"] for one in rows]) == pytest.approx(0.5, abs=0.1)
            assert np.mean([row(table, attack, level, "tpr_at_fpr_10")["chance"] for table in tables]) < 0.2


def test_p_is_uniform_where_people_differ_and_membership_means_nothing(rng: np.random.Generator) -> None:
    """Windows dealt one by one would call the difference between people an attack that works."""
    p, naive = [], []
    for _ in range(120):
        data = losses(rng, n_members=6, n_others=9, voice=2.0)
        del data["reference_W"]
        p.append(row(membership_inference(**data, rng=rng, n_boot=10, n_permutations=200), level="window")["p"])
        data["participants_W"] = np.arange(len(data["loss_W"])).astype(str)  # each window its own person
        naive.append(row(membership_inference(**data, rng=rng, n_boot=10, n_permutations=200), level="window")["p"])
    assert kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 120)
    assert np.mean(np.array(naive) <= 0.05) > 0.25


def test_scores_are_those_of_scikit_learn(rng: np.random.Generator) -> None:
    data = losses(rng, n_members=5, n_others=7, learned=0.5)
    data["loss_W"] = data["loss_W"].round(1)  # with ties
    del data["reference_W"]
    found = membership_inference(**data, rng=rng, **QUICK)
    assert found["attack"].unique().tolist() == ["loss"]
    alarms, hits, _ = roc_curve(data["member_W"], -data["loss_W"], drop_intermediate=False)
    assert row(found, level="window")["score"] == pytest.approx(roc_auc_score(data["member_W"], -data["loss_W"]))
    assert row(found, level="window", metric="tpr_at_fpr_10")["score"] == pytest.approx(hits[alarms <= 0.1].max())


def test_few_people_are_dealt_in_all_ways(rng: np.random.Generator) -> None:
    data = losses(rng, n_members=3, n_others=4, learned=0.4)
    table = membership_inference(**data, rng=rng, **QUICK)
    found = row(table)
    people = np.unique(data["participants_W"])
    mean = {name: -data["loss_W"][data["participants_W"] == name].mean() for name in people}
    member = {name: bool(data["member_W"][data["participants_W"] == name][0]) for name in people}
    aurocs = [
        np.mean([mean[one] > mean[other] for one in some for other in people if other not in some])
        for some in combinations(people, 3)
    ]
    real = np.mean([mean[one] > mean[other] for one in people if member[one] for other in people if not member[other]])
    assert len(aurocs) == comb(7, 3)
    assert found["score"] == pytest.approx(real)
    assert found["p"] == pytest.approx(np.mean(np.array(aurocs) >= real - 1e-12))
    assert found["chance"] == pytest.approx(0.5)
    assert "all 35 memberships of 7 people" in found["note"]


@pytest.mark.parametrize(("n_members", "n_others"), [(1, 6), (6, 1), (4, 0), (0, 4)])
def test_too_few_people_give_a_note_and_no_number(rng: np.random.Generator, n_members: int, n_others: int) -> None:
    table = membership_inference(**losses(rng, n_members=n_members, n_others=n_others), rng=rng, **QUICK)
    assert len(table) == 8
    assert table[["score", "ci_low", "ci_high", "chance", "p"]].isna().all().all()
    assert table["note"].str.contains("fewer than two people").all()
    assert (table["n_members"] == n_members).all()


def test_a_wide_interval_is_given_to_few_people(rng: np.random.Generator) -> None:
    widths = []
    for n in (3, 10, 40):
        many = [
            row(membership_inference(**losses(rng, n_members=n, n_others=n), rng=rng, **QUICK), level="window")
            for _ in range(5)
        ]
        widths.append(np.mean([one["ci_high"] - one["ci_low"] for one in many]))
    assert widths[0] > widths[1] > widths[2]


def test_what_cannot_be_attacked_is_refused(rng: np.random.Generator) -> None:
    data = losses(rng)
    half = data["member_W"].copy()
    half[0] = not half[0]
    with pytest.raises(ValueError, match="s00: a member in some windows and not in others"):
        membership_inference(**(data | {"member_W": half}), rng=rng, **QUICK)
    broken = data["loss_W"].copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="loss: the losses of 1 of 240 windows are not finite"):
        membership_inference(**(data | {"loss_W": broken}), rng=rng, **QUICK)
    with pytest.raises(ValueError, match="reference: the losses of 1"):
        membership_inference(**(data | {"reference_W": broken}), rng=rng, **QUICK)
    with pytest.raises(ValueError, match=r"\[239, 240\] windows"):
        membership_inference(**(data | {"loss_W": broken[1:]}), rng=rng, **QUICK)


def test_the_same_seed_gives_the_same_table(rng: np.random.Generator) -> None:
    data = losses(rng, n_members=10, n_others=10)
    one, other = (membership_inference(**data, rng=np.random.default_rng(0), **QUICK) for _ in range(2))
    assert one.equals(other)


def features(rng: np.random.Generator, *, n_people: int, voice: float, n: int = 40) -> dict[str, Any]:
    person_W = np.repeat(np.arange(n_people), n)
    own_WD = voice * rng.standard_normal((n_people, 12))[person_W]
    people = np.array([f"s{at:02d}" for at in person_W])
    half_W = np.tile(np.arange(n) // (n // 2), n_people)
    return {
        "features_WD": own_WD + rng.standard_normal((len(person_W), 12)),
        "participants_W": people,
        "recordings_W": np.char.add(people, np.array(["a", "b"])[half_W]),
        "starts_W": np.tile(np.arange(n) % (n // 2), n_people),
    }


def test_who_a_person_is_can_be_read_where_it_was_planted(rng: np.random.Generator) -> None:
    table = subject_identity(**features(rng, n_people=8, voice=2.0), rng=rng, settings=PROBE)
    assert table.columns.tolist() == list(COLUMNS)
    found = row(table, "subject_identity", "subject", "balanced_accuracy")
    assert found["score"] > 0.9
    assert found["ci_low"] > 0.6
    assert found["chance"] == pytest.approx(1 / 8, abs=0.05)
    assert found["p"] == pytest.approx(1 / 101)
    assert (found["n_members"], found["n_others"]) == (8, 0)


def test_who_a_person_is_cannot_be_read_where_nothing_is(rng: np.random.Generator) -> None:
    p = []
    for _ in range(8):
        found = subject_identity(**features(rng, n_people=6, voice=0.0), rng=rng, settings=PROBE).iloc[0]
        p.append(found["p"])
        assert found["score"] < 0.4
    assert np.mean(np.array(p) > 0.05) >= 0.7


def test_one_person_has_no_identity_to_be_read(rng: np.random.Generator) -> None:
    found = subject_identity(**features(rng, n_people=1, voice=1.0), rng=rng, settings=PROBE).iloc[0]
    assert np.isnan(found["score"])
    assert "fewer than two participants" in found["note"]
    single = features(rng, n_people=4, voice=1.0)
    single["recordings_W"] = single["participants_W"]
    single["starts_W"] = np.tile(np.arange(40), 4)
    found = subject_identity(**single, rng=rng, settings=PROBE).iloc[0]
    assert "the person is not told from the recording" in found["note"]
