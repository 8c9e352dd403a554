"""Scores of a scan stand next to their nulls, and what is planted is found in its group alone."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from neuroloom.synthesis.metrics import correlation
from neuroloom.synthesis.nulls import MEASURED, OTHER, PHASE, SHIFT
from neuroloom.synthesis.predicted import Predicted
from neuroloom.synthesis.scoring import LABELS, score_predictions

PARCELS = [f"p{at}" for at in range(12)]
GROUPS = {"visible": PARCELS[:6], "invisible": PARCELS[6:]}
N_VOLUMES = 75


def smooth(rng: np.random.Generator, n: int, n_volumes: int) -> np.ndarray:
    wide_NV = rng.standard_normal((n, n_volumes + 4))
    return sum(wide_NV[:, at : at + n_volumes] for at in range(5)) / np.sqrt(5)


def make_scan(rng: np.random.Generator, participant: str, task: str = "rest", n_volumes: int = N_VOLUMES) -> Predicted:
    """The first six parcels are predicted, the others are not."""
    mixing_PN = rng.standard_normal((12, 4))
    true_PV = mixing_PN @ smooth(rng, 4, n_volumes) + smooth(rng, 12, n_volumes)
    predicted_PV = smooth(rng, 12, n_volumes)
    predicted_PV[:6] = 0.7 * true_PV[:6] + 0.5 * predicted_PV[:6]
    return Predicted(
        scan=f"{participant}_{task}",
        participant=participant,
        site="north",
        task=task,
        parcels=PARCELS,
        centroid_P3=rng.uniform(-60, 60, (12, 3)),
        t_r=2.0,
        onset_V=2.0 * np.arange(n_volumes) + 1.0,
        bold_true_PV=true_PV,
        bold_pred_PV=predicted_PV,
        bold_std_PV=np.full(true_PV.shape, 1.0),
        nuisance_VM=true_PV.mean(axis=0)[:, None],
    )


@pytest.fixture(scope="module")
def scans() -> list[Predicted]:
    rng = np.random.default_rng(5)
    return [make_scan(rng, person, task) for person in "abcd" for task in ("rest", "tones")]


@pytest.fixture(scope="module")
def tables(scans: list[Predicted]) -> dict[str, pd.DataFrame]:
    ceiling = {scan.scan: np.linspace(0.5, 0.9, 12) for scan in scans}
    rng = np.random.default_rng(6)
    return score_predictions(scans, groups=GROUPS, ceiling=ceiling, n_draws=199, rng=rng)


def test_each_parcel_has_its_score_and_its_nulls(tables: dict[str, pd.DataFrame], scans: list[Predicted]) -> None:
    parcels = tables["parcels"]
    assert parcels.groupby(["scan", "target"]).size().eq(12).all()
    assert set(parcels["target"]) == {MEASURED, PHASE, SHIFT, OTHER}
    first = parcels[(parcels["scan"] == "a_rest") & (parcels["target"] == MEASURED)]
    np.testing.assert_allclose(first["r"], correlation(scans[0].bold_true_PV, scans[0].bold_pred_PV))
    np.testing.assert_allclose(first[["x", "y", "z"]], scans[0].centroid_P3)
    np.testing.assert_allclose(first["ceiling"], np.linspace(0.5, 0.9, 12))
    assert first["group"].tolist() == ["visible"] * 6 + ["invisible"] * 6
    assert (first[["n_phase", "n_shift", "n_other"]].to_numpy() == [199, 56 + 75, 3]).all()


def test_what_is_predicted_stands_out_of_its_nulls(tables: dict[str, pd.DataFrame]) -> None:
    measured = tables["parcels"].query("target == @MEASURED").set_index("group")
    assert (measured.loc["visible", ["p_phase", "p_shift", "p_effective"]] < 0.05).all(axis=None)
    assert measured.loc["visible", "p_other"].eq(0.25).mean() > 0.9  # three others allow no less
    assert (measured.loc["invisible", "p_phase"] < 0.05).mean() < 0.2
    nulls = tables["parcels"].query("target != @MEASURED")
    assert nulls.groupby("target")["r"].mean().abs().max() < 0.1
    assert nulls.query("target != @OTHER")["r_high"].between(0.1, 0.9).all()
    means = tables["parcels"].query("group == 'visible'").groupby("target")["coherence"].mean()
    assert means[MEASURED] > 0.6 > 0.45 > means[[PHASE, SHIFT, OTHER]].max()


def test_a_scan_has_its_connectivity_and_calibration_for_each_group(tables: dict[str, pd.DataFrame]) -> None:
    scans = tables["scans"]
    assert scans.groupby(["scan", "group"])["target"].agg(list).map(len).eq(5).all()
    assert set(scans["group"]) == {"all", "visible", "invisible"}
    means = scans.groupby(["target", "group"])[["r", "fc_static", "fc_dynamic", "coverage80"]].mean()
    assert means.loc[(MEASURED, "visible"), "fc_static"] > 0.8
    assert means.loc[(MEASURED, "visible"), "fc_dynamic"] > 0.7
    assert abs(means.loc[(MEASURED, "invisible"), "fc_static"]) < 0.3
    assert means.loc[[LABELS, OTHER], ["fc_static", "fc_dynamic"]].abs().to_numpy().max() < 0.3
    assert means.loc[(MEASURED, "visible"), "coverage80"] > 0.8
    p = scans.query("target == @LABELS and group == 'visible'")["p_fc_static"]
    assert (p < 0.05).mean() > 0.7
    assert scans.query("target == @PHASE")["fc_static"].isna().all()  # random phases keep connectivity


def test_the_mean_over_parcels_has_a_null_of_its_own(tables: dict[str, pd.DataFrame]) -> None:
    scans = tables["scans"].query("target == @PHASE").set_index("group")
    assert (scans.loc["visible", "p_r"] == 1 / 200).all()
    assert (scans.loc["invisible", "p_r"] > 0.05).mean() > 0.7
    one = tables["parcels"].query("target == @PHASE and group == 'invisible'").groupby("scan")["r_high"].mean()
    assert (scans.loc["invisible"].set_index("scan")["r_high"] < one).all()


def test_connectivity_is_long_and_traces_are_chosen_blindly(
    tables: dict[str, pd.DataFrame], scans: list[Predicted]
) -> None:
    connectivity = tables["connectivity"]
    assert len(connectivity) == 12 * 11
    assert connectivity[["measured", "predicted"]].abs().to_numpy().max() <= 1
    same = connectivity.merge(connectivity, left_on=["parcel", "other"], right_on=["other", "parcel"])
    np.testing.assert_allclose(same["measured_x"], same["measured_y"])
    traces = tables["traces"]
    assert list(traces["scan"].unique()) == ["a_rest", "b_rest"]
    assert list(traces["parcel"].unique()) == ["p0", "p1", "p6", "p7"]
    line = traces.query("scan == 'a_rest' and parcel == 'p6'")
    np.testing.assert_allclose(line["predicted"], scans[0].bold_pred_PV[6])
    np.testing.assert_allclose(line["time"], scans[0].onset_V)


def test_the_same_seed_gives_the_same_tables(scans: list[Predicted]) -> None:
    twice = [
        score_predictions(scans[:3], groups={}, ceiling=None, n_draws=19, rng=np.random.default_rng(1))
        for _ in range(2)
    ]
    for kind, table in twice[0].items():
        pd.testing.assert_frame_equal(table, twice[1][kind])
    assert twice[0]["parcels"]["ceiling"].isna().all()
    assert set(twice[0]["scans"]["group"]) == {"all"}


def test_a_constant_model_has_errors_and_no_correlations(scans: list[Predicted], rng: np.random.Generator) -> None:
    constant = [
        replace(scan, bold_pred_PV=np.zeros((12, N_VOLUMES)), bold_std_PV=np.full((12, N_VOLUMES), np.nan))
        for scan in scans[:4]
    ]
    found = score_predictions(constant, groups=GROUPS, ceiling=None, n_draws=19, rng=rng)
    measured = found["parcels"].query("target == @MEASURED")
    assert measured[["r", "r_partial", "coherence", "p_phase", "p_shift", "p_other"]].isna().all(axis=None)
    assert (measured["mse"] > 0).all()
    assert (measured["r2"] <= 0).all()
    assert found["scans"][["r", "fc_static", "fc_dynamic", "coverage80", "nll"]].isna().all(axis=None)


def test_a_parcel_without_voxels_stays_unknown(scans: list[Predicted], rng: np.random.Generator) -> None:
    true_PV = scans[0].bold_true_PV.copy()
    true_PV[3] = np.nan
    found = score_predictions(
        [replace(scans[0], bold_true_PV=true_PV), *scans[1:4]], groups=GROUPS, ceiling=None, n_draws=19, rng=rng
    )
    parcels = found["parcels"].query("scan == 'a_rest'").set_index("parcel")
    assert parcels.loc["p3", ["r", "mse", "r2"]].query("index == 'p3'").iloc[0].isna().all()
    assert parcels.query("target == @MEASURED").drop("p3")["r"].notna().all()
    by_scan = found["scans"].query("scan == 'a_rest' and target == @MEASURED")
    assert by_scan.set_index("group").loc["all", ["r", "fc_static", "coverage80"]].notna().all()
    # b and a did the same task: what a lacks is no null of b's parcel
    others = found["parcels"].query("scan == 'b_rest' and target == @OTHER and parcel == 'p3'")
    assert others["r"].isna().all()


def test_what_is_too_short_is_said(rng: np.random.Generator) -> None:
    short = [make_scan(rng, person, n_volumes=15) for person in "ab"]
    found = score_predictions(short, groups={}, ceiling=None, n_draws=19, rng=rng)
    notes = found["scans"].query("scan == 'a_rest'").set_index("target")["note"]
    assert "15 volumes are too few" in notes[PHASE]
    assert "15 volumes are too few" in notes[SHIFT]
    assert "nobody else" in notes[OTHER]
    assert found["parcels"].query("target == @MEASURED")["r"].notna().all()
    assert found["scans"]["fc_dynamic"].isna().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": {"far": ["p99"]}}, r"group 'far' .* \['p99'\]"),
        ({"groups": {"all": ["p1"]}}, "group 'all'"),
        ({"ceiling": {}}, "a_rest: no ceiling of 12 parcels"),
        ({"scans": []}, "no scan to score"),
    ],
)
def test_what_does_not_fit_is_refused(
    scans: list[Predicted], rng: np.random.Generator, change: dict, message: str
) -> None:
    given = {"scans": scans, "groups": GROUPS, "ceiling": None} | change
    with pytest.raises(ValueError, match=message):
        score_predictions(given.pop("scans"), n_draws=9, rng=rng, **given)


def test_other_atlases_and_repeated_scans_are_refused(scans: list[Predicted], rng: np.random.Generator) -> None:
    other = replace(scans[1], parcels=[*PARCELS[:-1], "extra"])
    with pytest.raises(ValueError, match="a_tones: other parcels than a_rest"):
        score_predictions([scans[0], other], groups={}, ceiling=None, n_draws=9, rng=rng)
    with pytest.raises(ValueError, match="scored twice"):
        score_predictions([scans[0], scans[0]], groups={}, ceiling=None, n_draws=9, rng=rng)


def test_a_prediction_of_another_shape_is_refused(scans: list[Predicted]) -> None:
    with pytest.raises(ValueError, match=r"a_rest: bold_pred_PV is \(12, 74\)"):
        replace(scans[0], bold_pred_PV=scans[0].bold_pred_PV[:, 1:])
    with pytest.raises(ValueError, match="one row for each volume"):
        replace(scans[0], nuisance_VM=np.zeros((3, 1)))
