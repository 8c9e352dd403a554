from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import firwin

from neuroloom.records import Recording
from neuroloom.signals.components import Components, find_components


def contracted(recording: Recording, name: str, *, starts: tuple[float, ...], seed: int = 5) -> np.ndarray:
    """Bursts of 1.5 s of 25 µV in 20 to 70 Hz, largest at one electrode and seen by its neighbours, (C, T)."""
    n_times, sfreq = recording.signal_CT.shape[1], recording.sfreq
    kernel = firwin(201, (20.0, 70.0), fs=sfreq, pass_zero=False)
    noise_T = np.convolve(np.random.default_rng(seed).standard_normal(n_times), kernel, mode="same")
    during_T = np.zeros(n_times)
    for start in starts:
        during_T[int(start * sfreq) : int((start + 1.5) * sfreq)] = 1
    distance_C = np.linalg.norm(recording.position_C3 - recording.position_C3[recording.ch_names.index(name)], axis=1)
    return 25e-6 * np.outer(np.exp(-((distance_C / 0.04) ** 2) / 2), noise_T / noise_T.std() * during_T)


def find(recording: Recording, *, bads: dict[str, str] | None = None, fast: bool = True) -> Components:
    return find_components(recording, [recording.signal_CT], bads or {}, fast=fast, seed=1)


def test_maps_and_filters_belong_together(recording: Recording) -> None:
    found = find(recording)
    assert len(found) == 18
    np.testing.assert_allclose(found.filters_KC @ found.maps_CK, np.eye(18), atol=1e-6)


def test_a_component_goes_and_the_others_stay(recording: Recording) -> None:
    found = find(recording)
    left_KC = found.filters_KC @ found.without([2, 5])
    assert np.abs(left_KC[[2, 5]]).max() < 1e-6 * np.abs(found.filters_KC).max()
    kept = [at for at in range(18) if at not in (2, 5)]
    np.testing.assert_allclose(left_KC[kept], found.filters_KC[kept], atol=1e-6 * np.abs(found.filters_KC).max())


def test_the_fast_sample_shows_where_a_muscle_is(recording: Recording) -> None:
    muscle_CT = contracted(recording, "T7", starts=(4.0, 11.0))
    spoilt = replace(recording, signal_CT=(recording.signal_CT + muscle_CT).astype(np.float32))
    map_C = muscle_CT[:, np.abs(muscle_CT).max(axis=0).argmax()]
    best = {
        fast: max(abs(np.corrcoef(map_C, found_C)[0, 1]) for found_C in find(spoilt, fast=fast).maps_CK.T)
        for fast in (False, True)
    }
    assert best[True] > 0.98
    assert best[True] > best[False]


def test_one_glitch_is_not_all_there_is_to_decompose(recording: Recording) -> None:
    muscle_CT = contracted(recording, "T7", starts=(4.0, 11.0))
    spoilt_CT = recording.signal_CT + muscle_CT
    spoilt_CT[:, 2000] += 5e-3 * np.random.default_rng(0).standard_normal(19)
    found = find(replace(recording, signal_CT=spoilt_CT.astype(np.float32)))
    map_C = muscle_CT[:, np.abs(muscle_CT).max(axis=0).argmax()]
    assert max(abs(np.corrcoef(map_C, found_C)[0, 1]) for found_C in found.maps_CK.T) > 0.98


def test_equal_seeds_find_equal_components(recording: Recording) -> None:
    np.testing.assert_array_equal(find(recording).filters_KC, find(recording).filters_KC)


def test_bad_channels_take_no_part(recording: Recording) -> None:
    found = find(recording, bads={"Fp1": "dead", "Pz": "flat"})
    assert len(found.picks) == 17
    assert not {recording.ch_names.index("Fp1"), recording.ch_names.index("Pz")} & set(found.picks)


def test_what_cannot_be_decomposed_says_why(recording: Recording) -> None:
    few = {name: "dead" for name in recording.ch_names[5:]}
    assert find(recording, bads=few).note == "no components: 5 good EEG channels, 8 needed"
    short = replace(recording, signal_CT=recording.signal_CT[:, :200])
    assert "too short" in find(short).note
    none = find(replace(recording, ch_types=["mag"] * 19))
    assert (len(none), none.note) == (0, "")


@pytest.mark.parametrize("seconds", [0.4, 1.5])
def test_pieces_may_be_short(recording: Recording, seconds: float) -> None:
    length = int(seconds * recording.sfreq)
    pieces = [recording.signal_CT[:, at : at + length] for at in range(0, 5000 - length, length)]
    found = find_components(recording, pieces, {}, fast=True, seed=1)
    assert np.isfinite(found.filters_KC).all()
