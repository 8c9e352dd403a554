"""Probes find what is there, stay at chance where nothing is, and refuse what leaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from neuroloom.evaluation.probes import identity_probe, linear_probe, score_predictions, site_probe
from neuroloom.evaluation.readout import ProbeSettings
from neuroloom.evaluation.splits import LeakError

QUICK = ProbeSettings(n_permutations=100, n_resamples=200)
FEW = ProbeSettings(penalties=(0.1, 0.01), n_permutations=60, n_resamples=20)
COLUMNS = "target probe metric score ci_low ci_high chance chance_high p n_windows n_participants n_classes rule note"


@dataclass
class Windows:
    features: Any
    people: Any
    recordings: Any
    starts: Any
    parts: Any


def windows(
    rng: np.random.Generator, *, n_people: int = 20, n: int = 30, n_features: int = 16, voice: float = 1.0
) -> Windows:
    """Noise on top of what is each person's own (`voice`)."""
    person_W = np.repeat(np.arange(n_people), n)
    own_WF = voice * rng.standard_normal((n_people, n_features))[person_W]
    fifth = person_W % 5
    parts = np.where(fifth == 0, "test", np.where(fifth == 1, "validation", "train"))
    people = np.array([f"s{k:02d}" for k in person_W])
    features = own_WF + rng.standard_normal((len(person_W), n_features))
    return Windows(features, people, np.char.add(people, "r"), np.tile(np.arange(n), n_people), parts)


def row(table: Any, probe: str = "linear", metric: str = "balanced_accuracy") -> Any:
    return table[(table["probe"] == probe) & (table["metric"] == metric)].iloc[0]


def test_an_effect_is_found_and_stands_beside_chance_and_majority(rng: np.random.Generator) -> None:
    data = windows(rng)
    labels = rng.choice(["left", "right"], len(data.people), p=(0.3, 0.7))
    data.features[:, 3] += 2.5 * (labels == "right")
    result = linear_probe(data.features, labels, data.people, parts=data.parts, target="hand", rng=rng, settings=QUICK)
    found, majority = row(result.table), row(result.table, "majority")
    assert result.table.columns.tolist() == COLUMNS.split()
    assert found["score"] > 0.75
    assert found["ci_low"] < found["score"] < found["ci_high"]
    assert found["chance_high"] < 0.62
    assert found["p"] == pytest.approx(1 / 101)
    assert (found["n_windows"], found["n_participants"], found["n_classes"]) == (120, 4, 2)
    assert (majority["score"], majority["rule"]) == (0.5, "majority of training")
    assert row(result.table, "majority", "kappa")["score"] == 0
    assert "0.01" in found["rule"]
    assert "validation" in found["rule"]
    assert result.participants["participant"].tolist() == ["s00", "s05", "s10", "s15"]
    assert result.predictions["label"].isin(["left", "right"]).all()
    assert set(result.predictions["window"]) == set(np.flatnonzero(data.parts == "test"))


def test_the_scaler_and_the_fit_see_training_windows_only(rng: np.random.Generator) -> None:
    """Test windows that change, or change their labels, leave the predictions of the others as they are."""
    data = windows(rng)
    labels = rng.integers(0, 2, len(data.people))
    data.features[:, 0] += labels
    spoilt, turned = data.features.copy(), labels.copy()
    tested = np.flatnonzero(data.parts == "test")
    spoilt[tested[:40]] *= 1000
    turned[tested] = 1 - turned[tested]
    keep = {"parts": data.parts, "target": "x", "settings": QUICK}
    plain = linear_probe(data.features, labels, data.people, rng=np.random.default_rng(0), **keep)
    other = linear_probe(spoilt, turned, data.people, rng=np.random.default_rng(0), **keep)
    assert plain.penalties == other.penalties
    assert (plain.predictions["predicted"][40:] == other.predictions["predicted"][40:]).all()


def test_a_planted_subject_overlap_is_refused_and_would_have_fooled_the_score(rng: np.random.Generator) -> None:
    data = windows(rng, n_people=20, n_features=32, voice=3.0)
    group = np.where(np.isin(data.people, rng.permutation(np.unique(data.people))[:10]), "patient", "control")
    shuffled = rng.permutation(data.parts)  # of windows: every person on all sides
    given = {"target": "group", "settings": QUICK}
    with pytest.raises(LeakError, match=r"participant s\d\d is in train and in validation"):
        linear_probe(data.features, group, data.people, parts=shuffled, rng=rng, **given)
    fooled = linear_probe(data.features, group, data.people, parts=shuffled, rng=rng, within=True, **given)
    assert row(fooled.table)["score"] > 0.9  # labels of persons mean nothing here: this is identity
    assert row(fooled.table)["p"] > 0.05
    assert "within subjects" in row(fooled.table)["note"]


