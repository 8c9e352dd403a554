"""When the volumes of a scan began, from the triggers in a recording."""

from __future__ import annotations

import numpy as np

from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array, Events

MIN_VOLUMES = 5
MIN_SLICES = 4  # so that stimuli once a second are not taken for slices
MAX_LOST_VOLUMES = 10  # in a row; more is another run of the scanner
TOLERANCE = 0.02  # of the repetition time, between a trigger and the regular grid


def volume_onsets(events: Events, *, t_r: float, file: str) -> tuple[Array, str]:
    """Beginnings of the volumes from triggers that came once a volume, or once a slice.

    Parameters
    ----------
    events : Events
        All events of the recording; the ones that repeat with `t_r` (or an even share of it) are the triggers.
    t_r : float
        Repetition time, s.
    file : str
        Named in errors.

    Returns
    -------
    onset_V : array
        s; one for each volume on a regular grid, lost ones filled in.
    note : str
        What was found and done.

    Raises
    ------
    UnusableRecording
        If no event repeats like volumes or slices, or a gap is too long to be lost triggers.
    """
    remedy = "Mark each volume (or slice) with an event, correct the sheet's t_r, or clean the recording beforehand"
    found = {label: _repeats(_onsets(events, label), t_r) for label in dict.fromkeys(events.label)}
    triggers = {label: count for label, count in found.items() if count}
    if not triggers:
        text = ", ".join(sorted(found)[:8]) or "no events"
        raise UnusableRecording(file, f"no trigger repeats every {t_r:g} s or a share of it (found: {text})", remedy)
    # triggers of volumes before those of slices, and the more of them the better
    label = min(triggers, key=lambda name: (triggers[name], -len(_onsets(events, name))))
    per_volume, onset_E = triggers[label], _onsets(events, label)
    slot_E, period, start = _regular(onset_E, t_r / per_volume)
    off_E = np.abs(onset_E - start - slot_E * period) > TOLERANCE * t_r
    slots = np.unique(slot_E[~off_E])
    if np.diff(slots).max() > MAX_LOST_VOLUMES * per_volume:
        at = start + period * slots[np.argmax(np.diff(slots))]
        reason = f"triggers `{label}` stop at {at:.1f} s and begin again {np.diff(slots).max() * period:.1f} s later"
        raise UnusableRecording(file, reason, "Two runs of the scanner: cut the recording into one file for each")
    n_volumes = -(-int(slots[-1] - slots[0] + 1) // per_volume)
    onset_V = start + period * (slots[0] + per_volume * np.arange(n_volumes))
    kept = {int(slot): at for slot, at in zip(slot_E[~off_E], onset_E[~off_E], strict=True)}
    onset_V = np.array([kept.get(int(slots[0]) + per_volume * v, at) for v, at in enumerate(onset_V)])
    kind = "volume" if per_volume == 1 else f"slice ({per_volume} a volume)"
    notes = [f"{n_volumes} volumes from {kind} triggers `{label}`"]
    lost = int(slots[-1] - slots[0] + 1) - len(slots)
    notes += [f"{lost} triggers missing, taken from the regular grid"] if lost else []
    notes += [f"{int(off_E.sum())} triggers beside the grid left out"] if off_E.any() else []
    return onset_V, "; ".join(notes)


def _onsets(events: Events, label: str) -> Array:
    return np.sort(events.onset[np.array(events.label) == label])


def _repeats(onset_E: Array, t_r: float) -> int:
    """How many triggers come in a repetition time: 1 for volumes, more for slices, 0 where they are no triggers."""
    if len(onset_E) < MIN_VOLUMES:
        return 0
    step_E = np.diff(onset_E)
    count = round(t_r / max(float(np.median(step_E)), 1e-9))
    if count < 1 or 1 < count < MIN_SLICES or abs(np.median(step_E) * count / t_r - 1) > TOLERANCE:
        return 0
    whole_E = step_E * count / t_r
    regular = np.abs(whole_E - np.maximum(np.round(whole_E), 1)) <= max(0.05, 0.01 * count)
    return count if regular.mean() >= 0.7 else 0


def _regular(onset_E: Array, step: float) -> tuple[Array, float, float]:
    """Slot of each trigger on a regular grid, and the grid's step and start (s), by a line through most of them."""
    slot_E = np.concatenate([[0], np.cumsum(np.round(np.diff(onset_E) / step))])
    start = float(np.median(onset_E - slot_E * step))
    for _ in range(3):
        slot_E = np.round((onset_E - start) / step)
        off_E = np.abs(onset_E - start - slot_E * step)
        near_E = off_E <= max(float(np.median(off_E)) * 4, 1e-9)
        step, start = np.polyfit(slot_E[near_E], onset_E[near_E], 1)
    return slot_E.astype(int), float(step), float(start)
