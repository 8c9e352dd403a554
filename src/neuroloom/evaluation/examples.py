"""Labelled pieces of recordings, as regimes, audits and baselines read them, and what an encoder makes of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from neuroloom.evaluation.leaks import check_label_leak
from neuroloom.evaluation.splits import LeakError
from neuroloom.records import Array
from neuroloom.schema import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from neuroloom.models.base import Encoder

AT_ONCE = 64  # windows that go through an encoder together
FEWEST = 10  # windows, below which a mean that follows the labels may be chance


class Pieces(Protocol):
    """What is asked of `Segments`; a changed signal can stand in its place."""

    @property
    def recording(self) -> str:
        """Name."""
        ...

    @property
    def ch_names(self) -> list[str]:
        """Names of the channels."""
        ...

    @property
    def positions_C6(self) -> Array:
        """Position and orientation of each sensor."""
        ...

    @property
    def sensor_type_C(self) -> Array:
        """0 EEG, 1 magnetometer or axial gradiometer, 2 planar gradiometer."""
        ...

    @property
    def sfreq(self) -> float:
        """Hz."""
        ...

    @property
    def n_times(self) -> int:
        """Samples of a piece."""
        ...

    @property
    def start_N(self) -> Array:
        """First sample of each piece."""
        ...

    def __len__(self) -> int:
        """Number of pieces."""
        ...

    def read(self, first: int, count: int = 1) -> Array:
        """Pieces `first` to `first + count`, (count, C, T)."""
        ...


@dataclass(frozen=True)
class Group:
    """Windows of one shape, as an encoder (or a network) takes them.

    Attributes
    ----------
    windows_N : int array
        Which of the examples they are, in rising order.
    inputs : tuple of tensor
        One row for each window.
    level_NC : array
        Mean of each channel of each window.
    """

    windows_N: Array
    inputs: tuple[Tensor, ...]
    level_NC: Array | None = None

    def rows(self, rows_N: Array, device: str = "cpu") -> tuple[Tensor, ...]:
        """Inputs of some rows; numbers of half precision are widened."""
        import torch

        taken = [values[torch.from_numpy(rows_N)].to(device) for values in self.inputs]
        return tuple(one.float() if one.dtype in (torch.bfloat16, torch.float16) else one for one in taken)


@dataclass(frozen=True)
class Examples:
    """Windows of a task with what is asked of them.

    Attributes
    ----------
    corpus : sequence of Pieces
        Signals, one for each recording.
    recording_W, segment_W : int array
        Which of the corpus, and which piece of it, each window is.
    labels_W : array
        Names of classes, or values (floats).
    participants_W : array of str
    parts_W : array of str
        `train`, `validation`, `test`, or empty for a window of no part.

    Raises
    ------
    ValueError
        If lengths differ, or a window is not in the corpus.
    """

    corpus: Sequence[Pieces]
    recording_W: Array
    segment_W: Array
    labels_W: Array
    participants_W: Array
    parts_W: Array

    def __post_init__(self) -> None:
        given = (self.recording_W, self.segment_W, self.labels_W, self.participants_W, self.parts_W)
        if len(lengths := {len(one) for one in given}) > 1:
            raise ValueError(f"examples: attributes have {sorted(lengths)} windows; give one entry of each per window")
        for at, piece in enumerate(self.corpus):
            asked_N = self.segment_W[self.recording_W == at]
            if len(asked_N) and not (asked_N.min() >= 0 and asked_N.max() < len(piece)):
                raise ValueError(
                    f"{piece.recording}: piece {asked_N.max()} of {len(piece)} is asked for; label its own"
                )
        if len(self) and not (self.recording_W.min() >= 0 and self.recording_W.max() < len(self.corpus)):
            raise ValueError(f"examples: recording {self.recording_W.max()} of {len(self.corpus)}; number the corpus")

    def __len__(self) -> int:
        """Windows."""
        return len(self.recording_W)

    @property
    def recordings_W(self) -> Array:
        """Name of the recording of each window."""
        return np.array([piece.recording for piece in self.corpus], dtype=str)[self.recording_W]

    @property
    def starts_W(self) -> Array:
        """First sample of each window in its recording, at the rate of the store."""
        starts = [self.corpus[at].start_N[row] for at, row in zip(self.recording_W, self.segment_W, strict=True)]
        return np.array(starts, dtype=np.int64)

    def subset(self, windows_N: Array) -> Examples:
        """Some of the windows."""
        rows = {name: getattr(self, name)[windows_N] for name in ("recording_W", "segment_W", "labels_W", "parts_W")}
        return replace(self, participants_W=self.participants_W[windows_N], **rows)

    def with_train(self, recordings: Collection[str]) -> Examples:
        """The same windows with a smaller training part (`splits.few_shot`): other recordings leave it."""
        lost_W = (self.parts_W == "train") & ~np.isin(self.recordings_W, list(recordings))
        return replace(self, parts_W=np.where(lost_W, "", self.parts_W))

    def same_windows(self, other: Examples) -> bool:
        """Whether the windows are the same, whatever is asked of them."""
        return (
            len(self.corpus) == len(other.corpus)
            and all(one is another for one, another in zip(self.corpus, other.corpus, strict=True))
            and np.array_equal(self.recording_W, other.recording_W)
            and np.array_equal(self.segment_W, other.segment_W)
        )

    def alike(self) -> list[Array]:
        """Windows of one number of channels and samples together, each group in rising order."""
        shapes = [(len(piece.ch_names), piece.n_times) for piece in self.corpus]
        of_shape: dict[tuple[int, int], list[int]] = {}
        for window, at in enumerate(self.recording_W):
            of_shape.setdefault(shapes[at], []).append(window)
        return [np.array(windows) for windows in of_shape.values()]

    def read(self, windows_N: Array) -> tuple[Array, Array, Array]:
        """Signals (B, C, T), positions (B, C, 6) and types (B, C) of windows of one shape, in their order."""
        pieces = [self.corpus[at] for at in self.recording_W[windows_N]]
        rows = self.segment_W[windows_N]
        signal_BCT = np.concatenate([piece.read(int(row)) for piece, row in zip(pieces, rows, strict=True)])
        positions_BC6 = np.stack([piece.positions_C6 for piece in pieces]).astype(np.float32)
        return signal_BCT, positions_BC6, np.stack([piece.sensor_type_C for piece in pieces])

    def common_signals(self) -> Array:
        """Windows of those channels that all recordings have, (W, C, T), for readers that know no positions.

        Raises
        ------
        ConfigError
            If recordings share fewer than two channels, or pieces differ in length.
        """
        used = [self.corpus[at] for at in np.unique(self.recording_W)]
        shared = set.intersection(*(set(piece.ch_names) for piece in used)) if used else set()
        names = [name for name in used[0].ch_names if name in shared] if used else []
        lengths = sorted({(piece.n_times, piece.sfreq) for piece in used})
        if len(names) < 2 or len(lengths) > 1:
            raise ConfigError(
                f"{len(used)} recordings share {len(names)} channels and have {len(lengths)} lengths or rates; for "
                "readers without positions they need two channels or more, and one: ask fewer studies"
            )
        at_NC = {piece.recording: [piece.ch_names.index(name) for name in names] for piece in used}
        x_WCT = np.empty((len(self), len(names), lengths[0][0]), np.float32)
        for window, (at, row) in enumerate(zip(self.recording_W, self.segment_W, strict=True)):
            x_WCT[window] = self.corpus[at].read(int(row))[0, at_NC[self.corpus[at].recording]]
        return x_WCT


def encoder_inputs(encoder: Encoder, examples: Examples, *, device: str = "cpu") -> list[Group]:
    """What the encoder's `forward` reads of each window, kept in main memory, with the level of its channels."""
    import torch

    groups = []
    for windows_N in examples.alike():
        parts: list[tuple[Tensor, ...]] = []
        levels = []
        for at in range(0, len(windows_N), AT_ONCE):
            signal_BCT, *sensors = examples.read(windows_N[at : at + AT_ONCE])
            given = [torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in (signal_BCT, *sensors)]
            with torch.no_grad():
                parts.append(tuple(one.cpu() for one in encoder.inputs(*given)))
            levels.append(signal_BCT.mean(axis=-1))
        inputs = tuple(torch.cat(columns) for columns in zip(*parts, strict=True))
        groups.append(Group(windows_N, inputs, np.concatenate(levels)))
    return groups