def test_one_overlapping_window_is_enough(rng: np.random.Generator) -> None:
    data = windows(rng)
    data.parts[np.flatnonzero(data.parts == "train")[0]] = "test"
    with pytest.raises(LeakError, match="in train and in test"):
        linear_probe(data.features, data.starts % 2, data.people, parts=data.parts, target="x", rng=rng, settings=QUICK)


def test_a_planted_label_leak_is_refused_by_the_feature_it_is_in(rng: np.random.Generator) -> None:
    data = windows(rng)
    labels = rng.integers(0, 3, len(data.people))
    given = {"parts": data.parts, "target": "x", "rng": rng, "settings": QUICK}
    strong = data.features.copy()
    strong[:, 5] += 4.0 * labels  # a feature may be good
    assert row(linear_probe(strong, labels, data.people, **given).table)["score"] > 0.7
    leaky = data.features.copy()
    leaky[:, 5] = labels + 0.01 * rng.standard_normal(len(labels))
    with pytest.raises(LeakError, match="feature 5 is the label"):
        linear_probe(leaky, labels, data.people, **given)
    with pytest.raises(LeakError, match="feature 5 is the label"):
        linear_probe(leaky, labels.astype(float), data.people, **given)
    constant = data.features.copy()
    constant[:, 5] = 0.1
    linear_probe(constant, labels, data.people, **given)


def test_shuffled_labels_of_persons_are_not_found_where_heads_differ(rng: np.random.Generator) -> None:
    """The null moves labels between persons; moved between windows, it would find too much."""
    from neuroloom.evaluation.readout import null_scores, prepare
    from neuroloom.evaluation.statistics import permutation_p

    right, wrong = [], []
    for _ in range(25):
        data = windows(rng, n_people=20, n=12, n_features=8, voice=2.0)
        chosen = [name for five in range(4) for name in rng.permutation([f"s{5 * five + k:02d}" for k in range(5)])[:2]]
        group = np.isin(data.people, chosen).astype(int)
        null, seen, n_units = null_scores(
            prepare(data.features, group, data.people, data.parts), None, settings=QUICK, rng=rng
        )
        assert n_units == 20
        right.append(permutation_p(seen["balanced_accuracy"][0], null["balanced_accuracy"]))
        naive = prepare(data.features, group, np.arange(len(group)), data.parts)  # each window its own person
        null, seen, _ = null_scores(naive, None, settings=QUICK, rng=rng)
        wrong.append(permutation_p(seen["balanced_accuracy"][0], null["balanced_accuracy"]))
    assert np.mean(np.array(right) <= 0.05) <= 0.16  # 5 % of 25, and three standard errors
    assert np.mean(np.array(wrong) <= 0.05) > 0.2


def test_identity_is_heard_where_there_is_a_voice(rng: np.random.Generator) -> None:
    loud, mute = windows(rng, n_people=10, voice=2.0), windows(rng, n_people=10, voice=0.0)
    for data, heard in ((loud, True), (mute, False)):
        given = {"recordings_W": data.recordings, "starts_W": data.starts, "rng": rng, "settings": QUICK}
        table = identity_probe(data.features, data.people, **given).table
        found = row(table)
        assert table["metric"].tolist() == ["balanced_accuracy"] * 2
        assert found["chance"] == pytest.approx(0.1, abs=0.03)
        assert (found["n_windows"], found["n_classes"]) == (90, 10)
        assert "one recording each" in found["note"]
        assert (found["score"] > 0.9 and found["p"] < 0.02) if heard else found["score"] < 0.25
        assert row(table, "majority")["score"] == pytest.approx(0.1)


def test_identity_without_enough_windows_says_so(rng: np.random.Generator) -> None:
    data = windows(rng, n_people=3, n=9)
    table = identity_probe(
        data.features, data.people, recordings_W=data.recordings, starts_W=data.starts, rng=rng, settings=QUICK
    ).table
    assert np.isnan(table["score"]).all()
    assert "s00, s01, s02" in table["note"][0]


def test_sites_are_read_off_strangers_and_not_off_known_heads(rng: np.random.Generator) -> None:
    data = windows(rng, n_people=18, n_features=8)
    site = np.array(["abc"[int(name[1:]) % 3] for name in data.people])
    found = [
        row(
            site_probe(windows(rng, n_people=18, n_features=8).features, site, data.people, rng=rng, settings=FEW).table
        )
        for _ in range(20)
    ]
    assert np.mean([nothing["score"] for nothing in found]) == pytest.approx(1 / 3, abs=0.06)  # heads differ
    assert np.mean([nothing["p"] <= 0.05 for nothing in found]) <= 0.2  # 5 % of 20, and three standard errors
    data.features[:, 0] += 6.0 * (site == "b")
    real = row(site_probe(data.features, site, data.people, rng=rng, settings=QUICK).table)
    assert real["score"] > 0.6
    assert real["p"] < 0.05
    assert real["n_participants"] == 18  # each is tested once


