"""The figures of the federation: what is drawn equals the tables, what is missing is said, and no words overlap."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from neuroloom.evaluation.tables import with_q
from neuroloom.federated.tables import POOLED, cost_table, gains_table, summary_table
from neuroloom.figures.arms import KIND_LOOKS, arm_name, arms_of, lines_of_arms, sites_of
from neuroloom.figures.drawing import CHANCE
from neuroloom.figures.federation_audits import (
    attack_table,
    mean_attacks,
    plot_federation_attacks,
    plot_federation_cost,
)
from neuroloom.figures.federation_plots import plot_federation_gains, plot_federation_rounds, plot_federation_scores

from .test_token_plots import assert_readable, drawn, legend_words, panels, values, words

ARMS = {  # kind, network, level
    "centralised": ("centralised", "reve", 0.82),
    "fedavg": ("fedavg", "reve", 0.68),
    "fedbn": ("fedbn", "reve", 0.7),
    "fleeg": ("fleeg", "fleeg", 0.58),
    "fleeglocal": ("local", "fleeg", 0.6),
    "local": ("local", "reve", 0.62),
    "lora": ("lora", "reve", 0.76),
    "personal": ("personal", "reve", 0.7),
    "private": ("personal", "reve", 0.55),
}
BYTES = {"lora": 82_952, "fleeg": 811_208}
SITES = ("demo/north", "demo/south", "demo/west")
MANY = tuple(f"study/site{at:02d}" for at in range(9))
ROUNDS = 6


def row_of(score: float, n: int) -> dict[str, Any]:
    limits = (score - 0.2, score + 0.18) if n > 1 else (np.nan, np.nan)
    p = 0.004 if score > 0.7 else 0.3
    return {"score": score, "ci_low": limits[0], "ci_high": limits[1], "chance": 0.5, "chance_high": 0.66, "p": p}


def job_tables(
    strategy: str, sites: tuple[str, ...], seeds: int, folds: tuple[int, ...], n: int
) -> dict[str, pd.DataFrame]:
    """As `comparing.compare` gives them for one arm: n people of the test at each site."""
    kind, network, level = ARMS[strategy]
    rng = np.random.default_rng(sum(strategy.encode()))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ("scores", "subjects", "rounds", "attacks")}
    together = [" + ".join(sites)] if kind == "centralised" else list(sites)
    for fold in folds:
        for seed in range(seeds):
            run = {"strategy": strategy, "kind": kind, "network": network, "fold": fold, "seed": seed}
            levels = np.linspace(level, level + 0.07, len(sites))
            people = {site: np.clip(rng.normal(one, 0.05, n), 0, 1) for site, one in zip(sites, levels, strict=True)}
            for site, score_N in [*people.items(), (POOLED, np.concatenate(list(people.values())))]:
                for metric in ("balanced_accuracy", "kappa", "auroc", "auprc"):
                    facts = {"n_windows": 13 * len(score_N), "n_participants": len(score_N), "n_classes": 2}
                    numbers = row_of(float(score_N.mean()), len(score_N))
                    found["scores"].append(
                        {**run, "site": site, "metric": metric, **numbers, **facts, "note": "starts", "seen": False}
                    )
                for at, score in enumerate(score_N if site != POOLED else ()):
                    who = {"participant": f"{site}/{fold}{at}", "metric": "balanced_accuracy", "score": score}
                    found["subjects"].append({**run, "site": site, **who})
            for site in together:
                for number in range(1, ROUNDS + 2):
                    last = number > ROUNDS
                    sends = kind not in ("local", "centralised") and not last
                    found["rounds"].append(
                        {
                            **run,
                            "site": site,
                            "round": number,
                            "status": "judged" if last else "used",
                            "reason": "",
                            "n_windows": np.nan if last else 30.0,
                            "validation": level - 0.3 * np.exp(-number / 2),
                            "epsilon": np.nan if last else (7.0 if strategy == "private" else np.inf),
                            "bytes_up": BYTES.get(strategy, 577_792) if sends else 0,
                            "train_seconds": np.nan if last else 0.3,
                            "round_seconds": np.nan if last else 0.34 * len(together),
                        }
                    )
            found["attacks"] += [{**run, **row} for row in attack_rows(level, together, rng)]
    return {name: pd.DataFrame(rows) for name, rows in found.items()}


def attack_rows(level: float, sites: list[str], rng: np.random.Generator) -> list[dict[str, Any]]:
    """As `attacking.attack_rows` gives them."""
    rows = []
    for state in ("after training", "before training"):
        trained = state.startswith("after")
        for attack in ("loss", "calibrated_loss") if trained else ("loss",):
            for what in ("window", "subject"):
                for metric in ("auroc", "tpr_at_fpr_10"):
                    score = rng.normal(level if trained else 0.5, 0.03)
                    facts = {"n_members": 6, "n_others": 6, "note": "all 924 memberships of 12 people"}
                    rows.append(
                        {"attack": attack, "level": what, "metric": metric, "state": state, "site": POOLED}
                        | {**row_of(score, 6), **facts}
                    )
        for site in sites:
            one = {"attack": "subject_identity", "level": "subject", "metric": "balanced_accuracy", "state": state}
            facts = {"n_members": 4, "n_others": 0, "note": "one recording each"}
            rows.append({**one, "site": site, **row_of(0.4, 4), **facts, "chance": 0.25})
    return rows


@cache
def federation_tables(
    arms: tuple[str, ...] = tuple(ARMS),
    *,
    sites: tuple[str, ...] = SITES,
    seeds: int = 2,
    folds: tuple[int, ...] = (0,),
    n: int = 1,
) -> dict[str, pd.DataFrame]:
    """Tables of a study, from what its jobs left."""
    jobs = [job_tables(arm, sites, seeds, folds, n) for arm in arms]
    found = {name: pd.concat([job[name] for job in jobs], ignore_index=True) for name in jobs[0]}
    return collected(**found)


def collected(
    scores: pd.DataFrame, subjects: pd.DataFrame, rounds: pd.DataFrame, attacks: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    scores = with_q(scores)
    return {
        "federation": scores,
        "federation_summary": summary_table(scores),
        "federation_gains": gains_table(subjects),
        "federation_rounds": rounds,
        "federation_cost": cost_table(rounds),
        "federation_attacks": attacks,
    }


def failing(tables: dict[str, pd.DataFrame], reason: str, **facts: Any) -> dict[str, pd.DataFrame]:
    """The same study, with runs that have no score."""
    scores = tables["federation"].copy()
    lost = pd.Series(True, index=scores.index)
    for name, value in facts.items():
        lost &= scores[name] == value
    scores = scores[~lost | (scores["metric"] == "balanced_accuracy")]
    lost = lost[~lost | (tables["federation"]["metric"] == "balanced_accuracy")]
    scores.loc[lost, ["score", "ci_low", "ci_high", "chance", "chance_high", "p"]] = np.nan
    scores.loc[lost, "note"] = reason
    scores = with_q(scores)
    return {**tables, "federation": scores, "federation_summary": summary_table(scores)}


def losing(rounds: pd.DataFrame, status: str, reason: str, **facts: Any) -> pd.DataFrame:
    """The same rounds, of which some were not used."""
    table = rounds.copy()
    lost = pd.Series(True, index=table.index)
    for name, value in facts.items():
        lost &= table[name] == value
    table.loc[lost, ["status", "reason"]] = status, reason
    table.loc[lost, "validation"] = np.nan
    return table


def main_rows(table: pd.DataFrame, site: str) -> pd.DataFrame:
    return table[(table["metric"] == "balanced_accuracy") & (table["site"] == site)]


@pytest.mark.parametrize(
    ("sites", "seeds", "n"), [(SITES, 2, 1), (SITES[:1], 1, 3), (MANY, 3, 2)], ids=["few", "one", "many"]
)
def test_every_arm_stands_beside_chance_at_every_site(sites: tuple[str, ...], seeds: int, n: int) -> None:
    tables = federation_tables(sites=sites, seeds=seeds, n=n)
    figure = plot_federation_scores(tables["federation"], tables["federation_summary"])
    assert_readable(figure)
    shown = panels(figure)
    assert [axes.get_title(loc="left").split("\n")[0] for axes in shown] == [*sites, "all sites"]
    for axes, site in zip(shown, [*sites, POOLED], strict=True):
        means = main_rows(tables["federation_summary"], site)
        np.testing.assert_allclose(values(axes, "mean"), np.sort(means["score"]))
        np.testing.assert_allclose(values(axes, "run"), np.sort(main_rows(tables["federation"], site)["score"]))
        limits = means[["ci_low", "ci_high"]].dropna()
        ends = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        assert ends >= set(limits.itertuples(index=False, name=None))
        assert len(limits) == (len(ARMS) if means["n_participants"].max() > 1 else 0)
        bars = [patch for patch in axes.patches if to_hex(patch.get_facecolor()).upper() == CHANCE]
        np.testing.assert_allclose([(bar.get_x(), bar.get_width()) for bar in bars], len(means) * [(0.5, 0.16)])
        assert len(drawn(axes, "found")) == (means["q"] <= 0.05).sum()
        people = means["n_participants"].max()
        assert axes.get_title(loc="left").endswith(f"n = {people} {'person' if people == 1 else 'people'}")


def test_arms_stand_from_alone_to_all_in_one_place_networks_apart() -> None:
    tables = federation_tables()
    first = panels(plot_federation_scores(tables["federation"], tables["federation_summary"]))[0]
    labels = [label.get_text() for label in first.get_yticklabels()]
    assert labels == [
        *("local", "fedavg", "fedbn", "personal", "private (personal)", "lora", "centralised"),
        *("fleeglocal (local)", "fleeg"),
    ]
    heads = {text.get_text().strip(): text.get_position()[1] for text in first.texts}
    assert list(heads) == ["reve", "fleeg"]
    assert heads["reve"] < first.get_yticks()[0] < first.get_yticks()[6] < heads["fleeg"] < first.get_yticks()[7]


def test_an_arm_or_a_site_without_a_score_says_so() -> None:
    tables = failing(federation_tables(), "nobody to test", strategy="fedbn", site="demo/west")
    tables = failing(tables, "it broke", strategy="lora", site="demo/south", seed=0)
    summary = tables["federation_summary"]
    summary = summary[(summary["strategy"] != "fleeg") | (summary["site"] != "demo/north")]
    figure = plot_federation_scores(tables["federation"], summary)
    assert_readable(figure)
    north, south, west, _ = panels(figure)
    assert [text.get_text() for text in north.texts][2:] == ["no value"]
    assert [text.get_text() for text in south.texts] == ["1 of 2 runs"]
    (told,) = [text.get_text() for text in west.texts]
    assert told.startswith("no value: ")
    assert len(values(north, "mean")) == len(values(west, "mean")) == 8
    nobody = failing(federation_tables(("fedavg",)), "too few people")
    nobody["federation_summary"]["n_participants"] = 0
    figure = plot_federation_scores(nobody["federation"], nobody["federation_summary"])
    assert_readable(figure)
    assert all("nobody was tested" in axes.get_title(loc="left") for axes in panels(figure))


@pytest.mark.parametrize(("sites", "n"), [(SITES, 1), (MANY, 2)], ids=["few", "many"])
def test_gains_are_those_of_the_table_and_one_person_has_no_interval(sites: tuple[str, ...], n: int) -> None:
    gains = federation_tables(sites=sites, n=n)["federation_gains"]
    figure = plot_federation_gains(gains)
    assert_readable(figure)
    for axes, site in zip(panels(figure), [*sites, POOLED], strict=True):
        part = gains[gains["site"] == site]
        np.testing.assert_allclose(values(axes, "gain"), np.sort(part["difference"]))
        alone = site != POOLED and n == 1
        assert {line.get_markerfacecolor() == "white" for line in drawn(axes, "gain")} == {alone}
        ends = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        limits = set(part[["ci_low", "ci_high"]].itertuples(index=False, name=None))
        assert (limits <= ends) != alone
        low, high = axes.get_xlim()
        assert low < min(part["difference"].min(), 0) <= max(part["difference"].max(), 0) < high
    assert "local" not in [label.get_text() for label in panels(figure)[0].get_yticklabels()]


def test_a_gain_that_is_not_known_is_said() -> None:
    gains = federation_tables()["federation_gains"]
    gains = gains[(gains["strategy"] != "lora") | (gains["site"] != "demo/west")]
    figure = plot_federation_gains(gains)
    assert [text.get_text() for text in panels(figure)[2].texts] == ["no value"]
    assert len(values(panels(figure)[2], "gain")) == 6


@pytest.mark.parametrize(("sites", "columns"), [(SITES, 3), (SITES[:1], 1), (MANY, 3), (MANY[:4], 3)])
def test_rounds_are_means_of_the_runs(sites: tuple[str, ...], columns: int) -> None:
    tables = federation_tables(sites=sites, seeds=2, folds=(0, 1))
    rounds = tables["federation_rounds"].copy()
    rounds.loc[rounds["seed"] == 1, "validation"] += 0.1
    figure = plot_federation_rounds(rounds, tables["federation"])
    assert_readable(figure)
    shown = panels(figure)
    assert [axes.get_title(loc="left") for axes in shown] == [
        f"{net}: {site}\n4 runs, 30 windows to train" for net in ("reve", "fleeg") for site in sites
    ]
    assert len({round(axes.get_position().x0, 3) for axes in shown}) == columns
    first = drawn(shown[0], "line")
    assert len(first) == 7
    for line, arm in zip(first, arms_of(rounds), strict=False):
        own = rounds[(rounds["strategy"] == arm[0]) & (rounds["site"].isin([sites[0], " + ".join(sites)]))]
        np.testing.assert_array_equal(line.get_xdata(), range(ROUNDS + 1))
        np.testing.assert_allclose(line.get_ydata(), own.groupby("round")["validation"].mean())
    assert len(drawn(shown[-1], "line")) == 2
    chance = [line for line in shown[0].lines if line.get_linestyle() == ":"]
    assert [line.get_ydata()[0] for line in chance] == [0.5]
    assert "local, fleeglocal (local)" in legend_words(figure)
    assert not any("nothing used" in word for word in legend_words(figure))


def test_a_round_that_was_lost_is_crossed_and_no_line_is_invented() -> None:
    tables = federation_tables()
    rounds = losing(tables["federation_rounds"], "absent", "no answer", strategy="fedavg", site="demo/west", round=3)
    figure = plot_federation_rounds(rounds, tables["federation"])
    assert_readable(figure)
    west = panels(figure)[2]
    (cross,) = [line for line in drawn(west, "lost") if len(line.get_xdata())]
    assert list(cross.get_xdata()) == [2]
    line = drawn(west, "line")[1]
    assert np.flatnonzero(np.isnan(line.get_ydata())).tolist() == [2]
    assert "nothing used in that round" in legend_words(figure)


def test_arms_of_one_kind_have_lines_of_their_own() -> None:
    looks = lines_of_arms(arms_of(federation_tables()["federation"]))
    by_name = {arm_name(arm): look for arm, look in looks.items()}
    assert by_name["personal"]["color"] == by_name["private (personal)"]["color"]
    assert by_name["personal"]["ls"] != by_name["private (personal)"]["ls"]
    reve = [tuple(look.items()) for arm, look in looks.items() if arm[2] == "reve"]
    assert len(set(reve)) == len(reve)


def test_every_kind_has_an_order_and_a_look_of_its_own() -> None:
    from typing import get_args

    from neuroloom.federated.config import Kind

    assert set(KIND_LOOKS) == set(get_args(Kind))
    assert len({(look["color"], look["marker"]) for look in KIND_LOOKS.values()}) == len(KIND_LOOKS)


def test_sites_are_places_and_not_what_stands_for_all() -> None:
    tables = federation_tables()
    assert sites_of(tables["federation_rounds"]) == sites_of(tables["federation_summary"]) == list(SITES)


def test_costs_are_those_of_the_table() -> None:
    cost = federation_tables()["federation_cost"]
    figure = plot_federation_cost(cost)
    assert_readable(figure)
    sent, seconds, rest = panels(figure)
    sends = cost["n_shared_bytes"] > 0
    assert sent.get_xscale() == "log"
    np.testing.assert_allclose(values(sent, "bytes"), np.sort(cost.loc[sends, "n_shared_bytes"]))
    assert words(figure).count("nothing is sent") == (~sends).sum() == 3
    assert "83 kB" in [text.get_text().strip() for text in sent.texts]
    trained = {bar.get_y(): bar.get_width() for bar in seconds.patches if bar.get_label() == "training"} or {
        bar.get_y(): bar.get_width() for bar in seconds.patches if bar.get_x() == 0
    }
    np.testing.assert_allclose(np.sort(list(trained.values())), np.sort(cost["train_seconds"]))
    whole: dict[float, float] = {}
    for bar in seconds.patches:
        whole[bar.get_y()] = max(whole.get(bar.get_y(), 0.0), bar.get_x() + bar.get_width())
    expected = cost["round_seconds"].where(sends, cost["train_seconds"])
    np.testing.assert_allclose(np.sort(list(whole.values())), np.sort(expected))
    np.testing.assert_allclose(
        np.sort([bar.get_width() for bar in rest.patches]), np.sort(100 * cost.loc[sends, "overhead"])
    )
    alone = plot_federation_cost(cost[~sends])
    assert_readable(alone)
    assert words(alone).count("no messages") == 3


@pytest.mark.parametrize("sites", [SITES, SITES[:2], MANY[:6]])
def test_attacks_stand_beside_what_was_there_before_training(sites: tuple[str, ...]) -> None:
    attacks = federation_tables(sites=sites)["federation_attacks"]
    figure = plot_federation_attacks(attacks)
    assert_readable(figure)
    means = mean_attacks(attacks)
    shown = {axes.get_title(loc="left"): axes for axes in panels(figure)}
    assert len(shown) == 4 + len(sites) + 1
    axes = shown["In training?\nby loss, people\nn = 6 and 6 others"]
    part = means[(means["attack"] == "loss") & (means["level"] == "subject") & (means["metric"] == "auroc")]
    for state in ("after training", "before training"):
        own = part[part["state"] == state]
        np.testing.assert_allclose(values(axes, state), np.sort(own["score"]))
        ends = {tuple(line.get_xdata()) for line in axes.lines if len(line.get_xdata()) == 2}
        assert ends >= set(own[["ci_low", "ci_high"]].itertuples(index=False, name=None))
    assert len(drawn(axes, "found")) == ((part["state"] == "after training") & (part["p"] <= 0.05)).sum() > 0
    identity = shown[f"Who is it?\n{sites[0]}\nn = 4"]
    assert len(drawn(identity, "after training")) == len(drawn(identity, "before training")) == len(ARMS) - 1
    np.testing.assert_allclose(values(identity, "chance"), 0.25)
    assert len(drawn(shown["Who is it?\nall sites\nn = 4"], "after training")) == 1
    falls = shown["In training?\nby fall of loss, people\nn = 6 and 6 others"]
    assert drawn(falls, "before training") == []


def test_attacks_are_means_of_runs_with_the_largest_p() -> None:
    attacks = federation_tables(("local",), seeds=2)["federation_attacks"]
    own = (attacks["attack"] == "loss") & (attacks["level"] == "window") & (attacks["metric"] == "auroc")
    own &= attacks["state"] == "after training"
    attacks = attacks.copy()
    attacks.loc[own, "score"], attacks.loc[own, "p"] = [0.6, 0.8], [0.01, 0.2]
    table = attack_table(attacks)
    (row,) = table[(table["attack"] == "loss") & (table["level"] == "window") & (table["metric"] == "auroc")].to_dict(
        "records"
    )
    assert (row["score"], row["p"], row["n_runs"]) == (pytest.approx(0.7), 0.2, 2)
    assert row["before"] == pytest.approx(0.5, abs=0.1)
    assert np.isnan(table.loc[table["attack"] == "calibrated_loss", "before"]).all()


def test_an_attack_that_could_not_be_made_says_so() -> None:
    attacks = federation_tables()["federation_attacks"].copy()
    lost = (attacks["strategy"] == "fedavg") & (attacks["attack"] == "loss") & (attacks["state"] == "after training")
    attacks.loc[lost, ["score", "ci_low", "ci_high", "chance", "p"]] = np.nan
    attacks.loc[lost, "note"] = "too few people"
    figure = plot_federation_attacks(attacks)
    assert_readable(figure)
    assert len([word for word in words(figure) if word.startswith("no value")]) == 2


EMPTY = pd.DataFrame()
NOTICES = {
    "No arm of a federation was run.": lambda: plot_federation_scores(EMPTY, EMPTY),
    "No arm stands beside an arm `local`": lambda: plot_federation_gains(gains_table(EMPTY)),
    "No round was run.": lambda: plot_federation_rounds(EMPTY, EMPTY),
    "No round was run": lambda: plot_federation_cost(cost_table(EMPTY)),
    "No attack was made": lambda: plot_federation_attacks(EMPTY),
}


@pytest.mark.parametrize("reason", NOTICES)
def test_a_table_without_rows_gives_a_notice(reason: str) -> None:
    figure = NOTICES[reason]()
    assert any(reason in word for word in words(figure))
    assert not figure.axes


def test_a_column_that_is_missing_is_named_with_its_rule() -> None:
    tables = federation_tables()
    summary = tables["federation_summary"].drop(columns="chance_high")
    with pytest.raises(ValueError, match=r"table federation_summary: no column chance_high .*collect_federation"):
        plot_federation_scores(tables["federation"], summary)
    with pytest.raises(ValueError, match="table federation: no column score"):
        plot_federation_scores(tables["federation"].drop(columns="score"), tables["federation_summary"])
    with pytest.raises(ValueError, match="table federation_gains: no column ci_low"):
        plot_federation_gains(tables["federation_gains"].drop(columns="ci_low"))
    with pytest.raises(ValueError, match="table federation_rounds: no column validation"):
        plot_federation_rounds(tables["federation_rounds"].drop(columns="validation"), tables["federation"])
    with pytest.raises(ValueError, match="table federation: no column n_classes"):
        plot_federation_rounds(tables["federation_rounds"], tables["federation"].drop(columns="n_classes"))
    with pytest.raises(ValueError, match="table federation_cost: no column overhead"):
        plot_federation_cost(tables["federation_cost"].drop(columns="overhead"))
    with pytest.raises(ValueError, match="table federation_attacks: no column state"):
        plot_federation_attacks(tables["federation_attacks"].drop(columns="state"))


def test_each_figure_has_a_caption(repository: Any) -> None:
    for name in ("scores", "rounds", "gains", "cost", "attacks"):
        assert (repository / "resources" / "captions" / f"federation_{name}.rst").read_text().strip().endswith(".")
