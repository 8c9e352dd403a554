"""All scans that one model predicted, as a `predictions` store and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from neuroloom.artifacts import Artifact
from neuroloom.records import Array
from neuroloom.synthesis.predicted import Predicted

_NAMES = ("scan", "participant", "site", "task")
_SERIES = {"bold_true": "bold_true_PV", "bold_pred": "bold_pred_PV", "bold_std": "bold_std_PV"}


@dataclass(frozen=True)
class Predictions:
    """Scans side by side.

    Attributes
    ----------
    scans : sequence of Predicted
        With the same parcels.
    facts : mapping
        `model`, `kind`, `split`; `folds` (a list of what each fold found) and `seen` (participants whom the model met).
    connectivity_SPP : mapping
        Scan -> correlation matrix, for models that say one besides their prediction.
    """

    scans: Sequence[Predicted]
    facts: Mapping[str, Any]
    connectivity_SPP: Mapping[str, Array] = field(default_factory=dict)

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name; nuisance that only some scans have is NaN in the others."""
        scans = self.scans
        width = max(one.nuisance_VM.shape[1] for one in scans)
        padded = [np.pad(one.nuisance_VM, ((0, 0), (0, width - one.nuisance_VM.shape[1])), constant_values=np.nan)
                  for one in scans]  # fmt: skip
        said = [self.connectivity_SPP[one.scan] for one in scans] if self.connectivity_SPP else []
        return {
            **{name: np.concatenate([getattr(one, of) for one in scans], axis=1) for name, of in _SERIES.items()},
            "onset": np.concatenate([one.onset_V for one in scans]),
            "volume_scan": np.repeat(np.arange(len(scans)), [one.n_volumes for one in scans]).astype(np.int32),
            "parcel": list(scans[0].parcels),
            "centroid": scans[0].centroid_P3,
            "confounds": np.concatenate(padded),
            "confound": [f"nuisance{at}" for at in range(width)],
            **{name: [getattr(one, name) for one in scans] for name in _NAMES},
            "scan_t_r": np.array([one.t_r for one in scans]),
            **({"connectivity": np.stack(said)} if said else {}),
        }

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        return dict(self.facts)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        read = {name: artifact.read(name) for name in (*_SERIES, "onset", "volume_scan", "confounds", "scan_t_r")}
        text = {name: list(artifact.read(name)) for name in (*_NAMES, "parcel")}
        scans: list[Predicted] = []
        for at in range(len(text["scan"])):
            here_V = np.flatnonzero(read["volume_scan"] == at)
            nuisance_VM = read["confounds"][here_V]
            known_M = np.isfinite(nuisance_VM).all(axis=0)
            values: dict[str, Any] = {of: read[name][:, here_V].astype(float) for name, of in _SERIES.items()}
            values |= {name: text[name][at] for name in _NAMES}
            values |= {"onset_V": read["onset"][here_V], "nuisance_VM": nuisance_VM[:, known_M].astype(float)}
            values |= {"centroid_P3": artifact.read("centroid"), "t_r": float(read["scan_t_r"][at])}
            scans.append(Predicted(parcels=text["parcel"], **values))
        facts = {name: artifact.attrs[name] for name in ("model", "kind", "split", "folds", "seen")}
        said = artifact.read("connectivity") if artifact.has("connectivity") else ()
        return cls(scans, facts, dict(zip(text["scan"], said, strict=False)))
