"""The tokens of a device: codes of all its recordings in one store, and which segment each row stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuroloom.artifacts import Artifact, open_artifact
from neuroloom.manifest import ArtifactError
from neuroloom.passes.mapping import CorpusMap
from neuroloom.quarantine import Quarantined
from neuroloom.records import Array
from neuroloom.tokenizers.base import Tokenizer, Tokens
from neuroloom.tokenizers.segments import Segments

PADDING = 65535  # in place of the latents that a recording lacks, where a latent is a channel
AT_ONCE = 8  # segments
PIECE = 32 * AT_ONCE  # segments that are one task


@dataclass(frozen=True)
class TokenSet:
    """Tokens of the recordings of one device.

    Attributes
    ----------
    codes_NLSQ : uint16 array, or what gives pieces of one
        N segments, L latents, S steps, Q quantizers; `PADDING` where a recording has fewer latents.
    recordings : list of str
    recording_N : int array
        Which of `recordings` each row is of.
    start_N : int array
        First sample of each row in the preprocessed store.
    tokenizer, kind, device : str
        Name in the config, method, and `<study>-<site>-<modality>`.
    fold : int
        Fold that was held out when the tokenizer was fitted.
    sfreq : float
        Rate of the signals that were encoded, Hz.
    step : float
        Time between two tokens of one latent, s.
    overlap : float
        Share of a window that the next one repeated.
    codebook_sizes : tuple of int
    digest : str
        Of the store that they were read from.
    """

    codes_NLSQ: Any
    recordings: list[str]
    recording_N: Array
    start_N: Array
    tokenizer: str
    kind: str
    fold: int
    device: str
    sfreq: float
    step: float
    overlap: float
    codebook_sizes: tuple[int, ...]
    digest: str = ""

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """Back from an opened artifact."""
        facts = {name: artifact.attrs[name] for name in artifact.spec.attrs if name != "codebook_sizes"}
        return cls(
            codes_NLSQ=artifact["codes"],
            recordings=list(artifact.read("recording")),
            recording_N=artifact.read("window_recording"),
            start_N=artifact.read("window_start"),
            codebook_sizes=tuple(artifact.attrs["codebook_sizes"]),
            digest=artifact.digest,
            **facts,
        )

    def arrays(self) -> dict[str, Any]:
        """Arrays of the artifact, by name."""
        return {
            "codes": self.codes_NLSQ,
            "recording": self.recordings,
            "window_recording": self.recording_N,
            "window_start": self.start_N,
        }

    def attrs(self) -> dict[str, Any]:
        """Root attributes of the artifact."""
        return {
            "tokenizer": self.tokenizer,
            "kind": self.kind,
            "fold": self.fold,
            "device": self.device,
            "sfreq": float(self.sfreq),
            "step": float(self.step),
            "overlap": float(self.overlap),
            "codebook_sizes": list(self.codebook_sizes),
        }

    def codes_of(self, recording: str) -> Array:
        """Codes of one recording, int64 (segments, latents, steps, quantizers), without padding."""
        rows = np.flatnonzero(self.recording_N == self.recordings.index(recording))
        codes_NLSQ = np.asarray(self.codes_NLSQ[int(rows[0]) : int(rows[-1]) + 1]).astype(np.int64)
        return codes_NLSQ[:, (codes_NLSQ != PADDING).any(axis=(0, 2, 3))]


def open_token_sets(manifests: Iterable[Path]) -> list[TokenSet]:
    """Tokens of each device that has any."""
    found = []
    for path in manifests:
        with suppress(Quarantined):
            found.append(TokenSet.from_artifact(open_artifact(path, kind="tokens")))
    return found


@lru_cache(maxsize=4)
def open_tokens(manifest: Path, digest: str) -> TokenSet:
    """Tokens of a device, opened once in each process that reads some recordings of it.

    Raises
    ------
    ArtifactError
        If the store is not the one with this digest.
    """
    artifact = open_artifact(manifest, kind="tokens")
    if artifact.digest != digest:
        raise ArtifactError(f"{manifest}: not the tokens this job began with. Run snakemake again")
    return TokenSet.from_artifact(artifact)


class TokenStream:
    """Codes of a corpus, computed as they are asked for: rows `first` to `stop`.

    Pieces come in the order of the rows, some of them ahead of the asking where `over` has more than one hand. What has
    been asked for is forgotten, and made again if it is asked for again.

    Parameters
    ----------
    tokenizer : Tokenizer
    corpus : sequence of Segments
        Of one length.
    overlap : float
    load : callable, optional
        Gives workers the tokenizer; by default they get this one.
    over : CorpusMap
    """

    dtype = np.dtype(np.uint16)
    ndim = 4

    def __init__(
        self,
        tokenizer: Tokenizer,
        corpus: Sequence[Segments],
        *,
        overlap: float = 0.0,
        load: Callable[[], Tokenizer] | None = None,
        over: CorpusMap = map,
    ) -> None:
        self._pieces = [piece for segments in corpus for piece in _pieces(segments)]
        self._first = np.cumsum([0, *(count for _, _, count in self._pieces)])
        self._encode = partial(_encode_piece, load or partial(_itself, tokenizer), overlap)
        self._coming = iter(over(self._encode, self._pieces))
        self._made: dict[int, Array] = {}
        self._n_made = 0
        # the shape follows from the number of sensors: one segment of each is encoded to see it
        by_shape = {(segments.n_channels, segments.n_times): segments for segments in corpus}
        shapes = np.array([_codes(tokenizer, segments, 0, 1, overlap).shape[1:] for segments in by_shape.values()])
        self.shape = (int(self._first[-1]), *(int(size) for size in shapes.max(axis=0)))

    def __getitem__(self, key: Any) -> Array:
        rows, *rest = key if isinstance(key, tuple) else (key,)
        first, stop, _ = rows.indices(self.shape[0])
        codes_NLSQ = np.full((max(stop - first, 0), *self.shape[1:]), PADDING, np.uint16)
        for number in np.flatnonzero((self._first[:-1] < stop) & (self._first[1:] > first)):
            at = int(self._first[number])
            part = slice(max(first - at, 0), stop - at)
            codes = self._piece(int(number))[part]
            to = max(at - first, 0)
            codes_NLSQ[to : to + len(codes), : codes.shape[1]] = codes
        self._made = {number: codes for number, codes in self._made.items() if self._first[number + 1] > stop}
        return codes_NLSQ[(slice(None), *rest)]

    def _piece(self, number: int) -> Array:
        while self._n_made <= number:
            self._made[self._n_made] = next(self._coming)
            self._n_made += 1
        return self._made[number] if number in self._made else self._encode(self._pieces[number])


def _pieces(segments: Segments) -> Iterator[tuple[Segments, int, int]]:
    """A recording, first and count of each of its pieces."""
    for first in range(0, len(segments), PIECE):
        yield segments, first, min(PIECE, len(segments) - first)


def _itself(tokenizer: Tokenizer) -> Tokenizer:
    return tokenizer


def _encode_piece(load: Callable[[], Tokenizer], overlap: float, piece: tuple[Segments, int, int]) -> Array:
    segments, first, count = piece
    batches = [(at, min(AT_ONCE, first + count - at)) for at in range(first, first + count, AT_ONCE)]
    return np.concatenate([_codes(load(), segments, *batch, overlap) for batch in batches]).astype(np.uint16)


def encode_segments(
    tokenizer: Tokenizer, segments: Segments, first: int, count: int, overlap: float = 0.0
) -> tuple[Array, Tokens]:
    """Some segments of a recording (count, C, T), and their tokens."""
    signal_BCT = segments.read(first, count)
    return signal_BCT, tokenizer.encode(signal_BCT, *segments.sensors(count), overlap)


def batches(segments: Segments) -> Iterator[tuple[int, int]]:
    """First and count of each batch of the segments of a recording."""
    for first in range(0, len(segments), AT_ONCE):
        yield first, min(AT_ONCE, len(segments) - first)


def encode_device(
    tokenizer: Tokenizer,
    corpus: Sequence[Segments],
    *,
    name: str,
    kind: str,
    fold: int,
    device: str,
    overlap: float,
    load: Callable[[], Tokenizer] | None = None,
    over: CorpusMap = map,
) -> TokenSet:
    """Tokens of the recordings of one device, computed while they are written.

    Parameters
    ----------
    tokenizer : Tokenizer
    corpus : sequence of Segments
    name, kind, fold, device, overlap
        As in `TokenSet`.
    load, over
        As in `TokenStream`.
    """
    return TokenSet(
        codes_NLSQ=TokenStream(tokenizer, corpus, overlap=overlap, load=load, over=over),
        recordings=[segments.recording for segments in corpus],
        recording_N=np.repeat(np.arange(len(corpus)), [len(segments) for segments in corpus]).astype(np.int32),
        start_N=np.concatenate([segments.start_N for segments in corpus]),
        tokenizer=name,
        kind=kind,
        fold=fold,
        device=device,
        sfreq=tokenizer.sfreq,
        step=tokenizer.step,
        overlap=overlap,
        codebook_sizes=tuple(tokenizer.codebook_sizes),
    )


def _codes(tokenizer: Tokenizer, segments: Segments, first: int, count: int, overlap: float) -> Array:
    return np.asarray(encode_segments(tokenizer, segments, first, count, overlap)[1].codes)
