"""QC figure of one EEG or MEG recording: spectra, sensors and ten seconds, before and after."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neuroloom.figures.style import AFTER, BAD, BEFORE, figure_style
from neuroloom.records import Array, Recording
from neuroloom.signals.filters import welch_psd
from neuroloom.signals.quality import MeegQc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN = {"eeg": (1e6, "µV"), "mag": (1e15, "fT"), "grad": (1e13, "fT/cm")}
SECONDS, MAX_TRACES = 10.0, 16
# inches; a layout that is found by measuring every text takes as long as the rest of the figure
LEFT, RIGHT, TOP, GAP, ROW, BOTTOM, LINE = 0.6, 0.1, 0.62, 0.65, 1.65, 0.5, 0.12


def plot_meeg_qc(before: Recording, after: Recording, qc: MeegQc, *, title: str) -> Figure:
    """Draw the QC of one recording.

    Parameters
    ----------
    before, after : Recording
        The same channels as ingested and as preprocessed.
    qc : MeegQc
        What was found and done.
    title : str
        Identifier of the recording.

    Returns
    -------
    Figure
        Left: a spectrum per channel type; middle: sensors with bad ones marked; right: ten seconds before and after.
    """
    from matplotlib.figure import Figure

    kinds = [kind for kind in SHOWN if len(after.picks(kind))]
    spectra = [welch_psd(one.signal_CT, one.sfreq) for one in (before, after)]
    with figure_style():
        reasons = "; ".join(f"{name}: {reason}" for name, reason in qc.bads.items())
        words = textwrap.wrap(reasons or "no bad channel", 170)[:4]
        bottom = BOTTOM + LINE * len(words)
        width, height = 10.5, TOP + len(kinds) * (ROW + GAP) - GAP + bottom
        figure = Figure(figsize=(width, height))
        figure.set_layout_engine("none")
        heading = f"{title}\n{summary(qc)}"
        figure.suptitle(heading, x=0.01, y=1 - 0.06 / height, ha="left", weight="bold", fontsize=8)
        grid = figure.add_gridspec(
            nrows=len(kinds),
            ncols=4,
            width_ratios=(2.2, 1.4, 2.6, 2.6),
            left=LEFT / width,
            right=1 - RIGHT / width,
            bottom=bottom / height,
            top=1 - TOP / height,
            wspace=0.24,
            hspace=GAP / ROW,
        )
        for line, kind in enumerate(kinds):
            _plot_spectra(figure.add_subplot(grid[line, 0]), before, after, spectra, qc, kind)
            _plot_sensors(figure.add_subplot(grid[line, 1]), after, qc, kind)
            first = figure.add_subplot(grid[line, 2])
            _plot_traces(first, before, qc, kind, "before")
            _plot_traces(figure.add_subplot(grid[line, 3]), after, qc, kind, "after")
        colour = BAD if qc.bads else BEFORE
        figure.supxlabel("\n".join(words), x=0.01, y=0.06 / height, ha="left", fontsize=7, color=colour)
    return figure


def summary(qc: MeegQc) -> str:
    """One line of figures under the title."""
    line = f"mains {qc.line_freq:g} Hz {qc.line_source}" if qc.line_freq else "no mains found"
    windows = f", {qc.n_rejected} of {qc.n_windows} windows rejected" if qc.n_windows else ""
    return (
        f"{qc.n_channels} channels, {len(qc.bads)} bad, {qc.duration:.0f} s, {qc.sfreq_in:g} to {qc.sfreq_out:g} Hz, "
        f"band {qc.l_freq:g}-{qc.h_freq:g} Hz, {line}{windows}"
    )


def _plot_spectra(
    axes: Axes, before: Recording, after: Recording, spectra: Sequence[tuple[Array, Array]], qc: MeegQc, kind: str
) -> None:
    factor, unit = SHOWN[kind]
    for recording, spectrum, colour, label in zip(
        (before, after), spectra, (BEFORE, AFTER), ("before", "after"), strict=True
    ):
        good = [at for at in recording.picks(kind) if recording.ch_names[at] not in qc.bads]
        freqs_F, psd_CF = spectrum[0], spectrum[1][good]
        low, middle, high = np.percentile(psd_CF[:, 1:] * factor**2, (5, 50, 95), axis=0)
        floor = np.finfo(float).tiny
        axes.fill_between(freqs_F[1:], np.maximum(low, floor), np.maximum(high, floor), color=colour, alpha=0.25, lw=0)
        axes.loglog(freqs_F[1:], np.maximum(middle, floor), color=colour, label=label)
    inside = psd_CF[:, (freqs_F >= qc.l_freq) & (freqs_F <= qc.h_freq)] * factor**2
    usable = inside[inside > 0]
    if usable.size:
        axes.set_ylim(np.percentile(usable, 1) / 10, np.percentile(usable, 99.9) * 100)
    axes.set(xlim=(0.25, before.sfreq / 2), xlabel="Hz")
    axes.set_title(f"{kind.upper()} of good channels (5, 50, 95 %)", y=1)
    axes.set_ylabel(f"({unit})²/Hz")
    axes.legend(loc="lower left")


def _plot_sensors(axes: Axes, after: Recording, qc: MeegQc, kind: str) -> None:
    """Seen from above, nose up; the azimuthal projection keeps the distance from the vertex."""
    picks = after.picks(kind)
    place_C2 = flat_positions(after.position_C3[picks])
    bad = np.array([after.ch_names[at] in qc.bads for at in picks], bool)
    axes.scatter(place_C2[~bad, 0], place_C2[~bad, 1], s=9, color=AFTER, lw=0)
    axes.scatter(place_C2[bad, 0], place_C2[bad, 1], s=16, color=BAD, marker="x", lw=1.2)
    for at in np.flatnonzero(bad)[:12]:
        axes.annotate(
            after.ch_names[picks[at]], place_C2[at], fontsize=6, color=BAD, xytext=(2, 2), textcoords="offset points"
        )
    axes.set(aspect="equal", xticks=[], yticks=[])
    axes.set_title(f"{(~bad).sum()} good, {bad.sum()} bad", y=1)
    axes.margins(0.15)
    axes.spines[:].set_visible(False)


def flat_positions(position_C3: Array) -> Array:
    """Sensor positions seen from above, (C, 2), by azimuthal equidistant projection about their centre."""
    centred = position_C3 - np.array([0.0, 0.0, 0.04])
    radius = np.linalg.norm(centred, axis=1)
    polar = np.arccos(np.clip(centred[:, 2] / np.maximum(radius, 1e-9), -1, 1))
    angle = np.arctan2(centred[:, 1], centred[:, 0])
    return np.column_stack([polar * np.cos(angle), polar * np.sin(angle)])


def _plot_traces(axes: Axes, recording: Recording, qc: MeegQc, kind: str, when: str) -> None:
    """Ten seconds from the middle; bad channels first, so that they are among the traces shown."""
    factor, unit = SHOWN[kind]
    picks = sorted(recording.picks(kind), key=lambda at: recording.ch_names[at] not in qc.bads)[:MAX_TRACES]
    n_times = recording.signal_CT.shape[1]
    length = min(int(SECONDS * recording.sfreq), n_times)
    start = (n_times - length) // 2
    traces = np.asarray(recording.signal_CT[:, start : start + length])[picks] * factor
    traces = traces - np.nanmedian(traces, axis=1, keepdims=True)
    step = 6 * float(np.nanmedian(np.nanstd(traces, axis=1))) or 1.0
    times = (start + np.arange(length)) / recording.sfreq
    for row, (at, trace) in enumerate(zip(picks, traces, strict=True)):
        colour = BAD if recording.ch_names[at] in qc.bads else "black"
        axes.plot(times, np.clip(trace, -step, step) - row * step, color=colour, lw=0.5, rasterized=True)
    axes.set(yticks=-step * np.arange(len(picks)), xlabel="s")
    axes.set_title(f"{when}, {step:.3g} {unit} between traces", y=1)
    axes.set_yticklabels([recording.ch_names[at] for at in picks], fontsize=5)
    axes.set_xlim(times[0], times[-1] if length > 1 else times[0] + 1)
    axes.spines["left"].set_visible(False)
