"""What the report says of the federation follows from its tables."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuroloom.federated.config import FederateConfig
from neuroloom.federated.tables import gains_table
from neuroloom.figures.federation_verdicts import attack_verdicts, gain_verdicts, privacy_verdicts
from neuroloom.figures.participation import participation_table, participation_verdicts, spans
from neuroloom.figures.report_federation import federation_section, privacy_settings

from .test_federation_plots import ARMS, SITES, failing, federation_tables, losing

PRIVACY: dict[str, Any] = {
    "name": "private",
    "rounds": 6,
    "clip_norm": 1.0,
    "noise_multiplier": 4.0,
    "sample_rate": 0.5,
    "delta": 1e-3,
    "noise": "secret",
}
EMPTY = pd.DataFrame()


def scored(levels: dict[str, list[float]], sites: tuple[str, ...] = SITES) -> dict[str, pd.DataFrame]:
    """A study in which these arms have these scores of people, one person at each site in turn."""
    tables = federation_tables(tuple(levels), sites=sites)
    lines = []
    for strategy, score_N in levels.items():
        kind, network, _ = ARMS[strategy]
        for at, score in enumerate(score_N):
            site = sites[at % len(sites)]
            who = {"site": site, "metric": "balanced_accuracy", "participant": f"{site}/{at}", "score": score}
            lines.append({"strategy": strategy, "kind": kind, "network": network, "fold": 0, "seed": 0, **who})
    return {**tables, "federation_gains": gains_table(pd.DataFrame(lines))}


def told(tables: dict[str, pd.DataFrame]) -> Any:
    (verdict,) = gain_verdicts(tables["federation_summary"], tables["federation_gains"])
    return verdict


def test_a_gain_beyond_chance_is_told_with_its_interval_and_people() -> None:
    verdict = told(
        scored(
            {
                "local": [0.6, 0.62, 0.6],
                "fedavg": [0.65, 0.65, 0.6],
                "lora": [0.71, 0.72, 0.7],
                "centralised": [0.8, 0.82, 0.81],
            }
        )
    )
    assert verdict.answer == "yes"
    assert verdict.text.startswith(
        "reve: the best of 2 federated arms, lora, beats every site alone. Gain in balanced accuracy on the same 3 "
        "people of the test: +0.10 (95 % +0.09 to +0.12). Centralised training gains +0.20 (95 % +0.19 to +0.22): lora "
        "is 0.10 below that. "
    )
    assert verdict.text.endswith(
        "By site: demo/north +0.11, demo/south +0.10, demo/west +0.10; no interval at demo/north, demo/south and "
        "demo/west, where one person was tested."
    )


def test_scores_that_are_told_are_those_of_the_table() -> None:
    tables = scored({"local": [0.6] * 3, "fedavg": [0.5] * 3, "lora": [0.7] * 3, "centralised": [0.8] * 3})
    means = tables["federation_summary"]
    pooled = means[(means["site"] == "all") & (means["metric"] == "balanced_accuracy")].set_index("strategy")["score"]
    ranked = pooled[["centralised", "lora", "local"]].sort_values(ascending=False)
    words = [f"{score:.2f} ({name})" for name, score in ranked.items()]
    assert f"{words[0]}, {words[1]} and {words[2]}; chance 0.50." in told(tables).text


def test_a_gain_that_may_be_chance_is_open_and_a_loss_is_no() -> None:
    unsure = told(scored({"local": [0.6, 0.6, 0.6], "fedavg": [0.9, 0.55, 0.6]}))
    assert unsure.answer == "open"
    assert "the federated arm fedavg is ahead of every site alone, but that may be chance. " in unsure.text
    assert "No arm is centralised, so what is left to gain is not known. " in unsure.text
    worse = told(scored({"local": [0.6, 0.6, 0.6], "fedavg": [0.5, 0.55, 0.6], "centralised": [0.5, 0.5, 0.5]}))
    assert worse.answer == "no"
    assert "fedavg does not beat every site alone. " in worse.text
    assert "Centralised training gains -0.10 (95 % -0.10 to -0.10): fedavg is not below that. " in worse.text


def test_one_person_in_all_proves_nothing() -> None:
    verdict = told(scored({"local": [0.5], "fedavg": [1.0]}, sites=SITES[:1]))
    assert verdict.answer == "open"
    assert "on the same 1 person of the test: +0.50. " in verdict.text
    assert "no interval at demo/north, where one person was tested" in verdict.text


def test_many_sites_are_counted_and_those_with_people_have_intervals() -> None:
    sites = tuple(f"s{at}" for at in range(8))
    verdict = told(scored({"local": [0.6] * 8, "fedavg": [0.7] * 6 + [0.5] * 2}, sites=sites))
    assert (
        "It is better than alone at 6 of 8 sites; no interval at 8 sites, where one person was tested." in verdict.text
    )
    two = told(scored({"local": [0.6] * 4, "fedavg": [0.7, 0.7, 0.8, 0.7]}, sites=SITES[:2]))
    assert "By site: demo/north +0.15 (95 % -0.49 to +0.79), demo/south +0.10 (95 % +0.10 to +0.10)." in two.text


def test_what_cannot_be_compared_is_unknown() -> None:
    tables = federation_tables(("fedavg", "lora"))
    verdict = told({**tables, "federation_gains": gains_table(EMPTY)})
    assert (verdict.answer, verdict.text) == (
        "unknown",
        "reve: there is no arm `local` with a score to compare with.",
    )
    lost = failing(federation_tables(("fedavg", "local")), "no site can take part", strategy="fedavg")
    lost["federation_gains"] = gains_table(EMPTY)
    assert told(lost).text == "reve: no federated arm has a score (no site can take part)."
    assert gain_verdicts(EMPTY, EMPTY) == []


def test_networks_are_told_apart() -> None:
    tables = federation_tables()
    verdicts = gain_verdicts(tables["federation_summary"], tables["federation_gains"])
    assert [verdict.text.split(":")[0] for verdict in verdicts] == ["reve", "fleeg"]


def test_sites_that_took_part_in_all_rounds_are_told() -> None:
    tables = federation_tables()
    (verdict,) = participation_verdicts(tables["federation_rounds"], tables["federation_summary"])
    assert (verdict.answer, verdict.text) == ("yes", "All 3 sites took part in every round of all 6 federated arms.")
    table = participation_table(tables["federation_rounds"], tables["federation_summary"])
    assert len(table) == 6 * 3, "neither alone nor in one place"
    assert table[["rounds of all runs", "used in"]].to_numpy().tolist() == [[12, 12]] * 18
    assert set(table["used in every run"]) == {"1 to 6"}


def test_lost_rounds_have_their_reason() -> None:
    tables = federation_tables(("fedavg",))
    facts = {"strategy": "fedavg", "site": "demo/west", "seed": 1}
    rounds = losing(tables["federation_rounds"], "absent", "no answer within 600 s", **facts, round=2)
    rounds = losing(rounds, "refused", "head.weight: NaN", **facts, round=3)
    rounds = losing(rounds, "refused", "head.weight: NaN", **facts, round=4)
    table = participation_table(rounds, tables["federation_summary"]).set_index("site")
    west = table.loc["demo/west"]
    assert (west["rounds of all runs"], west["used in"], west["used in every run"]) == (12, 9, "1, 5 to 6")
    assert west["not used"] == (
        "round 2 (fold 0, seed 1): absent, no answer within 600 s; round 3 to 4 (fold 0, seed 1): refused, "
        "head.weight: NaN"
    )
    assert table.loc["demo/north", "not used"] == ""
    (verdict,) = participation_verdicts(rounds, tables["federation_summary"])
    assert verdict.answer == "in part"
    assert f"demo/west in fedavg: {west['not used']}." in verdict.text


def test_a_site_that_joins_late_or_never_is_told() -> None:
    tables = federation_tables(("fedavg", "local"), seeds=1)
    rounds = tables["federation_rounds"]
    rounds = rounds[~((rounds["site"] == "demo/south") & (rounds["round"] < 3))]
    rounds = rounds[rounds["site"] != "demo/west"]
    tables = failing(tables, "nobody to train on", site="demo/west")
    table = participation_table(rounds, tables["federation_summary"]).set_index("site")
    assert table.loc["demo/south", "not used"] == "round 1 to 2 (fold 0, seed 0): not there"
    assert table.loc["demo/south", "used in every run"] == "3 to 6"
    assert table.loc["demo/west", "not used"] == "1 of 1 runs: nobody to train on"
    assert len(table) == 3, "a site that is alone is not asked to take part"


def test_what_is_lost_in_several_arms_is_told_once() -> None:
    tables = federation_tables(("fedavg", "lora", "local"), seeds=1)
    tables = failing(tables, "demo/west: nobody to train on", site="demo/west")
    rounds = tables["federation_rounds"]
    (verdict,) = participation_verdicts(rounds[rounds["site"] != "demo/west"], tables["federation_summary"])
    assert verdict.text == (
        "Not every site took part in every round. demo/west in fedavg and lora: 1 of 1 runs: nobody to train on."
    )


def test_nothing_lost_is_nothing_told() -> None:
    assert participation_verdicts(EMPTY, EMPTY) == []
    assert spans([3, 1, 2, 5, 7, 8]) == "1 to 3, 5, 7 to 8"
    assert spans([]) == ""


@pytest.mark.parametrize(
    ("noise", "epsilon", "answer", "words"),
    [
        ("secret", 3.2, "yes", "private: what its sites send comes to epsilon 3.2 at delta 0.001, as their ledgers"),
        ("secret", 21.7, "in part", "10 or more is hardly a bound"),
        ("seeded", 3.2, "no", "private protects nobody: its noise follows from a known seed"),
        ("secret", np.inf, "unknown", "no epsilon was noted"),
    ],
)
def test_privacy_promises_no_more_than_was_noted(noise: str, epsilon: float, answer: str, words: str) -> None:
    cost = federation_tables()["federation_cost"].copy()
    cost.loc[cost["strategy"] == "private", "epsilon"] = epsilon
    (verdict,) = privacy_verdicts(cost, [{**PRIVACY, "noise": noise}])
    assert verdict.answer == answer
    assert words in verdict.text
    settings = "clipping norm 1, noise multiplier 4, sampling rate 0.5, 6 rounds; the unit is a subject of one site"
    assert settings in verdict.text


def test_settings_of_privacy_are_those_of_the_arms_in_use() -> None:
    private = {"kind": "personal", "privacy": {"noise": "seeded", "noise_multiplier": 4.0}}
    config = FederateConfig(
        use=("fedavg", "private"),
        task="eyes",
        rounds=6,
        strategies={"fedavg": {"kind": "fedavg"}, "private": private, "other": private},
    )
    (settings,) = privacy_settings(config)
    assert {name: settings[name] for name in PRIVACY} == {**PRIVACY, "noise": "seeded"}
    assert privacy_verdicts(EMPTY, []) == []


def attacked(p: dict[str, float]) -> pd.DataFrame:
    """Attacks of which those on people have these p in each run."""
    attacks = federation_tables(tuple(p))["federation_attacks"].copy()
    for strategy, value in p.items():
        attacks.loc[attacks["strategy"] == strategy, "p"] = value
    return attacks


def test_a_model_that_tells_who_was_in_training_is_named() -> None:
    attacks = attacked({"local": 0.01, "fedavg": 0.3})
    own = (attacks["strategy"] == "local") & (attacks["level"] == "subject") & (attacks["metric"] == "auroc")
    attacks.loc[own & (attacks["state"] == "after training"), "score"] = 0.9
    attacks.loc[own & (attacks["state"] == "before training"), "score"] = 0.52
    (verdict,) = attack_verdicts(attacks)
    assert verdict.answer == "no"
    assert verdict.text == (
        "reve: who was in training is not kept by local (AUROC 0.90 by loss, 0.52 before training; AUROC 0.90 by fall "
        "of loss): p ≤ 0.05 in every run, of 6 people of the training and 6 others, not corrected for the number of "
        "attacks. Not found for fedavg; that shows only that these two attacks failed."
    )


def test_an_attack_that_fails_proves_no_privacy() -> None:
    attacks = attacked({"fedavg": 0.3})
    attacks.loc[attacks["seed"] == 0, "p"] = 0.01
    (verdict,) = attack_verdicts(attacks)
    assert verdict.answer == "open", "not in every run"
    assert "no arm (fedavg) told who was in training" in verdict.text
    assert verdict.text.endswith("that shows only that these two attacks failed.")
    (few,) = attack_verdicts(attacks.assign(score=np.nan))
    assert few.answer == "unknown"
    assert attack_verdicts(EMPTY) == []


def test_tables_hold_every_arm() -> None:
    tables = federation_tables()
    section = federation_section(tables, {}, privacy=[{**PRIVACY, "noise": "seeded"}])
    scores = section["scores"]
    assert len(scores.rows) == len(ARMS) * 4
    at = {name: scores.headers.index(name) for name in ("arm", "site", "balanced accuracy", "auroc", "from", "people")}
    rows = {(row[at["arm"]][0], row[at["site"]][0]): row for row in scores.rows}
    means = tables["federation_summary"].set_index(["strategy", "site", "metric"])["score"]
    lora = rows["lora", "demo/south"]
    assert lora[at["balanced accuracy"]][1] == means["lora", "demo/south", "balanced_accuracy"]
    assert lora[at["auroc"]][1] == means["lora", "demo/south", "auroc"]
    assert (lora[at["from"]][0], lora[at["people"]][0]) == ("n/a", "1")
    gains = section["gains"]
    assert len(gains.rows) == 7 * 4
    assert {row[gains.headers.index("remark")][0] for row in gains.rows} == {"", "one person: no interval"}
    cost = section["cost"]
    found = {row[1][0]: dict(zip(cost.headers, row, strict=True)) for row in cost.rows}
    assert found["lora"]["of fedavg's"][1] == pytest.approx(82_952 / 577_792)
    assert found["local"]["round (s)"][0] == "n/a"
    assert (found["lora"]["epsilon"][0], found["private (personal)"]["epsilon"][0]) == ("no bound", "7")
    (private,) = section["privacy"].rows
    assert [text for text, _ in private] == [
        *("private", "a subject of one site", "7", "0.001", "1", "4", "0.500", "6", "seeded")
    ]
    attacks = section["attacks"]
    assert len(attacks.rows) == len(ARMS) * 8 + 8 * 3 + 1
    assert {"before training", "after training", "largest p"} <= set(attacks.headers)


def test_a_study_without_arms_has_an_empty_section() -> None:
    names = ("summary", "gains", "rounds", "cost", "attacks")
    section = federation_section({f"federation_{name}": EMPTY for name in names}, {}, privacy=[])
    assert section["verdicts"] == []
    assert all(section[name].rows == [] for name in ("scores", "gains", "cost", "participation", "privacy", "attacks"))
