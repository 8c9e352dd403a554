"""What electrodes see of the parcels, through a sphere that fits these electrodes.

Centroids come from MNI space by the rigid transform of MNE's template head, positions are those of the recording: so a
cap is known by where it is, and not by its names. Sphere and template are nobody's own head, and sources of parcels are
points; a model learns from data what they get wrong.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from neuroloom.records import Array
from neuroloom.schema import ConfigError
from neuroloom.study.sensors import ELECTRODES, head, source_positions

COMMON = tuple(ELECTRODES[19].split())  # the electrodes of the 10-20 system, to which every cap can be brought
FEWEST_ELECTRODES = 4
INSIDE = 0.9  # of the brain's radius, within which sources lie
RIDGE = 0.01  # of the mean eigenvalue, of what is inverted to bring one cap to another


def leadfield(position_C3: Array, centroid_P3: Array) -> Array:
    """Potential at electrodes of sources in the parcels, (C, P, 3), V per A·m along x, y, z, to the average reference.

    Parameters
    ----------
    position_C3 : array
        Electrodes, m in the head frame.
    centroid_P3 : array
        Parcels, mm MNI.

    Raises
    ------
    ConfigError
        If too few electrodes have a position, or a parcel has none.
    """
    known = np.isfinite(position_C3).all(axis=1)
    if not known.all() or len(known) < FEWEST_ELECTRODES:
        raise ConfigError(
            f"{int((~known).sum())} of {len(known)} electrodes have no position; a model of the head needs those of "
            f"all, {FEWEST_ELECTRODES} at least: give sources.<study>.montage"
        )
    if not np.isfinite(centroid_P3).all():
        raise ConfigError("parcels without a centroid have no source; take an atlas in MNI space")
    return _leadfield(np.ascontiguousarray(position_C3, float).tobytes(), centroid_P3.astype(float).tobytes()).copy()


@lru_cache(maxsize=32)
def _leadfield(positions: bytes, centroids: bytes) -> Array:
    import mne

    position_C3, centroid_P3 = (np.frombuffer(raw).reshape(-1, 3) for raw in (positions, centroids))
    names = [f"E{at}" for at in range(len(position_C3))]
    montage = mne.channels.make_dig_montage(dict(zip(names, position_C3, strict=True)), coord_frame="head")
    with mne.use_log_level("error"):
        info = mne.create_info(names, 1.0, "eeg").set_montage(montage)
        raw = mne.io.RawArray(np.zeros((len(names), 1)), info).set_eeg_reference("average", projection=False)
        sphere = mne.make_sphere_model(head().sphere["r0"], _radius(position_C3), raw.info)
        place_P3 = _inside(source_positions(centroid_P3), sphere)
        grid = mne.setup_volume_source_space(pos={"rr": place_P3, "nn": np.tile([0.0, 0, 1], (len(place_P3), 1))})
        forward = mne.make_forward_solution(raw.info, None, grid, sphere, meg=False, mindist=0)
    gain_CP3 = forward["sol"]["data"].reshape(len(names), len(place_P3), 3)
    return np.asarray(gain_CP3 - gain_CP3.mean(axis=0))


def _radius(position_C3: Array) -> float:
    return float(np.median(np.linalg.norm(position_C3 - head().sphere["r0"], axis=1)))


def _inside(place_P3: Array, sphere: dict[str, Array]) -> Array:
    """Drawn in along the radius where a small head leaves them outside."""
    apart_P3 = place_P3 - sphere["r0"]
    radius_P1 = np.linalg.norm(apart_P3, axis=1, keepdims=True)
    limit = INSIDE * float(sphere["layers"][0]["rad"])
    return sphere["r0"] + apart_P3 * np.minimum(1, limit / np.maximum(radius_P1, 1e-9))


def to_common(position_C3: Array, centroid_P3: Array) -> Array:
    """Matrix (19, C) from a cap to the 10-20 system: sources that explain the one, as seen by the other."""
    template = head().montage.get_positions()["ch_pos"]
    common_C3 = np.stack([template[name] for name in COMMON])
    here_CK, there_CK = (leadfield(place, centroid_P3).reshape(len(place), -1) for place in (position_C3, common_C3))
    gram_CC = here_CK @ here_CK.T
    ridge_CC = RIDGE * np.trace(gram_CC) / len(gram_CC) * np.eye(len(gram_CC))
    return np.asarray(there_CK @ here_CK.T @ np.linalg.inv(gram_CC + ridge_CC))
