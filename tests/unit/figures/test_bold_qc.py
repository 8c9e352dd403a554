from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from neuroloom.bold.preprocess import preprocess_parcels
from neuroloom.bold.quality import BoldQc
from neuroloom.bold.scrubbing import with_censored
from neuroloom.config import BoldConfig
from neuroloom.figures.bold_qc import plot_bold_qc
from neuroloom.records import Confounds, ParcelSeries


@pytest.fixture
def cleaned(rng: np.random.Generator) -> tuple[ParcelSeries, BoldQc]:
    bold_PV = (500 + rng.standard_normal((9, 60)).cumsum(axis=1)).astype(np.float32)
    bold_PV[4] = np.nan
    confounds = Confounds(["framewise_displacement"], rng.random((60, 1)))
    nowhere, none = np.full((9, 3), np.nan), np.zeros(9, int)
    series = ParcelSeries(bold_PV, list("abcdefghi"), nowhere, none, 2.0, "table", "0", "unknown", confounds)
    return preprocess_parcels(series=series, config=BoldConfig())


def panel(figure: Figure, word: str) -> Any:
    """The panel whose y label has a word."""
    return next(axes for axes in figure.axes if word in axes.get_ylabel())


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for axes in figure.axes for text in axes.texts)


def test_the_page_shows_the_arrays_of_the_qc(cleaned: tuple[ParcelSeries, BoldQc]) -> None:
    series, qc = cleaned
    figure = plot_bold_qc(qc, series, "sub-01")
    FigureCanvasAgg(figure).draw()
    movement, dvars, carpet, clean, spectra = (
        panel(figure, word) for word in ("FD", "DVARS", "8 parcels", "clean", "PSD")
    )
    np.testing.assert_array_equal(movement.lines[0].get_ydata(), qc.fd_V)
    np.testing.assert_array_equal(dvars.lines[0].get_ydata(), qc.dvars_V)
    np.testing.assert_array_equal(carpet.images[0].get_array(), qc.carpet_XV)
    np.testing.assert_allclose(clean.lines[-1].get_ydata(), np.nanmean(series.bold_PV, axis=0), atol=1e-5)
    np.testing.assert_array_equal(spectra.lines[1].get_ydata(), qc.psd_after_F[1:])
    assert figure.get_suptitle() == "sub-01"
    assert carpet.get_ylabel() == "8 parcels"
    assert "9 parcels, 1 empty" in texts(figure)
    assert "no motion parameters" not in texts(figure)


def test_missing_motion_and_notes_are_written_out(cleaned: tuple[ParcelSeries, BoldQc]) -> None:
    series, qc = cleaned
    bare = replace(qc, fd_V=None, fd_mean=np.nan, fd_max=np.nan, notes=("low_pass skipped",), unit="as stored")
    figure = plot_bold_qc(bare, series, "x")
    assert panel(figure, "FD").texts[0].get_text() == "no motion parameters"
    assert "low_pass skipped" in texts(figure)
    assert "as stored" in panel(figure, "clean").get_ylabel()


def test_what_was_done_is_written_and_censored_volumes_are_shaded(cleaned: tuple[ParcelSeries, BoldQc]) -> None:
    series, qc = cleaned
    censored_V = np.zeros(60, bool)
    censored_V[[4, 20]] = True
    marked = replace(series, confounds=with_censored(series.confounds, censored_V))
    done = replace(
        qc, motion="estimated", slice_timing="middle", smooth_mm=6.0, n_censored=2, coverage_min=0.75, n_confounds=3
    )
    figure = plot_bold_qc(done, marked, "x")
    assert len(panel(figure, "FD").patches) == len(panel(plot_bold_qc(qc, series, "x"), "FD").patches) + 2
    for words in ("found here, series realigned", "middle of the TR", "6 mm FWHM", "75%", "censored: 2 of 60 volumes"):
        assert words in texts(figure)


def test_pyplot_is_not_involved(cleaned: tuple[ParcelSeries, BoldQc]) -> None:
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    plot_bold_qc(*reversed(cleaned), "x")
    assert plt.get_fignums() == before
