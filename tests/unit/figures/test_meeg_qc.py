from dataclasses import replace

import numpy as np

from neuroloom.config import MeegConfig
from neuroloom.figures.meeg_qc import flat_positions, plot_meeg_qc
from neuroloom.records import Recording
from neuroloom.signals.preprocess import preprocess_meeg


def test_the_figure_shows_bad_channels_by_name_and_reason(recording: Recording) -> None:
    signal_CT = recording.signal_CT.copy()
    signal_CT[5] = 0
    before = replace(recording, signal_CT=signal_CT)
    config, rng = MeegConfig(ocular="none", muscle="none"), np.random.default_rng(0)
    after, qc = preprocess_meeg(recording=before, config=config, window=5.0, file="a", rng=rng)
    figure = plot_meeg_qc(before, after, qc, title="the_recording")
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert recording.ch_names[5] in words
    assert "the_recording" in figure.get_suptitle()
    assert "dead" in figure.get_supxlabel()
    assert len(figure.axes) == 4


def test_positions_seen_from_above_keep_front_and_left(recording: Recording) -> None:
    place_C2 = flat_positions(recording.position_C3)
    at = {name: place_C2[index] for index, name in enumerate(recording.ch_names)}
    assert at["Fz"][1] > at["Cz"][1] > at["Pz"][1]
    assert at["T7"][0] < at["Cz"][0] < at["T8"][0]
    assert np.linalg.norm(at["T7"]) > np.linalg.norm(at["C3"])
