"""Examples: which window is which, in batches of one shape, and what an encoder makes of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuroloom.artifacts import open_artifact
from neuroloom.evaluation.examples import Examples, Pieces, check_levels, encoder_inputs, mean_features
from neuroloom.evaluation.splits import LeakError
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.segments import Segments


def test_windows_of_one_shape_stand_together(toy_examples: Any, rng: np.random.Generator) -> None:
    examples = toy_examples(rng, n_people=4, n=6)
    alike = examples.alike()
    assert [len(windows_N) for windows_N in alike] == [18, 6]
    assert alike[1].tolist() == list(range(12, 18))
    asked_N = np.array([19, 0, 7])
    signal_BCT, positions_BC6, types_BC = examples.read(asked_N)
    for row, (recording, segment) in enumerate([(3, 1), (0, 0), (1, 1)]):
        assert (signal_BCT[row] == examples.corpus[recording].signal_NCT[segment]).all()
    assert (positions_BC6.shape, types_BC.shape) == ((3, 5, 6), (3, 5))
    assert examples.recordings_W[[0, 6, 23]].tolist() == ["r0", "r1", "r3"]
    assert examples.starts_W[:3].tolist() == [0, 100, 200]


def test_segments_of_a_store_are_pieces(store: Path, toy_encoder: Any) -> None:
    pieces: Pieces = Segments(open_artifact(store), sfreq=100.0)
    given = [
        np.zeros(4, int),
        np.array([0, 3, 4, 9]),
        np.array(["a", "b"] * 2),
        np.array(["s"] * 4),
        np.array([""] * 4),
    ]
    examples = Examples([pieces], *given)
    assert mean_features(toy_encoder(), examples).shape == (4, 12)
    assert examples.common_signals().shape == (4, 19, 200)
    assert examples.starts_W.tolist() == [0, 1500, 2000, 4500]


def test_a_smaller_training_part_keeps_the_windows(toy_examples: Any, rng: np.random.Generator) -> None:
    examples = toy_examples(rng)
    few = examples.with_train(["r0", "r3"])  # r3 validates
    assert set(few.recordings_W[few.parts_W == "train"]) == {"r0"}
    assert ((few.parts_W == examples.parts_W) | (few.parts_W == "")).all()
    assert set(few.recordings_W[few.parts_W == "validation"]) == {"r3", "r8"}
    assert few.same_windows(examples)
    assert not examples.subset(np.arange(20)).same_windows(examples)
    assert examples.subset(np.arange(12, 15)).recordings_W.tolist() == ["r1"] * 3


def test_readers_without_positions_get_the_channels_that_all_have(toy_examples: Any, rng: np.random.Generator) -> None:
    examples = toy_examples(rng, n_people=3, n=4)
    first, second, _ = examples.corpus
    second.signal_NCT, second.ch_names = second.signal_NCT[:, ::-1], second.ch_names[::-1]
    x_WCT = examples.common_signals()
    assert x_WCT.shape == (12, 4, 100)
    assert (x_WCT[1] == first.signal_NCT[1, :4]).all()
    assert (x_WCT[5] == second.signal_NCT[1, :0:-1]).all()
    second.ch_names = ["a", "b", "c", "d", "e"]
    with pytest.raises(ConfigError, match="3 recordings share 0 channels"):
        examples.common_signals()
    second.ch_names, second.sfreq = first.ch_names, 50.0
    with pytest.raises(ConfigError, match="2 lengths or rates"):
        examples.common_signals()


def test_inputs_and_features_are_those_of_each_window(
    toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples, encoder = toy_examples(rng, n_people=5, n=30), toy_encoder().eval()
    groups = encoder_inputs(encoder, examples)
    features_WD = mean_features(encoder, examples)
    assert [group.inputs[0].shape for group in groups] == [(120, 5, 5, 20), (30, 4, 5, 20)]
    for group in groups:
        for row in (0, 7, 29):
            window = group.windows_N[row]
            given = [torch.from_numpy(one) for one in examples.read(np.array([window]))]
            assert torch.equal(group.inputs[0][row], encoder.inputs(*given)[0][0])
            tokens_ND = encoder(*encoder.inputs(*given))[0].detach().numpy()
            np.testing.assert_allclose(features_WD[window], tokens_ND.mean(axis=0), rtol=0, atol=1e-5)
            np.testing.assert_allclose(group.level_NC[row], given[0][0].mean(dim=-1), rtol=0, atol=1e-6)


def test_half_precision_is_widened(toy_examples: Any, toy_encoder: Any, rng: np.random.Generator) -> None:
    group = encoder_inputs(toy_encoder(), toy_examples(rng, n_people=1))[0]
    half = replace(group, inputs=(group.inputs[0].bfloat16(), torch.arange(12)))
    values, codes = half.rows(np.array([3, 1]))
    assert (values.dtype, codes.dtype) == (torch.float32, torch.int64)
    assert codes.tolist() == [3, 1]


def test_a_planted_trigger_channel_is_refused_by_its_level(
    toy_examples: Any, toy_encoder: Any, rng: np.random.Generator
) -> None:
    examples = toy_examples(rng)
    check_levels(encoder_inputs(toy_encoder(), examples), examples.labels_W, examples.parts_W)
    for window, label in enumerate(examples.labels_W):
        at, row = examples.recording_W[window], examples.segment_W[window]
        examples.corpus[at].signal_NCT[row, 3] += 5.0 * (label == "left")
    groups = encoder_inputs(toy_encoder(), examples)
    with pytest.raises(LeakError, match=r"mean of each channel over a window, \d+ windows: feature 3 is the label"):
        check_levels(groups, examples.labels_W, examples.parts_W)
    check_levels(groups, rng.permutation(examples.labels_W), examples.parts_W)
    check_levels(groups, examples.labels_W, np.full(len(examples), ""))


def test_windows_that_are_not_there_are_refused(toy_examples: Any, rng: np.random.Generator) -> None:
    examples = toy_examples(rng, n_people=2, n=4)
    with pytest.raises(ValueError, match=r"\[7, 8\] windows"):
        replace(examples, labels_W=examples.labels_W[:7])
    with pytest.raises(ValueError, match="r1: piece 4 of 4"):
        replace(examples, segment_W=examples.segment_W + examples.recording_W)
    with pytest.raises(ValueError, match="recording 2 of 2"):
        replace(examples, recording_W=examples.recording_W + 1)
