"""What the stages hand to each other: a recording, BOLD volumes and parcel series, in memory, with their facts.

Each class turns into the arrays and attributes of its artifact (`arrays()`, `attrs()`) and comes back from an opened
one (`from_artifact`). Provenance is added by the job that writes the store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np

from neuroloom.artifacts import Artifact

Array = np.ndarray
BRAIN = ("eeg", "mag", "grad")  # types of the channels that the brain is measured with
PLANAR_COILS = (2, 3011, 3012, 3013, 3014)  # FIFF coil types of planar gradiometers


class Signal(Protocol):
    """Channels by times: a NumPy array, a Zarr array or a stream."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, samples."""

    def __getitem__(self, key: Any, /) -> Any:
        """A piece: `[:, first:stop]`."""


@dataclass(frozen=True)
class Events:
    """Events on the clock of the recording: onset and duration in s from its first sample, and a label."""

    onset: Array
    duration: Array
    label: list[str]

    @classmethod
    def none(cls) -> Self:
        """An empty table."""
        return cls(np.zeros(0), np.zeros(0), [])

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        return cls(artifact.read("event_onset"), artifact.read("event_duration"), list(artifact.read("event_label")))

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        return {"event_onset": self.onset, "event_duration": self.duration, "event_label": self.label}


@dataclass(frozen=True)
class Confounds:
    """Confound regressors of a BOLD series: names (M) and values (V, M); NaN where a value does not exist."""

    names: list[str]
    values_VM: Array

    @classmethod
    def none(cls, n_volumes: int) -> Self:
        """A table without columns."""
        return cls([], np.zeros((n_volumes, 0), np.float32))

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        return cls(list(artifact.read("confound")), artifact.read("confounds"))

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        return {"confound": self.names, "confounds": self.values_VM}


@dataclass(frozen=True)
class Recording:
    """A continuous EEG or MEG recording.

    Attributes
    ----------
    signal_CT : float32 array, Zarr array or stream
        In the unit of each channel (`units`): V, T or T/m. Read it in pieces, `[:, first:stop]`.
    sfreq : float
        Hz.
    ch_names, ch_types, units, status : list of str
        One per channel; status is `good`, `bad: <reason>` or `interpolated: <reason>`.
    coil_C : int array
        FIFF coil type of MEG sensors (`mne.io.constants.FIFF`), 1 for EEG electrodes.
    loc_C12 : float array
        Position (m, head frame) and the three axes of the coil as MNE keeps them; NaN where unknown.
    events : Events
    line_freq : float or None
        Hz; None where neither the file nor the study says.
    reference : str
        EEG reference in words, `unknown` where the file does not say.
    scanner_t_r : float or None
        Repetition time of the scanner that EEG was recorded in, s; None outside of one.
    site_files : mapping
        Paths of what the MEG site measured of its machine: `calibration` and `cross_talk`, where there are such files.
    window_status : sequence of str
        One per window of the store: `good` or `rejected: <reason>`; empty before preprocessing.
    mixing : tuple of array and list of str, or None
        The matrix that this signal is made with from the channels that are named.
    """

    signal_CT: Signal
    sfreq: float
    ch_names: list[str]
    ch_types: list[str]
    units: list[str]
    status: list[str]
    coil_C: Array
    loc_C12: Array
    events: Events = field(default_factory=Events.none)
    line_freq: float | None = None
    reference: str = "unknown"
    scanner_t_r: float | None = None
    site_files: Mapping[str, str] = field(default_factory=dict)
    window_status: Sequence[str] = ()
    mixing: tuple[Array, list[str]] | None = None

    @property
    def position_C3(self) -> Array:
        """Position, m in the head frame; NaN where unknown."""
        return self.loc_C12[:, :3]

    @property
    def orientation_C3(self) -> Array:
        """Unit normal of a MEG coil, the direction of the difference of a planar gradiometer, zero for the rest.

        Source: the sensor input of BrainOmni (arXiv 2505.18185).
        """
        planar = np.isin(self.coil_C, PLANAR_COILS)[:, None]
        magnetic = np.isin(self.ch_types, ("mag", "grad", "ref_meg"))[:, None]
        axis_C3 = np.where(planar, self.loc_C12[:, 3:6], self.loc_C12[:, 9:12])
        return np.where(magnetic, axis_C3, 0.0)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        text = {name: list(artifact.read(name)) for name in ("channel", "type", "unit", "status")}
        return cls(
            signal_CT=artifact["signal"],
            sfreq=artifact.attrs["sfreq"],
            ch_names=text["channel"],
            ch_types=text["type"],
            units=text["unit"],
            status=text["status"],
            coil_C=artifact.read("coil"),
            loc_C12=artifact.read("loc"),
            events=Events.from_artifact(artifact),
            line_freq=artifact.attrs["line_freq"],
            reference=artifact.attrs["reference"],
            scanner_t_r=artifact.attrs.get("scanner_t_r"),
            site_files=artifact.attrs.get("site_files", {}),
            window_status=list(artifact.read("window_status")) if artifact.has("window_status") else (),
            mixing=(artifact.read("mixing"), list(artifact.read("input"))) if artifact.has("mixing") else None,
        )

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        windows = {"window_status": self.window_status} if len(self.window_status) else {}
        mixing = {"mixing": self.mixing[0], "input": self.mixing[1]} if self.mixing else {}
        return {
            "signal": self.signal_CT,
            **windows,
            **mixing,
            "channel": self.ch_names,
            "type": self.ch_types,
            "unit": self.units,
            "status": self.status,
            "coil": self.coil_C,
            "loc": self.loc_C12,
            "position": self.position_C3,
            "orientation": self.orientation_C3,
            **self.events.arrays(),
        }

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        facts = {"line_freq": self.line_freq, "reference": self.reference, "scanner_t_r": self.scanner_t_r}
        return {"sfreq": float(self.sfreq), **facts, "site_files": dict(self.site_files)}

    def picks(self, *ch_types: str) -> Array:
        """Indices of the channels of the given types."""
        return np.flatnonzero(np.isin(self.ch_types, ch_types))

    def load(self) -> Self:
        """The recording with its signal in memory."""
        return replace(self, signal_CT=np.asarray(self.signal_CT[:, :]))


