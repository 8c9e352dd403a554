"""What privacy a site has spent on its people, in a ledger that adds up over runs and stops the one that is too much.

The unit is the subject: everything that one person has at one site, in all sessions. The ledger takes every release to
be of the same people, which no one can do better than, and knows one site: of a person who was at two, add the two. An
epsilon is a bound on what anyone can learn from what the site sent, and one of 10 or more is hardly a bound.
"""

from __future__ import annotations

import fcntl
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, ValidationError

from neuroloom.manifest import ArtifactError
from neuroloom.records import Array
from neuroloom.schema import ConfigError, Frozen, describe_errors
from neuroloom.training.checkpoint import sync

if TYPE_CHECKING:
    import pandas as pd

# Tenths are for little noise, and the large ones for much: any set of orders gives a bound, more give a tighter one.
ORDERS = (*(1 + tenths / 10 for tenths in range(1, 100)), *range(12, 64), 80, 96, 128, 192, 256, 512)


class BudgetError(ConfigError):
    """A run would spend more privacy than the site allows; nothing was noted and nothing may start."""


class Release(Frozen):
    """Noisy sums of clipped gradients that a run of one site makes, as planned before its first step."""

    run: str = Field(min_length=1, description="Digest of the run: its settings, data and seeds.")
    site: str = Field(min_length=1, description="Site whose people these are.")
    noise_multiplier: float = Field(ge=0, allow_inf_nan=False, description="SD of the noise over clip_norm.")
    sample_rate: float = Field(gt=0, le=1, description="Chance that a person is part of a step (Poisson).")
    n_steps: int = Field(ge=0, description="Steps of all rounds together.")
    clip_norm: float = Field(gt=0, allow_inf_nan=False, description="Largest norm of one person's gradient.")
    n_subjects: int = Field(ge=1, description="People of the training part.")
    seeded: bool = Field(description="The noise follows from a known seed: the numbers hold, the protection does not.")
    when: str = Field("", description="Date of the first start, ISO 8601.")
    redrawn: bool = Field(False, description="Steps of a noted run, drawn again with other noise.")


