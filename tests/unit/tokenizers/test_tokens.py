"""Tokens of a device: codes computed as they are written, padding, and the way into a store and back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuroloom.artifacts import open_artifact, write_artifact
from neuroloom.tokenizers.base import Tokens
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.tokens import AT_ONCE, PADDING, TokenSet, TokenStream, batches, encode_device, encode_segments
from neuroloom.windows import WindowReader

SFREQ = 64.0
FACTS = {"name": "mine", "kind": "braintokenizer", "fold": 2, "device": "demo-a-eeg"}


class Pieces:
    """As much of `Segments` as is read here."""

    def __init__(self, seed: int, n_segments: int, n_channels: int, name: str) -> None:
        rng = np.random.default_rng(seed)
        self.signal_BCT = rng.normal(size=(n_segments, n_channels, 128)).astype(np.float32)
        self.positions_C6 = rng.normal(size=(n_channels, 6)).astype(np.float32)
        self.sensor_type_C = np.zeros(n_channels, np.int64)
        self.recording, self.sfreq = name, SFREQ
        self.n_channels, self.n_times = self.signal_BCT.shape[1:]
        self.start_N = 128 * (np.arange(n_segments) + seed)

    def __len__(self) -> int:
        return len(self.signal_BCT)

    def sensors(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.stack([self.positions_C6] * count), np.stack([self.sensor_type_C] * count)

    def read(self, first: int, count: int = 1) -> np.ndarray:
        assert count <= AT_ONCE
        return self.signal_BCT[first : first + count]


class Signs:
    """A tokenizer whose latents are channels: the sign of the mean of each half, and a code of the channel."""

    sfreq, step, codebook_sizes = SFREQ, 1.0, (2, 64)

    def encode(self, signal_BCT: Any, positions_BC6: Any, sensor_type_BC: Any, overlap: float = 0.0) -> Tokens:
        codes_BCS = (signal_BCT.reshape(*signal_BCT.shape[:2], 2, -1).mean(-1) > 0).astype(np.int64)
        channel_BCS = np.broadcast_to(np.arange(signal_BCT.shape[1])[None, :, None], codes_BCS.shape)
        codes_BCSQ = np.stack([codes_BCS, channel_BCS], axis=-1)
        return Tokens(codes_BCSQ, codes_BCSQ.astype(np.float32))


@pytest.fixture
def corpus() -> list[Any]:
    return [Pieces(1, 11, 5, "sub-01"), Pieces(2, 3, 7, "sub-02"), Pieces(3, 9, 4, "sub-03")]


@pytest.fixture
def model() -> BrainTokenizer:
    torch.manual_seed(41)
    config = BrainTokenizerConfig(
        window_length=64, n_filters=4, ratios=(4, 2), embed_dim=16, num_heads=2, n_latents=4, codebook_size=16
    )
    return BrainTokenizer(config, SFREQ).eval()


def all_codes(tokenizer: Any, corpus: list[Any], overlap: float = 0.0) -> list[np.ndarray]:
    codes = []
    for pieces in corpus:
        places = np.stack([pieces.positions_C6] * len(pieces)), np.stack([pieces.sensor_type_C] * len(pieces))
        codes.append(np.asarray(tokenizer.encode(pieces.signal_BCT, *places, overlap).codes))
    return codes


@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_a_stream_equals_encoding_all_at_once(model: BrainTokenizer, corpus: list[Any], overlap: float) -> None:
    stream, expected = TokenStream(model, corpus, overlap=overlap), np.concatenate(all_codes(model, corpus, overlap))
    assert stream.shape == expected.shape
    np.testing.assert_array_equal(stream[:], expected)
    for first, stop in ((0, 1), (10, 12), (3, 20), (13, 23), (22, 99)):
        np.testing.assert_array_equal(stream[first:stop], expected[first:stop])
    np.testing.assert_array_equal(stream[5:15, 1:3, ::2], expected[5:15, 1:3, ::2])
    assert stream[:].dtype == stream.dtype == np.uint16


def test_a_segment_is_encoded_with_its_sensors(model: BrainTokenizer, corpus: list[Any]) -> None:
    signal_BCT, tokens = encode_segments(model, corpus[0], 4, 3)
    np.testing.assert_array_equal(signal_BCT, corpus[0].signal_BCT[4:7])
    np.testing.assert_array_equal(tokens.codes, all_codes(model, corpus)[0][4:7])
    assert [*batches(corpus[0])] == [(0, 8), (8, 3)]


def test_recordings_with_fewer_latents_are_padded(corpus: list[Any]) -> None:
    stream, expected = TokenStream(Signs(), corpus), all_codes(Signs(), corpus)
    assert stream.shape == (23, 7, 2, 2)
    codes_NLSQ = stream[:]
    for rows, codes in zip((slice(0, 11), slice(11, 14), slice(14, 23)), expected, strict=True):
        np.testing.assert_array_equal(codes_NLSQ[rows, : codes.shape[1]], codes)
        assert (codes_NLSQ[rows, codes.shape[1] :] == PADDING).all()
    assert (codes_NLSQ == PADDING).sum() == (11 * 2 + 9 * 3) * 4


@pytest.mark.parametrize("kind", ["latents", "channels"])
def test_tokens_go_into_a_store_and_back(model: BrainTokenizer, corpus: list[Any], tmp_path: Path, kind: str) -> None:
    tokenizer: Any = model if kind == "latents" else Signs()
    tokens, expected = encode_device(tokenizer, corpus, **FACTS, overlap=0.0), all_codes(tokenizer, corpus)
    write_artifact(tmp_path / "t.zarr", "tokens", arrays=tokens.arrays(), attrs=tokens.attrs(), window=1)
    artifact = open_artifact(tmp_path / "t.zarr")
    back = TokenSet.from_artifact(artifact)
    for pieces, codes in zip(corpus, expected, strict=True):
        np.testing.assert_array_equal(back.codes_of(pieces.recording), codes)
        np.testing.assert_array_equal(tokens.codes_of(pieces.recording), codes)
        assert back.codes_of(pieces.recording).dtype == np.int64
    assert back.recordings == ["sub-01", "sub-02", "sub-03"]
    assert np.bincount(back.recording_N).tolist() == [11, 3, 9]
    np.testing.assert_array_equal(back.start_N, np.concatenate([pieces.start_N for pieces in corpus]))
    assert back.attrs() == tokens.attrs()
    assert (back.tokenizer, back.device, back.fold, back.codebook_sizes) == (
        *("mine", "demo-a-eeg", 2),
        tokenizer.codebook_sizes,
    )
    assert artifact.to_xarray()["codes"].dims == ("window", "latent", "step", "quantizer")


def test_a_store_without_the_recording_says_so(corpus: list[Any]) -> None:
    with pytest.raises(ValueError, match="sub-09"):
        encode_device(Signs(), corpus, **FACTS, overlap=0.0).codes_of("sub-09")


def test_rows_of_a_store_are_read_as_windows(corpus: list[Any], tmp_path: Path) -> None:
    tokens = encode_device(Signs(), corpus, **FACTS, overlap=0.0)
    write_artifact(tmp_path / "t.zarr", "tokens", arrays=tokens.arrays(), attrs=tokens.attrs(), window=1)
    reader, expected = WindowReader(open_artifact(tmp_path / "t.zarr")), tokens.codes_NLSQ[:]
    assert (len(reader), reader.shape, reader.dtype) == (23, (1, 7, 2, 2), np.uint16)
    np.testing.assert_array_equal(reader.read(0, 23)[:, 0], expected)
    np.testing.assert_array_equal(reader.read(13, 2)[:, 0], expected[13:15])
    np.testing.assert_array_equal(reader.read(22)[0, 0], expected[22])


def test_equal_tokens_have_equal_digests(corpus: list[Any], tmp_path: Path) -> None:
    tokens = encode_device(Signs(), corpus, **FACTS, overlap=0.0)
    digests = {
        write_artifact(tmp_path / f"{at}.zarr", "tokens", arrays=tokens.arrays(), attrs=tokens.attrs(), window=1)[
            "digest"
        ]
        for at in range(2)
    }
    assert len(digests) == 1
