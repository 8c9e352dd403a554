from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.records import Array, Recording
from neuroloom.signals.filters import apply_kernel, design_kernel
from neuroloom.signals.streams import Filled, Filtered, Mixed, Picked, Stream, draw_pieces, fill_gaps, read_pieces


class Counted(Stream):
    """Remembers what was asked of it."""

    def __init__(self, signal_CT: Array, *, reach: int = 0, grid: int = 1) -> None:
        super().__init__(signal_CT.shape, reach=reach, grid=grid)
        self.signal_CT, self.asked = signal_CT, []

    def read(self, first: int, stop: int) -> Array:
        self.asked.append((first, stop))
        return self.signal_CT[:, first:stop]


@pytest.fixture
def signal_CT(rng: np.random.Generator) -> Array:
    return (rng.standard_normal((4, 9000)) + np.array([[0.0], [300.0], [-4000.0], [5.0]])).astype(np.float32)


def filtered(signal_CT: Array, ratio: Fraction, *, sfreq: float = 250.0) -> Filtered:
    kernel = design_kernel(sfreq, l_freq=1.0, h_freq=40.0, notch_freqs=())
    return Filtered(signal_CT, kernel=kernel, level_C=np.median(signal_CT, axis=1), ratio=ratio)


@pytest.mark.parametrize("ratio", [Fraction(1), Fraction(4, 5), Fraction(25, 32), Fraction(5, 4), Fraction(128, 625)])
def test_pieces_equal_the_whole(signal_CT: Array, ratio: Fraction) -> None:
    stream = filtered(signal_CT, ratio)
    whole_CT = stream.read(0, stream.shape[1])
    assert whole_CT.shape == (4, -(-9000 * ratio.numerator // ratio.denominator))
    scale_C1 = whole_CT.std(axis=1, keepdims=True)
    for first, stop in [(0, 10), (7, 1234), (1300, 1301), (whole_CT.shape[1] - 500, whole_CT.shape[1])]:
        error_CT = (stream[:, first:stop] - whole_CT[:, first:stop]) / scale_C1
        assert np.abs(error_CT).max() < 1e-5, "float32 has seven digits"


def test_in_double_precision_pieces_equal_the_whole_to_1e_6(signal_CT: Array) -> None:
    """Relative to the largest value, as rounding of float32 is."""
    stream = filtered(signal_CT[[0, 3]], Fraction(4, 5))
    whole_CT = stream.read(0, stream.shape[1])
    parts_CT = np.concatenate([stream[:, at : at + 333] for at in range(0, stream.shape[1], 333)], axis=1)
    assert np.abs(parts_CT - whole_CT).max() < 1e-6 * np.abs(whole_CT).max()


def test_without_resampling_it_is_the_filter(signal_CT: Array) -> None:
    kernel = design_kernel(250.0, l_freq=1.0, h_freq=40.0)
    np.testing.assert_allclose(
        filtered(signal_CT, Fraction(1))[:, :], apply_kernel(signal_CT, kernel), atol=1e-3 * signal_CT[0].std()
    )


def test_a_sine_keeps_its_phase_through_resampling() -> None:
    times = np.arange(5000) / 250.0
    sine_CT = np.sin(2 * np.pi * 10 * times)[None].astype(np.float32)
    resampled_CT = filtered(sine_CT, Fraction(4, 5))[:, :]
    expected_T = np.sin(2 * np.pi * 10 * np.arange(4000) / 200.0)
    np.testing.assert_allclose(resampled_CT[0, 400:-400], expected_T[400:-400], atol=0.01)


def test_a_signal_shorter_than_the_kernel_is_filtered(rng: np.random.Generator) -> None:
    short_CT = rng.standard_normal((2, 50)).astype(np.float32)
    assert np.isfinite(filtered(short_CT, Fraction(4, 5))[:, :]).all()


def test_long_requests_become_pieces_on_the_grid(signal_CT: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuroloom.signals.streams.PIECE_VALUES", 4 * 1000)
    stream = Counted(signal_CT, grid=300)
    np.testing.assert_array_equal(stream[:, 600:9000], signal_CT[:, 600:])
    assert stream.asked[0] == (600, 1800)
    assert all((first - 600) % 300 == 0 for first, _ in stream.asked)


def test_gaps_are_bridged_held_and_level() -> None:
    nan = np.nan
    signal_T = np.array([nan, 1, nan, nan, 4, nan, nan, nan, nan, nan, 2, nan])
    np.testing.assert_allclose(fill_gaps(signal_T, radius=2, level=9.0), [1, 1, 2, 3, 4, 4, 4, 9, 2, 2, 2, 2])
    np.testing.assert_array_equal(fill_gaps(np.full(3, nan), radius=2, level=7.0), [7, 7, 7])


def test_gaps_are_filled_alike_in_pieces(signal_CT: Array, rng: np.random.Generator) -> None:
    for at in rng.integers(0, 8900, 40):
        signal_CT[rng.integers(4), at : at + rng.integers(1, 90)] = np.nan
    stream = Filled(signal_CT, sfreq=50.0, level_C=np.zeros(4))
    whole_CT = stream.read(0, 9000)
    assert np.isfinite(whole_CT).all()
    parts_CT = np.concatenate([stream[:, at : at + 37] for at in range(0, 9000, 37)], axis=1)
    np.testing.assert_array_equal(parts_CT, whole_CT)


def test_mixing_and_picking(signal_CT: Array) -> None:
    np.testing.assert_array_equal(Picked(signal_CT, np.array([2, 0]))[:, 5:9], signal_CT[[2, 0], 5:9])
    matrix = np.array([[1.0, -1.0, 0.0, 0.0]])
    np.testing.assert_allclose(Mixed(signal_CT, matrix)[:, 5:9], signal_CT[:1, 5:9] - signal_CT[1:2, 5:9])


def test_pieces_to_learn_from_are_spread_and_seeded() -> None:
    given = {"seconds": 20.0, "max_pieces": 20}
    assert draw_pieces(80_000, 200.0, rng=np.random.default_rng(0), **given) == [(0, 80_000)]
    spans = draw_pieces(800_000, 200.0, rng=np.random.default_rng(0), **given)
    assert len(spans) == 20
    assert all(stop - first == 4000 for first, stop in spans)
    assert all(at * 40_000 <= first < stop <= (at + 1) * 40_000 for at, (first, stop) in enumerate(spans))
    assert spans == draw_pieces(800_000, 200.0, rng=np.random.default_rng(0), **given)
    assert spans != draw_pieces(800_000, 200.0, rng=np.random.default_rng(1), **given)


def test_pieces_lie_side_by_side(signal_CT: Array) -> None:
    np.testing.assert_array_equal(read_pieces(signal_CT, [(0, 2), (10, 12)]), signal_CT[:, [0, 1, 10, 11]])


def test_a_stream_is_written_shard_by_shard(
    recording: Recording, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neuroloom.artifacts.SHARD_BYTES", 19 * 500 * 4 * 3)
    stream = Counted(recording.signal_CT)
    lazy = replace(recording, signal_CT=stream)
    write_artifact(f"{tmp_path}/a.zarr", "recording", arrays=lazy.arrays(), attrs=lazy.attrs(), window=500)
    asked = sorted(span for span in stream.asked if span[0] < span[1])
    assert asked == [(0, 1500), (1500, 3000), (3000, 4500), (4500, 5000)]
    back = Recording.from_artifact(open_artifact(f"{tmp_path}/a.zarr")).load()
    np.testing.assert_array_equal(back.signal_CT, recording.signal_CT)