def spent_epsilon(
    *,
    noise_multiplier: float,
    sample_rate: float,
    n_steps: int,
    delta: float,
    history: Iterable[Release] = (),
) -> float:
    """Epsilon of so many steps of the sampled Gaussian mechanism, together with earlier releases.

    Neighbouring data sets differ in one person, who is in one of them alone. Rényi divergences add up over steps and
    runs, also where a later run was chosen by looking at an earlier one, and are turned into (epsilon, delta) once, at
    the end. Source: Mironov, Talwar and Zhang 2019, arXiv 1908.10530 (as Opacus computes it); Balle et al. 2020,
    arXiv 1905.09982, theorem 21 (conversion).

    Parameters
    ----------
    noise_multiplier : float
        SD of the noise over the largest norm of one person's part.
    sample_rate : float
        Chance of each person to be in a step, of which nobody may learn who was.
    n_steps : int
    delta : float
        Chance that the bound does not hold; well below one over the number of people.
    history : iterable of Release

    Returns
    -------
    epsilon : float
        Infinite where a step has no noise, 0 without steps.

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    in_range = noise_multiplier >= 0 and 0 < sample_rate <= 1 and n_steps >= 0 and 0 < delta < 1
    if not in_range:
        raise ValueError(
            f"noise_multiplier {noise_multiplier}, sample_rate {sample_rate}, n_steps {n_steps}, delta {delta}: give "
            f"noise and steps of 0 or more, a rate above 0 and up to 1, and a delta between 0 and 1"
        )
    parts = [(noise_multiplier, sample_rate, n_steps)]
    parts += [(past.noise_multiplier, past.sample_rate, past.n_steps) for past in history]
    parts = [part for part in parts if part[2]]
    if not parts:
        return 0.0
    if any(noise == 0 for noise, _, _ in parts):
        return float("inf")
    return _converted(np.sum([n * _divergence(noise, rate) for noise, rate, n in parts], axis=0), delta)


@cache
def _divergence(noise_multiplier: float, sample_rate: float) -> Array:
    """Rényi divergence of one step at each of the orders, (N,)."""
    from opacus.accountants.analysis.rdp import compute_rdp

    return np.asarray(compute_rdp(q=sample_rate, noise_multiplier=noise_multiplier, steps=1, orders=list(ORDERS)))


def _converted(divergence_N: Array, delta: float) -> float:
    from opacus.accountants.analysis.rdp import get_privacy_spent

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a best order at either end, which costs tightness only
        epsilon, _ = get_privacy_spent(orders=list(ORDERS), rdp=divergence_N, delta=delta)
    return max(float(epsilon), 0.0)


def total_epsilon(releases: Iterable[Release], *, delta: float) -> float:
    """Epsilon of all releases of a ledger together."""
    return spent_epsilon(noise_multiplier=0.0, sample_rate=1.0, n_steps=0, delta=delta, history=releases)


def read_ledger(path: Path) -> tuple[Release, ...]:
    """Releases of a site so far, in the order of their starts; none where there is no file.

    Raises
    ------
    ArtifactError
        If a line is damaged; what was spent is then unknown, and no run can be allowed.
    """
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return ()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not text ({error}). {_remedy(path)}") from None
    return tuple(_parsed(path, at, line) for at, line in enumerate(lines, start=1))


def _parsed(path: Path, at: int, line: str) -> Release:
    try:
        return Release.model_validate_json(line)
    except ValidationError as error:
        raise ArtifactError(f"{path}, line {at}: no release ({describe_errors(error)}). {_remedy(path)}") from None


def _remedy(path: Path) -> str:
    return f"Bring {path.name} back from a copy: without it nobody knows what privacy is left"


def charge(path: Path, release: Release, *, max_epsilon: float, delta: float, redrawn: int = 0) -> float:
    """Note a release before its first step, for all steps that are planned, and return what is spent in all.

    Call it before training, and again whenever a run goes on: a run that is noted is not charged twice. That is right
    as long as each step is drawn once. A site that answers a round for the second time with new secret noise, because
    the server asks again, tells more than it planned: give these steps as `redrawn`, and they are added. Steps that
    a run planned and never made stay charged.

    Parameters
    ----------
    path : Path
        Ledger of the site (JSON lines); made where there is none, beside a `.lock` for processes that come at once.
    release : Release
    max_epsilon, delta : float
        Budget of the site over all runs.
    redrawn : int
        Steps of this run that were answered before and are about to be drawn again. Not charged under a seed.

    Returns
    -------
    epsilon : float
        Of all releases in the ledger, this one included.

    Raises
    ------
    BudgetError
        If the sum would be above the budget; the ledger stays as it is.
    ConfigError
        If the run is noted with other numbers, the ledger is of another site, or delta promises nothing.
    ArtifactError
        If the ledger is damaged.
    """
    if delta >= 1 / release.n_subjects:
        raise ConfigError(
            f"{path}: delta {delta:g} with {release.n_subjects} subjects at {release.site} would allow to publish one "
            f"of them whole; set it well below {1 / release.n_subjects:.2g}"
        )
    with _locked(path):
        noted = read_ledger(path)
        added = _added(path, noted, release, redrawn)
        before, total = total_epsilon(noted, delta=delta), total_epsilon((*noted, *added), delta=delta)
        if total > max_epsilon:
            raise BudgetError(
                f"{path}: {release.site} has spent epsilon {before:.3g} at delta {delta:g}, run {release.run[:12]} "
                f"({release.n_steps} steps, noise {release.noise_multiplier:g}, rate {release.sample_rate:g}) would "
                f"add {total - before:.3g}, and the budget is {max_epsilon:g}; nothing was started. Use more noise, "
                f"fewer steps or a lower rate, or ask those who set the budget"
            )
        if added:
            _write(path, (*noted, *added))
    return total


def _added(path: Path, noted: Sequence[Release], release: Release, redrawn: int) -> list[Release]:
    """What has to be noted for a run: itself if it is new, and the steps that are drawn again."""
    if strangers := {past.site for past in noted} - {release.site}:
        raise ConfigError(f"{path}: the ledger is of {strangers.pop()}, not of {release.site}; give each site its own")
    known = [past for past in noted if past.run == release.run and not past.redrawn]
    if known and _terms(known[0]) != _terms(release):
        differ = [name for name, value in _terms(release).items() if _terms(known[0])[name] != value]
        found = ", ".join(f"{name} {_terms(known[0])[name]}, not {_terms(release)[name]}" for name in differ)
        raise ConfigError(
            f"{path}: run {release.run[:12]} was started with {found}; go on as before or start a new run"
        )
    again = release.model_copy(update={"n_steps": redrawn, "redrawn": True})
    return [*([] if known else [release]), *([again] if redrawn and not release.seeded else [])]


def _terms(release: Release) -> dict[str, object]:
    return release.model_dump(exclude={"when", "redrawn"})


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the ledger against other processes; the system lets go when the holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The ledger itself is replaced by rename, and a lock on a file that is gone holds nobody.
    with path.with_name(path.name + ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _write(path: Path, releases: Iterable[Release]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text("".join(release.model_dump_json() + "\n" for release in releases))
    sync(partial)
    partial.replace(path)
    sync(path.parent)  # else the name could still be of the old file after a power cut


def ledger_table(path: Path, *, delta: float) -> pd.DataFrame:
    """The ledger for a report: one row for each release, with its own epsilon and that of all up to it.

    Returns
    -------
    table : DataFrame
        Fields of `Release`, `delta`, `epsilon`, `epsilon_total` and `note`.
    """
    import pandas as pd

    noted, rows = read_ledger(path), []
    for at, release in enumerate(noted, start=1):
        alone, total = (total_epsilon(some, delta=delta) for some in ((release,), noted[:at]))
        note = "the noise has a known seed: a simulation that protects nobody" if release.seeded else ""
        rows.append({**release.model_dump(), "delta": delta, "epsilon": alone, "epsilon_total": total, "note": note})
    columns = [*Release.model_fields, "delta", "epsilon", "epsilon_total", "note"]
    return pd.DataFrame(rows, columns=columns)