@dataclass(frozen=True)
class Volumes:
    """A 4-D BOLD series on its voxel grid.

    Attributes
    ----------
    bold_XYZV : float32 array
        Scanner units.
    affine_44 : array
        Voxel to mm.
    t_r : float
        s.
    space : str
        `MNI…` where sidecar or file name say so, else `native`.
    mask_XYZ : bool array or None
        Brain mask given with the data, on the same grid.
    notes : tuple of str
        What was ignored or changed on the way, for the QC row.
    slice_time_Z : array or None
        When each slice along `slice_axis` was measured, s from the start of a volume; None where unknown.
    slice_axis : int
    """

    bold_XYZV: Array
    affine_44: Array
    t_r: float
    space: str
    mask_XYZ: Array | None
    confounds: Confounds
    events: Events = field(default_factory=Events.none)
    notes: tuple[str, ...] = ()
    slice_time_Z: Array | None = None
    slice_axis: int = 2

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        return cls(
            bold_XYZV=artifact.read("bold"),
            affine_44=np.array(artifact.attrs["affine"]),
            t_r=artifact.attrs["t_r"],
            space=artifact.attrs["space"],
            mask_XYZ=artifact.read("mask").astype(bool) if artifact.has("mask") else None,
            confounds=Confounds.from_artifact(artifact),
            events=Events.from_artifact(artifact),
            notes=tuple(artifact.attrs.get("series_notes", ())),
            slice_time_Z=np.array(times) if (times := artifact.attrs.get("slice_times")) else None,
            slice_axis=artifact.attrs.get("slice_axis", 2),
        )

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        mask = {} if self.mask_XYZ is None else {"mask": self.mask_XYZ}
        return {"bold": self.bold_XYZV, **mask, **self.confounds.arrays(), **self.events.arrays()}

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        times = None if self.slice_time_Z is None else self.slice_time_Z.tolist()
        return {
            "t_r": float(self.t_r),
            "affine": np.asarray(self.affine_44).tolist(),
            "space": self.space,
            "series_notes": list(self.notes),
            "slice_times": times,
            "slice_axis": self.slice_axis,
        }


@dataclass(frozen=True)
class ParcelSeries:
    """BOLD averaged over parcels.

    Attributes
    ----------
    bold_PV : float32 array
        A parcel without enough voxels is NaN.
    parcels : list of str
        Labels.
    centroid_P3 : array
        mm in `space`; NaN where the table does not say.
    n_voxels_P : int array
        0 where unknown (a table of series) or empty.
    atlas, atlas_sha256 : str
        Name and checksum of labels and label volume.
    unit : str
        `%` (change from the parcel's mean) or `as stored`.
    notes : tuple of str
        What was ignored or changed on the way, for the QC row.
    coverage_P : float array or None
        Share of each parcel's atlas voxels that were measured; None for a table of series.
    start_time : float
        s from the start of a volume to the moment that its value stands for.
    change_PV : float32 array or None
        The same series before trend, filters and confounds, in `unit`; None before preprocessing.
    """

    bold_PV: Array
    parcels: list[str]
    centroid_P3: Array
    n_voxels_P: Array
    t_r: float
    atlas: str
    atlas_sha256: str
    space: str
    confounds: Confounds
    events: Events = field(default_factory=Events.none)
    unit: str = "as stored"
    notes: tuple[str, ...] = ()
    coverage_P: Array | None = None
    start_time: float = 0.0
    change_PV: Array | None = None

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        facts = {name: artifact.attrs[name] for name in ("t_r", "atlas", "atlas_sha256", "space", "unit")}
        return cls(
            bold_PV=artifact.read("bold"),
            parcels=list(artifact.read("parcel")),
            centroid_P3=artifact.read("centroid"),
            n_voxels_P=artifact.read("n_voxels"),
            confounds=Confounds.from_artifact(artifact),
            events=Events.from_artifact(artifact),
            notes=tuple(artifact.attrs.get("series_notes", ())),
            coverage_P=artifact.read("coverage") if artifact.has("coverage") else None,
            start_time=artifact.attrs.get("start_time", 0.0),
            change_PV=artifact.read("change") if artifact.has("change") else None,
            **facts,
        )

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        coverage = {} if self.coverage_P is None else {"coverage": self.coverage_P}
        change = {} if self.change_PV is None else {"change": self.change_PV}
        return {
            "bold": self.bold_PV,
            **change,
            **coverage,
            "parcel": self.parcels,
            "centroid": self.centroid_P3,
            "n_voxels": self.n_voxels_P,
            **self.confounds.arrays(),
            **self.events.arrays(),
        }

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        atlas = {"atlas": self.atlas, "atlas_sha256": self.atlas_sha256}
        return {
            "t_r": float(self.t_r),
            **atlas,
            "space": self.space,
            "unit": self.unit,
            "series_notes": list(self.notes),
            "start_time": float(self.start_time),
        }
