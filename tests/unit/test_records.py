from dataclasses import replace

import numpy as np

from neuroloom.records import Recording
from neuroloom.signals.streams import pick


def test_orientation_is_the_normal_of_a_coil_or_the_direction_of_a_planar_difference(recording: Recording) -> None:
    loc_C12 = np.zeros((19, 12), np.float32)
    loc_C12[:, 3:6], loc_C12[:, 9:12] = [1, 0, 0], [0, 0, 1]
    coil_C = np.ones(19, np.int32)
    coil_C[:2] = 3024, 3012
    mixed = replace(recording, loc_C12=loc_C12, coil_C=coil_C, ch_types=["mag", "grad"] + ["eeg"] * 17)
    np.testing.assert_array_equal(mixed.orientation_C3[:3], [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


def test_picking_keeps_all_lists_together(recording: Recording) -> None:
    types = ["misc" if at % 2 else "eeg" for at in range(19)]
    picked = pick(replace(recording, ch_types=types), "eeg")
    assert picked.ch_names == recording.ch_names[::2]
    np.testing.assert_array_equal(picked.load().signal_CT, recording.signal_CT[::2])
    np.testing.assert_array_equal(picked.loc_C12, recording.loc_C12[::2])
    assert pick(recording, "eeg") is recording, "nothing to leave out, nothing to copy"