def test_sites_of_one_participant_are_named(rng: np.random.Generator) -> None:
    data = windows(rng, n_people=5)
    site = np.array(["b" if name == "s04" else "a" for name in data.people])
    found = row(site_probe(data.features, site, data.people, rng=rng, settings=QUICK).table)
    assert np.isnan(found["score"])
    assert "left out, with one participant: b" in found["note"]


def test_numbers_are_regressed(rng: np.random.Generator) -> None:
    data = windows(rng)
    age = 40 + 5 * data.features[:, 2] + 5 * rng.standard_normal(len(data.people))
    result = linear_probe(data.features, age, data.people, parts=data.parts, target="age", rng=rng, settings=QUICK)
    found = row(result.table, metric="r2")
    assert 0.4 < found["score"] < 0.85
    assert found["chance_high"] < 0.1
    assert found["p"] < 0.02
    assert row(result.table, "majority", "r2")["score"] <= 0
    assert (result.participants["metric"] == "mean_absolute_error").all()


def test_labels_that_allow_no_probe_give_a_row_with_the_reason(rng: np.random.Generator) -> None:
    data = windows(rng)
    labels = np.where(data.parts == "train", "a", "b")
    result = linear_probe(data.features, labels, data.people, parts=data.parts, target="x", rng=rng, settings=QUICK)
    assert result.table.columns.tolist() == COLUMNS.split()
    assert np.isnan(result.table["score"]).all()
    assert "one class in training" in result.table["note"][0]


def test_folds_are_tested_together(rng: np.random.Generator) -> None:
    data = windows(rng, n_people=10, n=10)
    person = np.array([int(name[1:]) for name in data.people])
    folds = np.stack(
        [np.select([person % 5 == k, person % 5 == (k + 1) % 5], ["test", "validation"], "train") for k in range(5)]
    )
    labels = rng.integers(0, 2, len(person))
    result = linear_probe(data.features, labels, data.people, parts=folds, target="x", rng=rng, settings=QUICK)
    assert len(result.penalties) == 5
    assert sorted(result.predictions["window"]) == list(range(100))


def test_windows_outside_of_all_parts_do_not_matter(rng: np.random.Generator) -> None:
    data = windows(rng)
    labels = rng.integers(0, 2, len(data.people)).astype(str)
    data.parts[:30], labels[:30] = "", "unlabelled"
    result = linear_probe(data.features, labels, data.people, parts=data.parts, target="x", rng=rng, settings=QUICK)
    assert row(result.table)["n_classes"] == 2


def test_bad_windows_are_counted(rng: np.random.Generator) -> None:
    data = windows(rng)
    given = {"parts": data.parts, "target": "x", "rng": rng}
    data.features[4, 2] = np.nan
    with pytest.raises(ValueError, match="features of 1 of 600 windows are not finite"):
        linear_probe(data.features, data.starts, data.people, **given)
    with pytest.raises(ValueError, match=r"\[599, 600\]"):
        linear_probe(data.features, data.starts[1:], data.people, **given)


def test_training_is_thinned(rng: np.random.Generator) -> None:
    data = windows(rng)
    labels = rng.integers(0, 2, len(data.people))
    few = ProbeSettings(n_permutations=100, n_resamples=100, max_train=50)
    result = linear_probe(data.features, labels, data.people, parts=data.parts, target="x", rng=rng, settings=few)
    assert len(result.predictions) == 120


def test_predictions_of_any_model_become_rows(rng: np.random.Generator) -> None:
    people, labels = np.repeat(["a", "b", "c"], 40), np.tile(["x", "y"], 60)
    proba = np.stack([labels == "x", labels == "y"], axis=1) + rng.random((120, 2)) * 1.5
    given = {"target": "t", "probe": "eegnet", "rng": rng, "rule": "fixed", "settings": QUICK}
    table = score_predictions(proba, labels, people, classes=np.array(["x", "y"]), **given)
    assert table.columns.tolist() == COLUMNS.split()
    assert row(table, "eegnet")["p"] < 0.02
    with pytest.raises(ValueError, match="label y is not among"):
        score_predictions(proba, labels, people, classes=np.array(["x"]), **given)
