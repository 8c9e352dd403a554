"""From a person's EEG connectome to the same person's fMRI connectome, across people, next to what needs no EEG.

All people have much the same fMRI connectome, so the mean of other people is a strong prediction, and a high
correlation over edges says nothing about EEG. What counts is how a person differs from that mean (target `deviation`):
the mean has no answer to it, and EEG of another person is its null. Models learn from some people and predict others;
a penalty is chosen among the training people, by their leave-one-out errors. Data: Wirsich et al. 2024, Network
Neuroscience, doi 10.1162/netn_a_00362.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neuroloom.config import ConfigError
from neuroloom.evaluation.statistics import bootstrap_interval, draw_participants, fdr, permutation_p
from neuroloom.records import Array

N_FOLDS = 5
N_SPLITS = 3  # of the people into folds; scores are means over them
N_RESAMPLES = 1000
MIN_PEOPLE = 6
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # times the mean square of the singular values
POOLED = "all"
COLUMNS = ["model", "kind", "target", "metric", "group", "score", "ci_low", "ci_high", "n_participants", "n_draws"]
SCORES = [("fc", "r"), ("fc", "gain"), ("deviation", "r"), ("deviation", "r2"), ("deviation", "identification")]
OF_EEG = ("eeg_pattern", "eeg_bands", "eeg_edges", "eeg_components")
OF_FACTS = ("motion", "age_sex_motion")
OF_PLACES = ("eeg_pattern", "eeg_bands", "eeg_edges")

Scores = dict[tuple[str, str], Array]


@dataclass(frozen=True)
class ConnectomeSet:
    """EEG and fMRI connectomes of the people of one group, recorded at the same time.

    Attributes
    ----------
    eeg_SBE : array
        Connectivity of each subject, band and edge; no unit.
    fmri_SE : array
        Correlation of each subject and edge.
    subjects, sex : list of str
    age_S, motion_S : array
        Years; mean framewise displacement, mm.
    group : str
    bands : list of str
    position_N3 : array
        Regions, mm in MNI space; an edge is a pair of them, row by row of the upper triangle.
    network_N : int array
        Number of the resting-state network of each region.
    """

    eeg_SBE: Array
    fmri_SE: Array
    subjects: list[str]
    group: str
    age_S: Array
    sex: list[str]
    motion_S: Array
    bands: list[str]
    position_N3: Array
    network_N: Array


@dataclass(frozen=True)
class _People:
    """What the models read, of the people of all groups that are predicted together.

    `eeg_SBE` is standardised within person and band, `truth_SE` is fMRI, `facts_SF` age, sex and motion, `shape_EF`
    the distance of each edge's regions with its powers and whether they are of one network.
    """

    eeg_SBE: Array
    truth_SE: Array
    facts_SF: Array
    shape_EF: Array
    group_S: Array


def predict_connectomes(sets: Sequence[ConnectomeSet], *, n_draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """Predict each person's fMRI connectome from other people and the person's EEG, for each group and all together.

    Parameters
    ----------
    sets : sequence of ConnectomeSet
        Groups, with the same regions and bands.
    n_draws : int
        Draws of the null `other_person`; shuffled edges, which no p rests on, get a fifth of them.
    rng : np.random.Generator

    Returns
    -------
    table : DataFrame
        model; kind (`baseline`, `model`, or the null `other_person`, `shuffled_edges`); target (`fc`, or `deviation`
        from the mean of the training people); metric; group (and `all`); score with its 95 % interval (bootstrap over
        people; of a null, its draws); n_participants; n_draws; p against `other_person` and q (false discoveries in
        the table).

        Metrics: `r` over edges, `gain` of that r over the training mean's, `r2` (1 minus squared error over that of
        the training mean), `identification` (how often a prediction is closer to its own person than to another one
        of the same test fold; chance 0.5). A metric that a model does not have (the mean predicts no deviation) is
        NaN.

    Raises
    ------
    ConfigError
        If the sets differ in regions or bands, or a group has too few people.

    Notes
    -----
    People who are predicted share their training people, which the bootstrap does not know: the null is wider than the
    interval, and p is what counts. The null gives each person the EEG (or the facts) of another one of the group, in
    training and test, and fits anew. Shuffled edges keep who is who, so they say whether places matter; components do
    not look at places, and have no such null.
    """
    _check(sets, n_draws)
    parts = [(one.group, [one]) for one in sets] + ([(POOLED, list(sets))] if len(sets) > 1 else [])
    rows = [row for group, chosen in parts for row in _rows_of(chosen, group, n_draws=n_draws, rng=rng)]
    table = pd.DataFrame(rows, columns=[*COLUMNS, "p"])
    return table.assign(q=fdr(table["p"].to_numpy(float)))


def _check(sets: Sequence[ConnectomeSet], n_draws: int) -> None:
    if not sets or n_draws < 1:
        raise ConfigError(f"predict_connectomes: {len(sets)} groups and {n_draws} draws; give at least one of each")
    for one in sets:
        if one.bands != sets[0].bands or not np.array_equal(one.position_N3, sets[0].position_N3):
            raise ConfigError(f"connectomes of {one.group} and {sets[0].group} differ in bands or regions")
        if len(one.subjects) < MIN_PEOPLE:
            found = f"connectomes of {one.group}: {len(one.subjects)} people, fewer than {MIN_PEOPLE}"
            raise ConfigError(f"{found}; leave the group out")


def _rows_of(
    sets: Sequence[ConnectomeSet], group: str, *, n_draws: int, rng: np.random.Generator
) -> Iterator[tuple[Any, ...]]:
    """All rows of one group."""
    people = _gather(sets)
    splits = [_prepare(people, rng) for _ in range(N_SPLITS)]
    truth_SE = people.truth_SE
    moved = [truth_SE[_moved(people.group_S, rng)] for _ in range(n_draws)]
    shuffled = [truth_SE[:, rng.permutation(truth_SE.shape[1])] for _ in range(-(-n_draws // 5))]
    found = _score(truth_SE, splits, list(MODELS))
    drawn = {
        "other_person": [_score(one_SE, splits, [*OF_FACTS, *OF_EEG]) for one_SE in moved],
        "shuffled_edges": [_score(one_SE, splits, OF_PLACES) for one_SE in shuffled],
    }
    for model, scores in found.items():
        nulls = {kind: [draw[model] for draw in draws if model in draw] for kind, draws in drawn.items()}
        yield from _table_rows(model, group, scores, nulls, rng)


def _table_rows(
    model: str, group: str, found: Scores, nulls: Mapping[str, list[Scores]], rng: np.random.Generator
) -> Iterator[tuple[Any, ...]]:
    """One model's rows, and those of its nulls."""
    for key in SCORES:
        value_S = found[key]
        null_R = {kind: np.array([scores[key].mean() for scores in draws]) for kind, draws in nulls.items() if draws}
        resampled_R = draw_participants(len(value_S), n=N_RESAMPLES, rng=rng) @ value_S / len(value_S)
        score = float(value_S.mean())
        limits = bootstrap_interval(resampled_R, score=score, n_participants=len(value_S))
        p = permutation_p(score, null_R.get("other_person", np.zeros(0)))
        kind = "model" if model in OF_EEG else "baseline"
        yield (model, kind, *key, group, score, *limits, len(value_S), 0, p)
        for name, draws_R in null_R.items():
            spread = np.quantile(draws_R, (0.025, 0.975)).tolist()
            yield (model, name, *key, group, float(draws_R.mean()), *spread, len(value_S), len(draws_R), np.nan)


