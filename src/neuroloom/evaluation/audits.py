"""What else could have answered: who it is and where, the slope of the spectrum, a single band, the eyes.

Each audit changes the signal before it is read, and trains and tests the frozen linear probe on what is left. A score
that stays when the rhythm of interest is gone was not read from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neuroloom.evaluation.alterations import Altered, changes
from neuroloom.evaluation.baselines import BANDS, band_power
from neuroloom.evaluation.examples import Examples, mean_features
from neuroloom.evaluation.probes import identity_probe, linear_probe, missing_row, site_probe
from neuroloom.evaluation.readout import DEFAULT_SETTINGS, ProbeSettings
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Preparation

if TYPE_CHECKING:
    from neuroloom.evaluation.regimes import Frozen
    from neuroloom.models.base import Encoder

Features = Callable[[Examples], Array]


def audit_table(
    encoder: Encoder,
    examples: Examples,
    frozen: Frozen | None = None,
    *,
    target: str,
    rng: np.random.Generator,
    sites_W: Array | None = None,
    settings: ProbeSettings = DEFAULT_SETTINGS,
    within: bool = False,
    device: str = "cpu",
) -> pd.DataFrame:
    """All audits of the frozen features of an encoder.

    Parameters
    ----------
    encoder : Encoder
    examples : Examples
        Prepared as the encoder says.
    frozen : Frozen, optional
        Saves reading the signal as it is once more.
    target : str
        Name of the task.
    rng : np.random.Generator
    sites_W : array of str, optional
        Site of each window; without it there is no site probe.
    settings : ProbeSettings
    within : bool
        Participants stand on several sides on purpose.
    device : str

    Returns
    -------
    table : DataFrame
        Rows of the probes with a column `audit`: `none` (the signal as it is), `identity`, `site`, and the names of
        `changes`; NaN with a reason in `note` where an audit cannot be made.
    """
    if frozen is not None and not examples.same_windows(frozen.examples):
        raise ValueError(f"audits of {target}: the windows are not those that were frozen; make a Frozen of them")
    read = partial(mean_features, encoder, device=device)
    asked = _Asked(examples, target, rng, settings, within)
    features_WF = read(examples) if frozen is None else frozen.features_WD
    return _audits(asked, read, features_WF, preparation=encoder.preparation, sites_W=sites_W)


def signal_audit_table(
    examples: Examples,
    *,
    target: str,
    rng: np.random.Generator,
    preparation: Preparation = "reve",
    sites_W: Array | None = None,
    settings: ProbeSettings = DEFAULT_SETTINGS,
    within: bool = False,
) -> pd.DataFrame:
    """The same audits of the classical features: log power in bands, of the channels that all recordings share.

    Parameters
    ----------
    examples, target, rng, sites_W, settings, within
        As in `audit_table`.
    preparation : {"brainomni", "reve"}
        Of the examples.
    """
    asked = _Asked(examples, target, rng, settings, within)
    return _audits(asked, _band_features, _band_features(examples), preparation=preparation, sites_W=sites_W)


def _band_features(examples: Examples) -> Array:
    """Log power in all bands, or in the one that is left: what a filter leaves of the others is its leakage."""
    pieces = examples.corpus[0]
    features_WF = band_power(examples.common_signals(), pieces.sfreq)
    if not isinstance(pieces, Altered) or not pieces.band:
        return features_WF
    n_bands = sum(low < 0.45 * pieces.sfreq for low, _ in BANDS.values())
    return features_WF[:, list(BANDS).index(pieces.band) :: n_bands]


@dataclass(frozen=True)
class _Asked:
    """A task, and how hard its probes try."""

    examples: Examples
    target: str
    rng: np.random.Generator
    settings: ProbeSettings
    within: bool

    def label(self, features_WF: Array) -> pd.DataFrame:
        """The linear probe of the task."""
        return linear_probe(
            features_WF,
            self.examples.labels_W,
            self.examples.participants_W,
            parts=self.examples.parts_W,
            target=self.target,
            rng=self.rng,
            recordings_W=self.examples.recordings_W,
            settings=self.settings,
            within=self.within,
        ).table

    def person(self, features_WF: Array) -> pd.DataFrame:
        """The identity probe."""
        return identity_probe(
            features_WF,
            self.examples.participants_W,
            recordings_W=self.examples.recordings_W,
            starts_W=self.examples.starts_W,
            rng=self.rng,
            settings=self.settings,
        ).table

    def site(self, features_WF: Array, sites_W: Array) -> pd.DataFrame:
        """The site probe."""
        people_W = self.examples.participants_W
        return site_probe(features_WF, sites_W, people_W, rng=self.rng, settings=self.settings).table


def _audits(
    asked: _Asked, read: Features, features_WF: Array, *, preparation: Preparation, sites_W: Array | None
) -> pd.DataFrame:
    tables = {"none": asked.label(features_WF), "identity": asked.person(features_WF)}
    if sites_W is not None:
        tables["site"] = asked.site(features_WF, np.asarray(sites_W))
    examples = asked.examples
    for name, change in changes(preparation, examples.corpus[0].sfreq).items():
        try:
            altered = replace(examples, corpus=[change(pieces) for pieces in examples.corpus])
            tables[name] = asked.label(read(altered))
        except (ConfigError, UnusableRecording) as error:
            tables[name] = missing_row(asked.target, str(error))
    return pd.concat([table.assign(audit=name) for name, table in tables.items()], ignore_index=True)
