"""QC figure of one BOLD recording: head movement, DVARS, carpet, parcel series and spectra on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neuroloom.bold.quality import BoldQc
from neuroloom.bold.scrubbing import kept_volumes
from neuroloom.figures.style import AFTER, BAD, BEFORE, figure_style
from neuroloom.records import Array, ParcelSeries

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOTION = {"given": "came with the series", "estimated": "found here, series realigned", "unknown": "none"}
FD_LIMIT_MM = 0.5
DVARS_LIMIT = 1.5


def plot_bold_qc(qc: BoldQc, series: ParcelSeries, title: str) -> Figure:
    """Draw the QC page.

    Parameters
    ----------
    qc : BoldQc
    series : ParcelSeries
        The clean series that `qc` belongs to.
    title : str
        Usually the recording's name.

    Returns
    -------
    matplotlib.figure.Figure
        Left, on one time axis: framewise displacement, DVARS, carpet, clean parcel series with their mean. Right:
        spectra before and after, and the facts. Censored volumes are shaded.
    """
    from matplotlib.figure import Figure

    with figure_style():
        # a layout that is found by measuring every text takes as long as the rest of the figure
        figure = Figure(figsize=(10.5, 5.6))
        figure.set_layout_engine("none")
        figure.suptitle(title, x=0.01, y=0.99, ha="left", weight="bold", fontsize=8)
        wide = figure.add_gridspec(4, 1, height_ratios=(0.7, 0.7, 2.6, 1.4))
        wide.update(left=0.065, right=0.625, bottom=0.08, top=0.945, hspace=0.12)
        narrow = figure.add_gridspec(2, 1, height_ratios=(3.2, 1.4))
        narrow.update(left=0.735, right=0.99, bottom=0.08, top=0.945, hspace=0.24)
        rows = [figure.add_subplot(wide[row]) for row in range(4)]
        for axes in rows[1:]:
            axes.sharex(rows[0])
        time_V = np.arange(qc.n_volumes) * qc.t_r
        _draw_trace(rows[0], time_V, qc.fd_V, label="FD (mm)", limit=FD_LIMIT_MM, absent="no motion parameters")
        _draw_trace(rows[1], time_V, qc.dvars_V, label="DVARS", limit=DVARS_LIMIT, absent="no DVARS")
        _draw_carpet(rows[2], qc)
        _draw_series(rows[3], time_V, series.bold_PV, unit=qc.unit)
        for at in np.flatnonzero(~kept_volumes(series.confounds)) * qc.t_r:
            for axes in (rows[0], rows[1], rows[3]):
                axes.axvspan(at - qc.t_r / 2, at + qc.t_r / 2, color=BAD, alpha=0.15, lw=0)
        for axes in rows[:3]:
            axes.tick_params(labelbottom=False)
        rows[3].set_xlabel("time (s)")
        _draw_spectra(figure.add_subplot(narrow[0]), qc)
        _write_facts(figure.add_subplot(narrow[1]), qc)
    return figure


def _draw_trace(axes: Any, time_V: Array, values_V: Array | None, *, label: str, limit: float, absent: str) -> None:
    axes.set_ylabel(label)
    if values_V is None or not np.isfinite(values_V).any():
        axes.text(0.5, 0.5, absent, transform=axes.transAxes, ha="center", va="center", color=BAD)
        axes.set_yticks([])
        return
    axes.plot(time_V, values_V, color=AFTER, lw=0.9)
    axes.axhline(limit, color=BAD, lw=0.8, ls="--")
    axes.set_ylim(0, max(1.3 * limit, 1.05 * float(np.nanmax(values_V))))
    axes.text(1, limit, f" {limit:g}", transform=axes.get_yaxis_transform(), color=BAD, fontsize=7, va="center")


def _draw_carpet(axes: Any, qc: BoldQc) -> None:
    """Rows are voxels sorted by parcel; the strip at the left changes its grey with the parcel."""
    n_rows, n_volumes = qc.carpet_XV.shape
    end = (n_volumes - 0.5) * qc.t_r
    extent = (-qc.t_r / 2, end, n_rows, 0)
    image = axes.imshow(
        qc.carpet_XV, aspect="auto", cmap="gray", vmin=-2.5, vmax=2.5, extent=extent, interpolation="nearest"
    )
    strip = axes.inset_axes((-0.018, 0, 0.013, 1))
    _, index = np.unique(qc.carpet_parcel_X, return_inverse=True)
    strip.imshow((index % 2)[:, None], aspect="auto", cmap="gray", vmin=-0.6, vmax=1.4, interpolation="nearest")
    strip.set_axis_off()
    axes.set_yticks([])
    what = "voxels by parcel" if qc.n_mask_voxels else "parcels"
    axes.set_ylabel(f"{n_rows} {what}", labelpad=14)
    axes.figure.colorbar(image, cax=axes.inset_axes((1.01, 0, 0.015, 1)), label="z")


def _draw_series(axes: Any, time_V: Array, bold_PV: Array, *, unit: str) -> None:
    filled_PV = bold_PV[~np.isnan(bold_PV).any(axis=1)]
    low_V, high_V = np.percentile(filled_PV, [10, 90], axis=0)
    axes.fill_between(time_V, low_V, high_V, color=AFTER, alpha=0.2, lw=0, label="10-90 % of parcels")
    rows = np.unique(np.linspace(0, len(filled_PV) - 1, min(4, len(filled_PV))).astype(int))
    axes.plot(time_V, filled_PV[rows].T, lw=0.5, color=BEFORE, alpha=0.6)
    axes.plot([], [], lw=0.5, color=BEFORE, label=f"{len(rows)} of {len(filled_PV)} parcels")
    axes.plot(time_V, filled_PV.mean(axis=0), color=AFTER, lw=1.3, label="mean of parcels")
    axes.set_ylabel("clean BOLD (%)" if unit == "%" else "clean BOLD\n(as stored)")
    reach = 1.6 * float(np.percentile(np.abs(filled_PV), 99))
    axes.set_ylim(-reach, reach)
    axes.legend(loc="upper right", ncols=3)


def _draw_spectra(axes: Any, qc: BoldQc) -> None:
    kept = qc.frequency_F > 0
    axes.semilogy(qc.frequency_F[kept], qc.psd_before_F[kept], color=BEFORE, label="before")
    axes.semilogy(qc.frequency_F[kept], qc.psd_after_F[kept], color=AFTER, label="after")
    for cutoff in (qc.high_pass, qc.low_pass):
        if np.isfinite(cutoff):
            axes.axvline(cutoff, color=BAD, lw=0.8, ls="--")
    top = max(qc.psd_before_F[kept].max(), qc.psd_after_F[kept].max())
    axes.set_ylim(top * 1e-6, top * 3)
    axes.set_xlabel("frequency (Hz)")
    axes.set_ylabel("PSD (%²/Hz)" if qc.unit == "%" else "PSD (unit²/Hz)")
    axes.legend()


def _write_facts(axes: Any, qc: BoldQc) -> None:
    import textwrap

    facts = [
        f"{qc.n_volumes} volumes, TR {qc.t_r:g} s, {qc.space} space",
        f"{qc.atlas}: {qc.n_parcels} parcels, {qc.n_empty_parcels} empty",
        f"mask: {qc.mask}" + (f", {qc.n_mask_voxels} voxels" if qc.n_mask_voxels else ""),
        f"tSNR {qc.tsnr_median:.1f}" if np.isfinite(qc.tsnr_median) else "",
        f"FD {qc.fd_mean:.2f} mm, at most {qc.fd_max:.2f} mm" if np.isfinite(qc.fd_mean) else "",
        f"motion parameters: {_MOTION[qc.motion]}",
        f"slices brought to the {qc.slice_timing} of the TR" if qc.slice_timing != "none" else "",
        f"smoothed, {qc.smooth_mm:g} mm FWHM" if np.isfinite(qc.smooth_mm) else "",
        f"least covered parcel: {qc.coverage_min:.0%}" if np.isfinite(qc.coverage_min) else "",
        f"confounds regressed: {qc.n_confounds}",
        f"censored: {qc.n_censored} of {qc.n_volumes} volumes" if qc.n_censored else "",
        *qc.notes,
    ]
    lines = [line for fact in filter(None, facts) for line in textwrap.wrap(fact, 56, subsequent_indent="  ")]
    shown = lines if len(lines) <= 13 else [*lines[:12], "..."]
    axes.text(0, 1, "\n".join(shown), transform=axes.transAxes, va="top", fontsize=6)
    axes.set_axis_off()