def mean_features(encoder: Encoder, examples: Examples, *, device: str = "cpu") -> Array:
    """Mean over the tokens of each window, (W, D), by an encoder that stays as it is.

    Holds one batch of inputs and tokens at a time.
    """
    import torch

    encoder = encoder.to(device).eval()
    features_WD = np.empty((len(examples), encoder.embed_dim))
    for windows_N in examples.alike():
        for at in range(0, len(windows_N), AT_ONCE):
            batch_N = windows_N[at : at + AT_ONCE]
            given = [torch.from_numpy(np.ascontiguousarray(one)).to(device) for one in examples.read(batch_N)]
            with torch.no_grad():
                tokens_BND = encoder(*encoder.inputs(*given))
            features_WD[batch_N] = tokens_BND.double().mean(dim=1).cpu().numpy()
    return features_WD


def check_levels(groups: Sequence[Group], labels_W: Array, parts_W: Array) -> None:
    """Refuse a channel whose level is the label, such as a trigger that was taken for a sensor.

    Raises
    ------
    LeakError
        Naming the channel by its number, and how many windows show it.
    """
    for group in groups:
        used_N = np.flatnonzero(parts_W[group.windows_N] != "")
        if group.level_NC is None or len(used_N) < FEWEST:
            continue
        try:
            check_label_leak(group.level_NC[used_N].astype(np.float64), np.asarray(labels_W)[group.windows_N[used_N]])
        except LeakError as error:
            raise LeakError(f"mean of each channel over a window, {len(used_N)} windows: {error}") from None
