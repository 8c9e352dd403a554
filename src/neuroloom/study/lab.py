"""One simulated site: its machines, and the brains that it records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from neuroloom.bold.parcels import Parcellation, template_parcels
from neuroloom.config import RecordingRow, SimulateConfig, SimulatedSite
from neuroloom.provenance import child_rng
from neuroloom.records import Array
from neuroloom.study.sensors import Sensors, eeg_sensors, meg_sensors, orientations, source_positions
from neuroloom.study.sources import Brain, Traits, simulate_brain

LEAD_S = 3.0  # EEG runs for so long before the scanner starts, and goes on after it has stopped


@dataclass(frozen=True)
class Lab:
    """What all recordings of a site have in common; each part is computed once, when it is first needed."""

    study: str
    seed: int
    config: SimulateConfig
    machine: SimulatedSite

    def rng(self, *entities: str) -> np.random.Generator:
        """Random generator of one thing, so that one more person, site or task changes no other recording."""
        return child_rng(self.seed, "/".join(["simulate", self.study, *entities]))

    @property
    def n_volumes(self) -> int:
        """Volumes of a BOLD recording."""
        return int((self.config.duration - 2 * LEAD_S) / self.machine.t_r + 1e-6)

    @cached_property
    def parcels(self) -> Parcellation:
        """Where the sources are."""
        return template_parcels(self.config.n_parcels)

    @cached_property
    def invisible(self) -> list[int]:
        """Parcels whose BOLD has nothing to do with their field; the same in all people and at all sites."""
        count = self.config.invisible_parcels
        drawn = self.rng("invisible").choice(self.config.n_parcels, size=count, replace=False)
        return [int(parcel) for parcel in np.sort(drawn)]

    @cached_property
    def positions(self) -> Array:
        """Sources (P, 3), m in the head frame."""
        return source_positions(self.parcels.centroid_P3)

    @cached_property
    def directions(self) -> Array:
        """Orientations of the sources (P, 3); the same cortex at all sites of a study."""
        return orientations(self.positions, self.rng("cortex"))

    @cached_property
    def eeg(self) -> Sensors:
        """The site's EEG cap."""
        site = self.machine
        rates = {"sfreq": site.sfreq, "line_freq": site.line_freq}
        return eeg_sensors(n_eeg=site.n_eeg, reference=site.reference, position_P3=self.positions, **rates)

    @cached_property
    def meg(self) -> Sensors:
        """The site's MEG helmet."""
        site = self.machine
        rates = {"sfreq": site.sfreq, "line_freq": site.line_freq}
        return meg_sensors(system=site.meg_system, n_places=site.n_meg, position_P3=self.positions, **rates)

    def leadfield(self, sensors: Sensors) -> Array:
        """What each channel sees of each parcel, (C, P)."""
        return np.einsum("cpk,pk->cp", sensors.leadfield_CP3, self.directions).astype(np.float32)

    def brain(self, row: RecordingRow, traits: Traits) -> Brain:
        """The brain during a recording: one and the same for EEG and BOLD."""
        # MEG is another visit; EEG and BOLD share theirs, so they share a generator.
        occasion = "meg" if row.modality == "meg" else "eeg"
        return simulate_brain(
            centroid_P3=self.parcels.centroid_P3,
            task=row.task,  # type: ignore[arg-type]
            duration=self.config.duration,
            sfreq=self.machine.sfreq,
            traits=traits,
            rng=self.rng(row.site, row.subject, row.task, occasion),
            invisible=self.invisible,
        )