def _gather(sets: Sequence[ConnectomeSet]) -> _People:
    eeg_SBE = np.concatenate([one.eeg_SBE for one in sets]).astype(np.float32)
    # each person's own mean and spread: electrodes and noise set them, and no other person is needed
    eeg_SBE = (eeg_SBE - eeg_SBE.mean(axis=2, keepdims=True)) / eeg_SBE.std(axis=2, keepdims=True)
    facts = [(one.age_S, np.array(one.sex) == "M", one.motion_S) for one in sets]
    first_E, second_E = np.triu_indices(len(sets[0].position_N3), 1)
    distance_E = np.linalg.norm(sets[0].position_N3[first_E] - sets[0].position_N3[second_E], axis=1) / 100
    same_E = sets[0].network_N[first_E] == sets[0].network_N[second_E]
    return _People(
        eeg_SBE=eeg_SBE,
        truth_SE=np.concatenate([one.fmri_SE for one in sets]).astype(np.float32),
        facts_SF=np.concatenate([np.column_stack(fact) for fact in facts]).astype(np.float32),
        shape_EF=np.column_stack([distance_E, distance_E**2, distance_E**3, same_E]),
        group_S=np.repeat([one.group for one in sets], [len(one.subjects) for one in sets]),
    )


def _folds(group_S: Array, rng: np.random.Generator) -> list[tuple[Array, Array]]:
    """Training and test people of each fold; each group is spread over all folds."""
    n_folds = min(N_FOLDS, min(np.unique(group_S, return_counts=True)[1]) // 2)
    fold_S = np.zeros(len(group_S), int)
    start = 0
    for group in np.unique(group_S):
        at_S = rng.permutation(np.flatnonzero(group_S == group))
        fold_S[at_S] = (start + np.arange(len(at_S))) % n_folds
        start += len(at_S)
    return [(np.flatnonzero(fold_S != fold), np.flatnonzero(fold_S == fold)) for fold in range(n_folds)]


def _moved(group_S: Array, rng: np.random.Generator) -> Array:
    """Whose EEG each person gets, in a draw: people change places within their group."""
    moved_S = np.arange(len(group_S))
    for group in np.unique(group_S):
        at_S = np.flatnonzero(group_S == group)
        moved_S[at_S] = rng.permutation(at_S)
    return moved_S


# fMRI of all people -> prediction of each, by models that never saw it. What depends on EEG and folds alone is worked
# out once, so that a draw of a null, which moves fMRI instead of EEG, is cheap.
Predictor = Callable[[Array], Array]
Fold = tuple[Array, Array]


def _by_fold(folds: Sequence[Fold], predict: Callable[[int, Array], Array]) -> Predictor:
    """A predictor that asks for each fold: number and fMRI of the training people -> prediction of the test people."""

    def predictor(truth_SE: Array) -> Array:
        predicted_SE = np.empty_like(truth_SE)
        for number, (train_N, test_N) in enumerate(folds):
            predicted_SE[test_N] = predict(number, truth_SE[train_N])
        return predicted_SE

    return predictor


def _distance(people: _People, folds: Sequence[Fold]) -> Predictor:
    """The mean as a cubic of the distance between regions, and whether they are of one network."""
    design_EF = np.column_stack([np.ones(len(people.shape_EF)), people.shape_EF])
    inverse_FE = np.linalg.pinv(design_EF)
    return _by_fold(folds, lambda number, train_NE: design_EF @ (inverse_FE @ train_NE.mean(axis=0)))


def _shared_weights(eeg_SBE: Array, folds: Sequence[Fold], *, of_deviations: bool) -> Predictor:
    """Weights of the bands that are the same for all edges: of what they are, or of what differs from the mean."""
    parts = [_band_design(eeg_SBE, *fold, of_deviations=of_deviations) for fold in folds]

    def predict(number: int, train_NE: Array) -> Array:
        given_BN, test_BN, inverse_BB = parts[number]
        centre_E = train_NE.mean(axis=0) if of_deviations else np.full(train_NE.shape[1], train_NE.mean())
        weights_B = inverse_BB @ (given_BN @ (train_NE - centre_E).ravel())
        return np.asarray(centre_E + (weights_B @ test_BN).reshape(-1, len(centre_E)))

    return _by_fold(folds, predict)


def _band_design(eeg_SBE: Array, train_N: Array, test_N: Array, *, of_deviations: bool) -> tuple[Array, Array, Array]:
    """Bands of all edges of the training and of the test people (B, people x edges), and the inverse Gram matrix."""
    centre_BE = eeg_SBE[train_N].mean(axis=0) if of_deviations else 0.0
    given_BN, test_BN = (
        np.moveaxis(eeg_SBE[part_N] - centre_BE, 1, 0).reshape(eeg_SBE.shape[1], -1) for part_N in (train_N, test_N)
    )
    return given_BN, test_BN, np.linalg.pinv(given_BN @ given_BN.T)


@dataclass(frozen=True)
class _Design:
    """Features of a fold as components, for each edge (G edges) or the same for all (G is 1).

    `left_NKG` are the training people, `test_NKG` the test people; a penalty leaves `kept_KG` of each component, and
    `trust_NG` is 1 minus the leverage of each training person.
    """

    left_NKG: Array
    test_NKG: Array
    penalties: list[tuple[Array, Array]]


def _ridge(features_GSF: Array, folds: Sequence[Fold]) -> Predictor:
    """Ridge with an intercept; one penalty for all edges, by PRESS of the training people (Allen 1974)."""
    designs = [_design(features_GSF, *fold) for fold in folds]

    def predict(number: int, train_NE: Array) -> Array:
        design, mean_E = designs[number], train_NE.mean(axis=0)
        centred_NE = train_NE - mean_E
        part_KE = _times(design.left_NKG.swapaxes(0, 1), centred_NE)
        kept_KG, _ = min(design.penalties, key=_left_out_error(design.left_NKG, part_KE, centred_NE))
        return np.asarray(mean_E + _times(design.test_NKG, kept_KG * part_KE))

    return _by_fold(folds, predict)


def _left_out_error(left_NKG: Array, part_KE: Array, centred_NE: Array) -> Callable[[tuple[Array, Array]], float]:
    """Penalty -> squared leave-one-out errors of all training people and edges."""
    gram_NN = centred_NE @ centred_NE.T

    def error(penalty: tuple[Array, Array]) -> float:
        kept_KG, trust_NG = penalty
        if left_NKG.shape[2] > 1:
            return float((((centred_NE - _times(left_NKG, kept_KG * part_KE)) / trust_NG) ** 2).sum())
        # the same for all edges: products of people are enough
        miss_NN = (np.eye(len(gram_NN)) - (left_NKG[:, :, 0] * kept_KG[:, 0]) @ left_NKG[:, :, 0].T) / trust_NG
        return float(((miss_NN @ gram_NN) * miss_NN).sum())

    return error


def _design(features_GSF: Array, train_N: Array, test_N: Array) -> _Design:
    mean_G1F = features_GSF[:, train_N].mean(axis=1, keepdims=True)
    sd_G1F = features_GSF[:, train_N].std(axis=1, keepdims=True)
    scaled_GSF = (features_GSF - mean_G1F) / np.where(sd_G1F > 0, sd_G1F, 1.0)
    left_GNK, singular_GK, right_GKF = np.linalg.svd(scaled_GSF[:, train_N], full_matrices=False)
    known_GK = singular_GK > 1e-5 * singular_GK.max(axis=1, keepdims=True)  # centring leaves one person too many
    inverse_GK = np.divide(1.0, singular_GK, out=np.zeros_like(singular_GK), where=known_GK)
    test_GNK = scaled_GSF[:, test_N] @ right_GKF.swapaxes(1, 2) * inverse_GK[:, None]
    left_NKG = np.ascontiguousarray(np.moveaxis(left_GNK * known_GK[:, None], 0, 2))
    square_KG = (singular_GK * known_GK).T ** 2
    kept = [square_KG / (square_KG + penalty * square_KG.mean()) for penalty in PENALTIES]
    trust = [1 - 1 / len(train_N) - np.einsum("nkg,kg->ng", left_NKG**2, kept_KG) for kept_KG in kept]
    return _Design(left_NKG, np.ascontiguousarray(np.moveaxis(test_GNK, 0, 2)), list(zip(kept, trust, strict=True)))


def _times(weights_NKG: Array, values_KE: Array) -> Array:
    """Sum over K, with weights of each edge or the same for all."""
    if weights_NKG.shape[2] == 1:
        return np.asarray(weights_NKG[:, :, 0] @ values_KE)
    return np.einsum("nke,ke->ne", weights_NKG, values_KE)


MODELS: dict[str, Callable[[_People, Sequence[Fold]], Predictor]] = {
    "training_mean": lambda people, folds: _by_fold(folds, lambda number, train_NE: train_NE.mean(axis=0)),
    "distance": _distance,
    "motion": lambda people, folds: _ridge(people.facts_SF[None, :, 2:], folds),
    "age_sex_motion": lambda people, folds: _ridge(people.facts_SF[None], folds),
    # EEG alone, without a mean of fMRI for each edge
    "eeg_pattern": lambda people, folds: _shared_weights(people.eeg_SBE, folds, of_deviations=False),
    # the training mean and: bands of the same edge, with weights for all edges or of each edge's own; all edges
    "eeg_bands": lambda people, folds: _shared_weights(people.eeg_SBE, folds, of_deviations=True),
    "eeg_edges": lambda people, folds: _ridge(np.moveaxis(people.eeg_SBE, 2, 0), folds),
    "eeg_components": lambda people, folds: _ridge(people.eeg_SBE.reshape(1, len(people.eeg_SBE), -1), folds),
}


Split = tuple[list[Fold], dict[str, Predictor]]


def _prepare(people: _People, rng: np.random.Generator) -> Split:
    """People in folds, and the models that were prepared for them."""
    folds = _folds(people.group_S, rng)
    return folds, {model: prepare(people, folds) for model, prepare in MODELS.items()}


def _score(truth_SE: Array, splits: Sequence[Split], models: Sequence[str]) -> dict[str, Scores]:
    """Every score of each person (S,) by each model, means over the splits."""
    found = [_score_split(truth_SE, split, models) for split in splits]
    return {model: {key: np.mean([one[model][key] for one in found], axis=0) for key in SCORES} for model in models}


def _score_split(truth_SE: Array, split: Split, models: Sequence[str]) -> dict[str, Scores]:
    folds, predictors = split
    mean_SE = predictors["training_mean"](truth_SE)
    guesses = {model: predictors[model](truth_SE) - mean_SE for model in models}
    return {model: _score_model(guess_SE, truth_SE - mean_SE, mean_SE, folds) for model, guess_SE in guesses.items()}


def _score_model(guess_SE: Array, difference_SE: Array, mean_SE: Array, folds: Sequence[Fold]) -> Scores:
    """Scores of each person, from products of the rows of: guessed and true deviation, and the mean they are from."""
    shift_S1, offset_S1 = guess_SE.mean(axis=1, keepdims=True), difference_SE.mean(axis=1, keepdims=True)
    g_SE, d_SE, m_SE = guess_SE - shift_S1, difference_SE - offset_S1, mean_SE - mean_SE.mean(axis=1, keepdims=True)
    gg_S, gd_S, gm_S = _dot(g_SE, g_SE), _dot(g_SE, d_SE), _dot(g_SE, m_SE)
    dd_S, md_S, mm_S = _dot(d_SE, d_SE), _dot(m_SE, d_SE), _dot(m_SE, m_SE)
    size_S = np.sqrt(mm_S + 2 * md_S + dd_S)  # of the truth
    r_S = (mm_S + md_S + gm_S + gd_S) / (np.sqrt(mm_S + 2 * gm_S + gg_S) * size_S)
    shifts_S = d_SE.shape[1] * np.column_stack([offset_S1, offset_S1 - shift_S1]).astype(float).T ** 2
    says_S = gg_S > 0  # something about the person
    deviation_S = np.divide(gd_S, np.sqrt(gg_S * dd_S), out=np.full_like(gg_S, np.nan), where=says_S)
    return {
        ("fc", "r"): r_S,
        ("fc", "gain"): r_S - (mm_S + md_S) / (np.sqrt(mm_S) * size_S),
        ("deviation", "r"): deviation_S,
        ("deviation", "r2"): 1 - (dd_S - 2 * gd_S + gg_S + shifts_S[1]) / (dd_S + shifts_S[0]),
        ("deviation", "identification"): np.where(says_S, _identification(g_SE, d_SE, dd_S, folds), np.nan),
    }


def _identification(g_SE: Array, d_SE: Array, dd_S: Array, folds: Sequence[Fold]) -> Array:
    """Share of the other test people of the fold that a person's prediction is less like than like the person.

    Only people that no model of the fold has seen are compared: a prediction is made of training people, and would be
    more like them than like anybody new.
    """
    rate_S = np.empty(len(g_SE))
    for _, test_N in folds:
        r_NN = g_SE[test_N] @ d_SE[test_N].T / np.sqrt(dd_S[test_N])  # but for the size of the guess, which is a row's
        own_N1 = np.diagonal(r_NN)[:, None]
        won_NN = (own_N1 > r_NN) + 0.5 * (own_N1 == r_NN)
        rate_S[test_N] = (won_NN.sum(axis=1) - 0.5) / (len(test_N) - 1)
    return rate_S


def _dot(a_SE: Array, b_SE: Array) -> Array:
    return np.einsum("se,se->s", a_SE, b_SE).astype(float)
