"""What every kind of store holds: one `ArtifactSpec` each. `artifacts` writes, opens and checks by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ArraySpec:
    """One array of a store: its dimension names, its dtype (`str` for text) and whether it may be absent."""

    dims: tuple[str, ...]
    dtype: str = "float32"
    optional: bool = False


@dataclass(frozen=True)
class ArtifactSpec:
    """One kind of store.

    Attributes
    ----------
    kind, version
        Together they make the `schema` attribute, `neuroloom/<kind>@<version>`.
    arrays
        The arrays by name.
    attrs
        Root attributes that must be given.
    windowed
        The array that is read in windows; it is sharded, the others are one chunk each.
    window_axis
        The axis of the windows: -1, or 0 where each row is a window.
    """

    kind: str
    version: int
    arrays: Mapping[str, ArraySpec]
    attrs: tuple[str, ...]
    windowed: str | None = None
    window_axis: int = -1

    @property
    def schema(self) -> str:
        """Name and version, as in the store's `schema` attribute."""
        return f"neuroloom/{self.kind}@{self.version}"


EVENTS = {
    "event_onset": ArraySpec(("event",), "float64"),
    "event_duration": ArraySpec(("event",), "float64"),
    "event_label": ArraySpec(("event",), "str"),
}
CONFOUNDS = {
    "confound": ArraySpec(("confound",), "str"),
    "confounds": ArraySpec(("volume", "confound"), "float32"),
}
ATLAS = ("atlas", "atlas_sha256", "space")
PAIR = {
    "bold": ArraySpec(("parcel", "volume")),
    "onset": ArraySpec(("volume",), "float64"),
    "kept": ArraySpec(("volume",), "bool"),
    "parcel": ArraySpec(("parcel",), "str"),
    "centroid": ArraySpec(("parcel", "axis")),
    **CONFOUNDS,
}
PREDICTIONS = {
    **dict.fromkeys(("bold_true", "bold_pred", "bold_std"), ArraySpec(("parcel", "volume"))),
    "onset": ArraySpec(("volume",), "float64"),
    "volume_scan": ArraySpec(("volume",), "int32"),
    "parcel": ArraySpec(("parcel",), "str"),
    "centroid": ArraySpec(("parcel", "axis")),
    **CONFOUNDS,
    **dict.fromkeys(("scan", "participant", "site", "task"), ArraySpec(("scan",), "str")),
    "scan_t_r": ArraySpec(("scan",), "float64"),
    "connectivity": ArraySpec(("scan", "parcel", "other"), optional=True),
}
_SPECS = (
    ArtifactSpec(
        "recording",
        1,
        {
            "signal": ArraySpec(("channel", "time")),
            "channel": ArraySpec(("channel",), "str"),
            "type": ArraySpec(("channel",), "str"),
            "unit": ArraySpec(("channel",), "str"),
            "status": ArraySpec(("channel",), "str"),
            "coil": ArraySpec(("channel",), "int32"),
            "loc": ArraySpec(("channel", "loc")),
            "position": ArraySpec(("channel", "axis")),
            "orientation": ArraySpec(("channel", "axis")),
            "window_status": ArraySpec(("window",), "str", optional=True),
            "mixing": ArraySpec(("channel", "input"), optional=True),
            "input": ArraySpec(("input",), "str", optional=True),
            **EVENTS,
        },
        ("sfreq", "line_freq", "reference"),
        windowed="signal",
    ),
    ArtifactSpec(
        "volumes",
        1,
        {
            "bold": ArraySpec(("x", "y", "z", "volume")),
            "mask": ArraySpec(("x", "y", "z"), "bool", optional=True),
            **CONFOUNDS,
            **EVENTS,
        },
        ("t_r", "affine", "space"),
        windowed="bold",
    ),
    ArtifactSpec(
        "bold",
        1,
        {
            "bold": ArraySpec(("parcel", "volume")),
            "change": ArraySpec(("parcel", "volume"), optional=True),
            "parcel": ArraySpec(("parcel",), "str"),
            "centroid": ArraySpec(("parcel", "axis")),
            "n_voxels": ArraySpec(("parcel",), "int32"),
            "coverage": ArraySpec(("parcel",), optional=True),
            **CONFOUNDS,
            **EVENTS,
        },
        ("t_r", "atlas", "atlas_sha256", "space", "unit"),
        windowed="bold",
    ),
    ArtifactSpec("pair", 1, PAIR, ("t_r", "unit", *ATLAS, "start", "drift", "jitter", "n_dummies"), windowed="bold"),
    ArtifactSpec("predictions", 1, PREDICTIONS, ("model", "kind", "split", "folds", "seen"), windowed="bold_true"),
    ArtifactSpec(
        "truth",
        1,
        {
            "parcel": ArraySpec(("parcel",), "str"),
            "centroid": ArraySpec(("parcel", "axis")),
            "source": ArraySpec(("parcel", "time"), optional=True),
            "leadfield": ArraySpec(("channel", "parcel"), optional=True),
            "channel": ArraySpec(("channel",), "str", optional=True),
            "blink": ArraySpec(("time",), optional=True),
            "added_kind": ArraySpec(("component",), "str", optional=True),
            "added_map": ArraySpec(("channel", "component"), optional=True),
            "added_course": ArraySpec(("component", "time"), optional=True),
            "drive": ArraySpec(("parcel", "time"), optional=True),
            "power": ArraySpec(("band", "parcel", "time"), optional=True),
            "band": ArraySpec(("band",), "str", optional=True),
            "visible": ArraySpec(("parcel",), "bool", optional=True),
            "bold": ArraySpec(("parcel", "volume"), optional=True),
            "motion": ArraySpec(("volume", "motion_axis"), optional=True),
        },
        ("sfreq", "t_r", "hrf_lag", "snr"),
        windowed="source",
    ),
    ArtifactSpec(
        "tokens",
        1,
        {
            "codes": ArraySpec(("window", "latent", "step", "quantizer"), "uint16"),
            "recording": ArraySpec(("recording",), "str"),
            "window_recording": ArraySpec(("window",), "int32"),
            "window_start": ArraySpec(("window",), "int64"),
        },
        ("tokenizer", "kind", "fold", "device", "sfreq", "step", "overlap", "codebook_sizes"),
        windowed="codes",
        window_axis=0,
    ),
)
SPECS: dict[str, ArtifactSpec] = {spec.kind: spec for spec in _SPECS}
