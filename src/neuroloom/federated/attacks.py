"""What a trained model gives away: who was in training (membership), and who a person is (identity), in one table.

An attack that fails shows that this attack failed, not that nothing can be found; only noise that is accounted for is a
bound. Membership asks about whole people, so that people, not windows, are resampled and permuted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd

from neuroloom.evaluation.probes import identity_probe
from neuroloom.evaluation.readout import DEFAULT_SETTINGS, ProbeSettings
from neuroloom.evaluation.statistics import CELLS, bootstrap_interval, draw_participants, permutation_p
from neuroloom.records import Array

COLUMNS = ("attack", "level", "metric", "score", "ci_low", "ci_high", "chance", "p", "n_members", "n_others", "note")
FALSE_ALARMS = 0.1  # share of the others that may be taken for members
METRICS = ("auroc", "tpr_at_fpr_10")
NAN = float("nan")


@dataclass(frozen=True)
class _Guesses:
    """How much each window, or each person, looks like a member; `person_N` is an index to `member_K`."""

    score_N: Array
    person_N: Array
    member_K: Array

    def success(self, counts_RK: Array, member_RK: Array) -> dict[str, Array]:
        """Metrics (R,) for people drawn so many times, of whom some are called members."""
        at_once = max(CELLS // len(self.score_N), 1)
        order_N = np.argsort(-self.score_N, kind="stable")
        # windows of one score are taken for members together
        firsts = np.flatnonzero(np.r_[True, np.diff(self.score_N[order_N]) != 0])
        person_N = self.person_N[order_N]
        parts = []
        for at in range(0, len(counts_RK), at_once):
            weight_RN = counts_RK[at : at + at_once, person_N]
            called_RN = weight_RN * member_RK[at : at + at_once, person_N]
            hits_RN, alarms_RN = (np.add.reduceat(each, firsts, axis=1) for each in (called_RN, weight_RN - called_RN))
            parts.append(_ranked(hits_RN, alarms_RN))
        return {name: np.concatenate(each) for name, each in zip(METRICS, zip(*parts, strict=True), strict=True)}


def _ranked(hits_RN: Array, alarms_RN: Array) -> tuple[Array, Array]:
    """AUROC, and the share of members found where at most so many others are, from weights by falling score."""
    found_RN, false_RN = hits_RN.cumsum(axis=1), alarms_RN.cumsum(axis=1)
    members_R, others_R = found_RN[:, -1], false_RN[:, -1]
    auroc_R = (alarms_RN * (found_RN - hits_RN / 2)).sum(axis=1) / (members_R * others_R)
    allowed_RN = false_RN <= FALSE_ALARMS * others_R[:, None] + 1e-9
    return auroc_R, (found_RN * allowed_RN).max(axis=1) / members_R


def membership_inference(
    loss_W: Array,
    member_W: Array,
    participants_W: Array,
    *,
    rng: np.random.Generator,
    reference_W: Array | None = None,
    n_boot: int = 1000,
    n_permutations: int = 1000,
) -> pd.DataFrame:
    """Whether a low loss tells who was in training.

    `loss` takes windows of a low loss for members (Yeom et al. 2018, arXiv 1709.01604). `calibrated_loss` takes those
    whose loss fell most from that of a model that saw nobody, such as the one training started from, because some
    people are easy for any model (Watson et al. 2021, arXiv 2111.08440). Both at the level of windows and, with the
    mean loss of a person, of subjects. Members and others have to come from the same sites and recordings of the same
    kind: else the attack tells these.

    Parameters
    ----------
    loss_W : array
        Loss of the attacked model for each window.
    member_W : bool array
        Windows of people who were in training; a whole person is or is not.
    participants_W : array
    rng : np.random.Generator
    reference_W : array, optional
        Loss of the model that saw nobody; without it, there is no calibrated attack.
    n_boot : int
        Resamples of people, of members and of others apart, for the 95 % interval. Where they all agree, because all
        members come before all others, they know of no interval: it is NaN with a note, and p is what counts.
    n_permutations : int
        Memberships dealt to people; all there are, if they are not more than that, and p is exact then.

    Returns
    -------
    table : DataFrame
        `auroc` (0.5 is nothing) and `tpr_at_fpr_10`, the share of members that is found where at most 10 % of the
        others are taken for one, with `chance`, the mean over permuted memberships. `n_members` and `n_others` are
        people at both levels. NaN with a note where there are fewer than two of either.

    Raises
    ------
    ValueError
        If lengths differ, a loss is not finite, or a person is both.
    """
    losses = {"loss": loss_W} | ({} if reference_W is None else {"reference": reference_W})
    losses = {name: np.asarray(each, np.float64) for name, each in losses.items()}
    member_W = np.asarray(member_W, bool)
    _check(losses, member_W, participants_W)
    people, person_W = np.unique(np.asarray(participants_W).astype(str), return_inverse=True)
    member_K = _of_people(member_W, person_W, people)
    guesses_W = {"loss": -losses["loss"]}
    if "reference" in losses:
        guesses_W["calibrated_loss"] = losses["reference"] - losses["loss"]
    rows = []
    for attack, score_W in guesses_W.items():
        mean_K = np.bincount(person_W, score_W) / np.bincount(person_W)
        levels = {"window": (score_W, person_W), "subject": (mean_K, np.arange(len(people)))}
        for level, (score_N, person_N) in levels.items():
            judged = _judged(_Guesses(score_N, person_N, member_K), rng, n_boot, n_permutations)
            rows += [{"attack": attack, "level": level, **row} for row in judged]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _check(losses: Mapping[str, Array], member_W: Array, participants_W: Array) -> None:
    lengths = {len(each) for each in (*losses.values(), member_W, participants_W)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"losses, members and participants have {sorted(lengths)} windows; give one of each, and some")
    for name, each_W in losses.items():
        if broken := int((~np.isfinite(each_W)).sum()):
            raise ValueError(f"{name}: the losses of {broken} of {len(each_W)} windows are not finite; leave them out")


def _of_people(member_W: Array, person_W: Array, people: Array) -> Array:
    """Membership of each person, (K,)."""
    share_K = np.bincount(person_W, member_W) / np.bincount(person_W)
    if torn := [str(name) for name, share in zip(people, share_K, strict=True) if 0 < share < 1]:
        raise ValueError(
            f"{', '.join(torn[:5])}: a member in some windows and not in others; a person was in training or was not, "
            f"leave windows of members that were not trained on out"
        )
    return share_K.astype(bool)


def _judged(guesses: _Guesses, rng: np.random.Generator, n_boot: int, n_permutations: int) -> list[dict[str, object]]:
    """A row for each metric."""
    member_K = guesses.member_K
    n_members, n_others = int(member_K.sum()), int((~member_K).sum())
    counts = {"n_members": n_members, "n_others": n_others}
    if min(n_members, n_others) < 2:
        unknown = dict.fromkeys(("score", "ci_low", "ci_high", "chance", "p"), NAN)
        note = "fewer than two people were in training, or fewer than two were not"
        return [{"metric": metric, **unknown, **counts, "note": note} for metric in METRICS]
    ones_1K = np.ones((1, len(member_K)))
    observed = guesses.success(ones_1K, member_K[None])
    dealt_RK, exact = _memberships(member_K, n_permutations, rng)
    null = guesses.success(np.ones(dealt_RK.shape), dealt_RK)
    counts_RK = _resampled(member_K, n_boot, rng)
    drawn = guesses.success(counts_RK, np.broadcast_to(member_K, counts_RK.shape))
    note = f"{'all ' if exact else ''}{len(dealt_RK)} memberships of {len(member_K)} people"
    rows = []
    for metric in METRICS:
        score, null_R = float(observed[metric][0]), null[metric]
        low, high, remark = _interval(drawn[metric], score, min(n_members, n_others))
        # with all there are, the true one is among them and need not be added
        p = float((null_R >= score - 1e-12).mean()) if exact else permutation_p(score, null_R)
        found = {"score": score, "ci_low": low, "ci_high": high, "chance": float(null_R.mean()), "p": p}
        rows.append({"metric": metric, **found, **counts, "note": note + remark})
    return rows


def _interval(drawn_R: Array, score: float, n_people: int) -> tuple[float, float, str]:
    """Limits, as honest as the smaller of the two groups allows (in trials an AUROC was covered in 91 % and more)."""
    if np.ptp(drawn_R) == 0:
        return NAN, NAN, "; all resamples agree, which gives no interval"
    return *bootstrap_interval(drawn_R, score=score, n_participants=n_people), ""


def _memberships(member_K: Array, n_permutations: int, rng: np.random.Generator) -> tuple[Array, bool]:
    """Members dealt anew among people, (R, K), and whether these are all ways to do it."""
    n_people, n_members = len(member_K), int(member_K.sum())
    exact = comb(n_people, n_members) <= n_permutations
    if not exact:
        return np.stack([rng.permutation(member_K) for _ in range(n_permutations)]), False
    chosen = np.array(list(combinations(range(n_people), n_members)))
    dealt_RK = np.zeros((len(chosen), n_people), bool)
    np.put_along_axis(dealt_RK, chosen, True, axis=1)
    return dealt_RK, True


def _resampled(member_K: Array, n_boot: int, rng: np.random.Generator) -> Array:
    """How often each person is drawn, (R, K); members and others apart, as their numbers were not left to chance."""
    counts_RK = np.zeros((n_boot, len(member_K)))
    for kind_K in (member_K, ~member_K):
        counts_RK[:, kind_K] = draw_participants(int(kind_K.sum()), n=n_boot, rng=rng)
    return counts_RK


def subject_identity(
    features_WD: Array,
    participants_W: Array,
    *,
    recordings_W: Array,
    starts_W: Array,
    rng: np.random.Generator,
    settings: ProbeSettings = DEFAULT_SETTINGS,
) -> pd.DataFrame:
    """Whether a linear reader tells from the model's features who a person is (`probes.identity_probe`).

    It learns from the first half of each recording and is tested on the last 30 %. People differ in any features, so
    that the row of the model before fine-tuning stands beside that of the model after it: the difference is what
    training added.

    Parameters
    ----------
    features_WD, participants_W, recordings_W : array
    starts_W : array
        Where each window starts in its recording.
    rng : np.random.Generator
    settings : ProbeSettings

    Returns
    -------
    table : DataFrame
        One row in the columns of `membership_inference`: balanced accuracy over people, all of whom are counted as
        `n_members`. NaN with a note where fewer than two people have recordings of 10 windows.
    """
    found = identity_probe(
        features_WD, participants_W, recordings_W=recordings_W, starts_W=starts_W, rng=rng, settings=settings
    ).table
    row = found[found["probe"] == "linear"].rename(columns={"n_participants": "n_members"})
    return row.assign(attack="subject_identity", level="subject", n_others=0)[list(COLUMNS)].reset_index(drop=True)
