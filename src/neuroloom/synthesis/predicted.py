"""What a model says about one scan, next to what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from neuroloom.records import Array

SHORTEST = 3  # volumes, below which no correlation exists


@dataclass(frozen=True)
class Predicted:
    """Measured and predicted BOLD of one scan.

    Attributes
    ----------
    scan, participant, site, task : str
        A participant has one name at all sites.
    parcels : list of str
    centroid_P3 : array
        mm in MNI space; NaN where unknown.
    t_r : float
        s. Volumes that were dropped leave no gap in the arrays: the nulls take what is left as one series.
    onset_V : array
        s, on the clock of the preprocessed EEG.
    bold_true_PV, bold_pred_PV : array
        In the unit of the target; NaN in a parcel that has too few voxels.
    bold_std_PV : array
        Standard deviation that the model gives its prediction; NaN where it gives none.
    nuisance_VM : array
        Global signal and motion of the scan; NaN where a value does not exist; may have no columns.

    Raises
    ------
    ValueError
        If the shapes do not fit, or there are fewer than three volumes; the message names the scan.
    """

    scan: str
    participant: str
    site: str
    task: str
    parcels: list[str]
    centroid_P3: Array
    t_r: float
    onset_V: Array
    bold_true_PV: Array
    bold_pred_PV: Array
    bold_std_PV: Array
    nuisance_VM: Array

    def __post_init__(self) -> None:
        shape = (len(self.parcels), len(self.onset_V))
        series = ("bold_true_PV", "bold_pred_PV", "bold_std_PV")
        wanted = {name: shape for name in series} | {"centroid_P3": (shape[0], 3)}
        for name, expected in wanted.items():
            if getattr(self, name).shape != expected:
                found = getattr(self, name).shape
                raise ValueError(f"{self.scan}: {name} is {found}, not {expected}; give all arrays the same volumes")
        if self.nuisance_VM.ndim != 2 or len(self.nuisance_VM) != shape[1]:
            raise ValueError(f"{self.scan}: nuisance_VM is {self.nuisance_VM.shape}; give one row for each volume")
        if shape[1] < SHORTEST or not self.t_r > 0:
            raise ValueError(
                f"{self.scan}: {shape[1]} volumes of {self.t_r} s cannot be scored; leave the scan out, or give it a "
                f"test part of {SHORTEST} volumes and more"
            )

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return len(self.onset_V)
