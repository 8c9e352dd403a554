"""Connectivity equals its formulas, and agreement means something only next to shuffled labels and other people."""

import numpy as np
import pytest

from neuroloom.evaluation.statistics import permutation_p
from neuroloom.synthesis.connectivity import (
    agreement,
    dynamic_fc,
    fluctuation,
    label_null,
    other_null,
    static_fc,
    window_of,
)


def mixed(rng: np.random.Generator, mixing_PN: np.ndarray, n_volumes: int = 200) -> np.ndarray:
    """Parcels that share sources, with noise of their own."""
    sources_NV = rng.standard_normal((mixing_PN.shape[1], n_volumes))
    return mixing_PN @ sources_NV + 0.5 * rng.standard_normal((len(mixing_PN), n_volumes))


def test_static_connectivity_is_fisher_z_of_the_correlations(rng: np.random.Generator) -> None:
    bold_PV = mixed(rng, rng.standard_normal((6, 3)))
    z_PP = static_fc(bold_PV)
    apart = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(z_PP[apart], np.arctanh(np.corrcoef(bold_PV)[apart]), rtol=1e-10)
    assert np.isnan(np.diag(z_PP)).all()


def test_windows_slide_and_each_is_static_connectivity(rng: np.random.Generator) -> None:
    bold_PV = mixed(rng, rng.standard_normal((6, 3)), 50)
    z_WPP = dynamic_fc(bold_PV, width=20, step=10)
    assert len(z_WPP) == 4
    for at, z_PP in enumerate(z_WPP):
        np.testing.assert_allclose(z_PP, static_fc(bold_PV[:, 10 * at : 10 * at + 20]))
    assert dynamic_fc(bold_PV, width=51, step=10).shape == (0, 6, 6)
    assert (window_of(40.0, t_r=2.0), window_of(10.0, t_r=2.0)) == (20, 10)


def test_fluctuations_are_what_static_connectivity_is_not(rng: np.random.Generator) -> None:
    z_WPP = dynamic_fc(mixed(rng, rng.standard_normal((6, 3))), width=20, step=10)
    np.testing.assert_allclose(np.nanmean(fluctuation(z_WPP)[:, 0, 1:], axis=0), 0.0, atol=1e-12)
    assert not len(fluctuation(z_WPP[:1]))


def test_agreement_is_the_correlation_over_the_upper_triangle(rng: np.random.Generator) -> None:
    one_WPP, other_WPP = rng.standard_normal((2, 3, 8, 8))
    at = np.triu_indices(8, k=1)
    expected = [
        np.corrcoef(one_PP[at], other_PP[at])[0, 1] for one_PP, other_PP in zip(one_WPP, other_WPP, strict=True)
    ]
    assert agreement(one_WPP, other_WPP) == pytest.approx(np.mean(expected))


def test_parcels_that_are_constant_or_unknown_are_left_out(rng: np.random.Generator) -> None:
    mixing_PN = rng.standard_normal((9, 3))
    true_PV, said_PV = mixed(rng, mixing_PN), mixed(rng, mixing_PN)
    expected = agreement(static_fc(true_PV[2:])[None], static_fc(said_PV[2:])[None])
    true_PV[0], said_PV[1] = np.nan, 1.0
    pair = static_fc(true_PV)[None], static_fc(said_PV)[None]
    assert agreement(*pair) == pytest.approx(expected)
    assert len(label_null(*pair, n=7, rng=rng)) == 7
    said_PV[:5] = 1.0  # four parcels are left
    assert np.isnan(agreement(pair[0], static_fc(said_PV)[None]))
    assert not len(label_null(pair[0], static_fc(said_PV)[None], n=7, rng=rng))
    assert np.isnan(agreement(pair[0][:0], pair[1][:0]))


def test_the_same_prediction_everywhere_has_no_agreement(rng: np.random.Generator) -> None:
    true_PV = mixed(rng, rng.standard_normal((9, 3)))
    assert np.isnan(agreement(static_fc(true_PV)[None], static_fc(np.tile(true_PV[0], (9, 1)))[None]))


def test_shuffled_labels_are_those_of_shuffled_parcels(rng: np.random.Generator) -> None:
    true_WPP, said_WPP = (dynamic_fc(mixed(rng, rng.standard_normal((7, 3))), width=40, step=40) for _ in range(2))
    found_R = label_null(true_WPP, said_WPP, n=20, rng=np.random.default_rng(3))
    again = np.random.default_rng(3)
    orders = [again.permutation(7) for _ in range(20)]
    expected_R = [agreement(true_WPP[:, order][:, :, order], said_WPP) for order in orders]
    np.testing.assert_allclose(found_R, expected_R, atol=1e-12)


def shuffled_p(rng: np.random.Generator, true_PN: np.ndarray, said_PN: np.ndarray) -> float:
    true_WPP, said_WPP = (static_fc(mixed(rng, mixing_PN, 60))[None] for mixing_PN in (true_PN, said_PN))
    return permutation_p(agreement(true_WPP, said_WPP), label_null(true_WPP, said_WPP, n=99, rng=rng))


def test_shuffled_labels_find_a_relation_and_do_not_make_one_up(rng: np.random.Generator) -> None:
    mixings = rng.standard_normal((1000, 2, 12, 4))
    unrelated = [shuffled_p(rng, *pair) for pair in mixings]
    related = [shuffled_p(rng, one_PN, one_PN) for one_PN, _ in mixings[:60]]
    assert (np.array(related) <= 0.05).mean() > 0.95
    for level in (0.05, 0.5):
        error = 3 * np.sqrt(level * (1 - level) / len(unrelated))
        assert (np.array(unrelated) <= level).mean() == pytest.approx(level, abs=error)


def test_people_who_are_alike_agree_with_a_model_of_the_mean_brain(rng: np.random.Generator) -> None:
    mean_PN = rng.standard_normal((12, 4))
    alike = [static_fc(mixed(rng, mean_PN))[None] for _ in range(6)]
    said_WPP = static_fc(mixed(rng, mean_PN))[None]
    null_R = other_null(alike[1:], said_WPP)
    assert len(null_R) == 5
    assert null_R.min() > 0.8
    assert permutation_p(agreement(alike[0], said_WPP), null_R) > 0.1
    np.testing.assert_allclose(null_R[0], agreement(alike[1], said_WPP))


def test_windows_of_other_people_are_cut_and_unknown_ones_left_out(rng: np.random.Generator) -> None:
    mixing_PN = rng.standard_normal((8, 3))
    long_WPP = dynamic_fc(mixed(rng, mixing_PN), width=20, step=20)
    said_WPP = dynamic_fc(mixed(rng, mixing_PN), width=20, step=20)
    null_R = other_null([long_WPP[:4], long_WPP, long_WPP[:0]], said_WPP[:6])
    expected = [agreement(long_WPP[:4], said_WPP[:4]), agreement(long_WPP[:6], said_WPP[:6])]
    np.testing.assert_allclose(null_R, expected)
