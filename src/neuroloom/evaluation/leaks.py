"""Leaks that can be seen in the windows themselves: one person on two sides, and a feature that is the label."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from neuroloom.evaluation.splits import PARTS, LeakError
from neuroloom.records import Array

PERFECT = 0.99  # share of a feature's variance between classes, above which the feature is the label itself


def check_apart(participants_W: Array, folds_NW: Array) -> None:
    """Refuse windows of one participant on two sides.

    Raises
    ------
    LeakError
        Naming the participant and both parts.
    """
    for fold, parts_W in enumerate(folds_NW):
        people = {part: set(participants_W[parts_W == part]) for part in PARTS}
        for one, other in combinations(PARTS, 2):
            if shared := people[one] & people[other]:
                raise LeakError(
                    f"windows, fold {fold}: participant {min(shared)} is in {one} and in {other} ({len(shared)} "
                    "shared); split by participants, or say that the probe is within subjects"
                )


def check_label_leak(features_WF: Array, labels_W: Array, *, windows: Array | None = None) -> None:
    """Refuse a feature that is the label: of its variance, almost all is between the classes.

    The share is corrected for the number of classes (epsilon squared), so that few windows do not look like a leak.

    Raises
    ------
    LeakError
        Naming the column of the feature.
    """
    windows = np.arange(len(labels_W)) if windows is None else windows
    if not len(windows):
        return
    raw_WF, labels_W = features_WF[windows], labels_W[windows]
    x_WF = raw_WF - raw_WF.mean(axis=0)
    total_F = (x_WF**2).sum(axis=0)
    total_F[total_F <= 1e-18 * (raw_WF**2).sum(axis=0)] = 0.0  # a constant, but for rounding
    if np.issubdtype(labels_W.dtype, np.floating):
        design_WL = np.column_stack([np.ones(len(labels_W)), labels_W - labels_W.mean()])
    else:
        design_WL = (labels_W[:, None] == np.unique(labels_W)).astype(float)
    spare = len(labels_W) - design_WL.shape[1]
    if spare < 1:
        return
    rest_F = ((x_WF - design_WL @ np.linalg.lstsq(design_WL, x_WF, rcond=None)[0]) ** 2).sum(axis=0)
    ratio_F = np.divide(rest_F, total_F, out=np.ones_like(total_F), where=total_F > 0)
    share_F = 1 - ratio_F * (len(labels_W) - 1) / spare
    if len(np.unique(labels_W)) > 1 and share_F.max(initial=0.0) > PERFECT:
        raise LeakError(
            f"feature {int(share_F.argmax())} is the label: {100 * share_F.max():.2f} % of its variance lies between "
            "the classes; take it out of the features, or find out how the label came into them"
        )
