"""How BrainOmni is pretrained: some tokens are hidden, and their codes predicted, all levels at once.

Source: BrainOmni (arXiv 2505.18185) and its code. Against it: codes are read from their store, not made anew in every
step; a token that takes the place of a hidden one is of the same segment, not of the batch, so that what a segment is
shown as does not depend on which process has its neighbours. Beside the curve stand predictors that learn nothing
(`Nulls`), on the same hidden tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.base import Corpus
from neuroloom.models.brainomni import BrainOmni
from neuroloom.quarantine import UnusableRecording
from neuroloom.records import Array
from neuroloom.tokenizers.tokens import TokenSet
from neuroloom.training.data import Batches
from neuroloom.training.loop import train
from neuroloom.training.sampling import Draw, WindowSampler
from neuroloom.training.task import Task, groups_by_decay

VALIDATION_SEGMENTS = 4  # of each recording
COUNTED_AT_ONCE = 64  # segments
NOT_DECAYED = ("norm", "head.", "project.", "mask_D")
OF_THE_LOOP = ("step", "tokens", "lr", "seconds", "waiting_seconds", "grad_norm")


class CodeWindows:
    """The segments of one recording as codes, in the manner of `training.sampling.Windows`: latents stand for channels.

    Parameters
    ----------
    tokens : TokenSet
        Of the device.
    recording : str

    Raises
    ------
    UnusableRecording
        No segment, or a code that is not in the codebooks.
    """

    positions_C6 = np.zeros((0, 6), np.float32)
    sensor_type_C = np.zeros(0, np.int64)

    def __init__(self, tokens: TokenSet, recording: str) -> None:
        self.recording, self._tokens = recording, tokens
        self._rows = np.flatnonzero(tokens.recording_N == tokens.recordings.index(recording))
        if not len(self._rows):
            raise UnusableRecording(recording, f"no tokens of {tokens.tokenizer}", "tokenize the device again")
        self.n_channels, self.n_times = tokens.codes_NLSQ.shape[1:3]

    def __len__(self) -> int:
        """Number of segments."""
        return len(self._rows)

    def read(self, first: int, count: int = 1) -> Array:
        """Codes of segments, int64 (count, L, S, Q)."""
        rows = self._rows[first : first + count]
        codes_NLSQ = np.asarray(self._tokens.codes_NLSQ[int(rows[0]) : int(rows[-1]) + 1]).astype(np.int64)
        largest = codes_NLSQ.reshape(-1, codes_NLSQ.shape[-1]).max(axis=0)
        if (largest >= self._tokens.codebook_sizes).any():
            reason = f"codes up to {largest.max()} with codebooks of {self._tokens.codebook_sizes}"
            raise UnusableRecording(self.recording, reason, "tokenize it with a BrainTokenizer")
        return codes_NLSQ


@dataclass(frozen=True)
class CodeBatch:
    """Codes of some segments, int64 (B, L, S, Q), as a torch tensor; `rows` as in `Draw`."""

    codes_BLSQ: Tensor
    recordings: tuple[str, ...]
    rows: tuple[int, int, int]

    def to(self, device: Any) -> Self:
        """The batch on a device; from pinned memory nothing waits for the copy."""
        return replace(self, codes_BLSQ=self.codes_BLSQ.to(device, non_blocking=True))

    def pin(self) -> Self:
        """The batch in memory that a GPU copies from by itself."""
        return replace(self, codes_BLSQ=self.codes_BLSQ.pin_memory())


def read_codes(corpus: Sequence[CodeWindows], draw: Draw) -> CodeBatch:
    """Read the segments of a draw."""
    members = [corpus[at] for at in draw.recording_B]
    codes = [windows.read(int(at))[0] for windows, at in zip(members, draw.window_B, strict=True)]
    names = tuple(windows.recording for windows in members)
    return CodeBatch(torch.from_numpy(np.stack(codes)), names, draw.rows)


def count_codes(corpus: Sequence[CodeWindows], codebook_sizes: Sequence[int]) -> Array:
    """How often each code was seen, int64 (L, Q, K); zero beyond the end of a smaller codebook."""
    n_latents, largest = corpus[0].n_channels, max(codebook_sizes)
    counts_LQK = np.zeros((n_latents, len(codebook_sizes), largest), np.int64)
    places_LQ = np.arange(counts_LQK[..., 0].size).reshape(n_latents, 1, -1) * largest
    for windows in corpus:
        for first in range(0, len(windows), COUNTED_AT_ONCE):
            codes_BLSQ = windows.read(first, COUNTED_AT_ONCE)
            flat = (codes_BLSQ + places_LQ).ravel()
            counts_LQK += np.bincount(flat, minlength=counts_LQK.size).reshape(counts_LQK.shape)
    return counts_LQK


class Nulls:
    """Predictors that learn nothing but how often a code occurs.

    Parameters
    ----------
    counts_LQK : int array
        Of the training corpus; each code counts as seen once more, so that none is impossible.
    """

    def __init__(self, counts_LQK: Array) -> None:
        counts = torch.from_numpy(counts_LQK).double() + 1
        of_latent_LQK = (counts / counts.sum(-1, keepdim=True)).log().float()
        of_all_QK = (counts.sum(0) / counts.sum((0, 2))[:, None]).log().float()
        self._by_device = {torch.device("cpu"): (of_latent_LQK, of_all_QK)}

    def scores(self, codes_BLSQ: Tensor, hidden_BLS: Tensor) -> dict[str, Tensor]:
        """Sums over hidden tokens and levels.

        Returns
        -------
        dict
            `unigram`, `unigram_latent` : cross-entropy of the frequencies of codes in each level, and in each level and
            latent. `frequent` : hits of the most frequent code of a level and latent. `neighbour` : hits of the code of
            the step before (after, at the first one).
        """
        of_latent_LQK, of_all_QK = self._tables(codes_BLSQ.device)
        levels = torch.arange(codes_BLSQ.shape[-1], device=codes_BLSQ.device)
        latents = torch.arange(len(of_latent_LQK), device=codes_BLSQ.device)[:, None, None]
        scores = {
            "unigram": -of_all_QK[levels, codes_BLSQ],
            "unigram_latent": -of_latent_LQK[latents, levels, codes_BLSQ],
            "frequent": of_latent_LQK.argmax(-1)[:, None] == codes_BLSQ,
            "neighbour": torch.cat([codes_BLSQ[:, :, 1:2], codes_BLSQ[:, :, :-1]], dim=2) == codes_BLSQ,
        }
        return {name: (score * hidden_BLS[..., None]).sum() for name, score in scores.items()}

    def _tables(self, device: torch.device) -> tuple[Tensor, Tensor]:
        if device not in self._by_device:
            one, other = self._by_device[torch.device("cpu")]
            self._by_device[device] = (one.to(device), other.to(device))
        return self._by_device[device]


@dataclass(frozen=True)
class Hiding:
    """What is hidden of a batch, drawn for the rows of all processes.

    Attributes
    ----------
    hidden_BLS, replaced_BLS : bool tensor
        Tokens that are hidden, and those of them that are shown as another one; of the rows of this process.
    donor_BN : int64 tensor
        The token that is shown in the place of each, as a number in its segment.
    n_hidden : tensor
        Hidden tokens of all rows.
    """

    hidden_BLS: Tensor
    replaced_BLS: Tensor
    donor_BN: Tensor
    n_hidden: Tensor

    @classmethod
    def draw(
        cls,
        shape: Sequence[int],
        rows: tuple[int, int, int],
        generator: torch.Generator,
        *,
        mask_ratio: float,
        random_ratio: float,
    ) -> Self:
        """Each token is hidden with probability `mask_ratio`, and then replaced with `random_ratio`.

        Parameters
        ----------
        shape : sequence of int
            Latents and steps.
        rows : tuple of int
            As in `Draw`.
        generator : torch.Generator
        """
        device, whole, own = generator.device, (rows[2], *shape), slice(rows[0], rows[1])
        hidden_BLS, replaced_BLS = torch.rand((2, *whole), generator=generator, device=device)
        hidden_BLS, replaced_BLS = hidden_BLS < mask_ratio, replaced_BLS < random_ratio
        n_tokens = shape[0] * shape[1]
        donor_BN = torch.randint(n_tokens, (rows[2], n_tokens), generator=generator, device=device)
        return cls(hidden_BLS[own], (hidden_BLS & replaced_BLS)[own], donor_BN[own], hidden_BLS.sum())

    def shown(self, features_BLSD: Tensor, mask_D: Tensor) -> Tensor:
        """Features as the model sees them."""
        flat_BND = features_BLSD.flatten(1, 2)
        others_BND = flat_BND.gather(1, self.donor_BN[..., None].expand_as(flat_BND))
        instead_BND = torch.where(self.replaced_BLS.flatten(1)[..., None], others_BND, mask_D)
        return torch.where(self.hidden_BLS[..., None], instead_BND.view_as(features_BLSD), features_BLSD)


class MaskedPrediction(Task[CodeBatch]):
    """Cross-entropy of the codes of hidden tokens, in validation as in training.

    Parameters
    ----------
    nulls : Nulls
    """

    def __init__(self, nulls: Nulls) -> None:
        self.nulls = nulls

    def loss(self, model: BrainOmni, batch: CodeBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean over hidden tokens and levels, and beside it accuracies and what `Nulls` score."""
        codes_BLSQ = batch.codes_BLSQ
        hiding = Hiding.draw(
            codes_BLSQ.shape[1:3],
            batch.rows,
            generator,
            mask_ratio=model.config.mask_ratio,
            random_ratio=model.config.random_ratio,
        )
        shown_BLSD = hiding.shown(model.tokenizer.embed(codes_BLSQ), model.mask_D)
        hidden_N = hiding.hidden_BLS.flatten().nonzero()[:, 0]
        logits_NQK = model.predict(shown_BLSD, hidden_N).float()
        codes_NQ = codes_BLSQ.flatten(0, 2)[hidden_N]
        # the loop takes the mean over rows, but rows differ in hidden tokens
        share = (batch.rows[1] - batch.rows[0]) / batch.rows[2]
        n_tokens = hiding.n_hidden.clamp(min=1) * share
        n_levels = codes_NQ.shape[1]
        loss = F.cross_entropy(logits_NQK.flatten(0, 1), codes_NQ.flatten(), reduction="sum") / (n_tokens * n_levels)
        with torch.no_grad():
            right_Q = (logits_NQK.argmax(-1) == codes_NQ).sum(0) / n_tokens
            nulls = self.nulls.scores(codes_BLSQ, hiding.hidden_BLS)
        metrics = {f"accuracy_{level}": right_Q[level] for level in range(n_levels)} | {"accuracy": right_Q.mean()}
        return loss, metrics | {name: value / (n_tokens * n_levels) for name, value in nulls.items()}

    def parameter_groups(self, model: BrainOmni) -> list[dict[str, Any]]:
        """Weights of attention and feed-forward layers decay; norms, head, projection and mask vector do not."""
        return groups_by_decay(model, lambda name: any(part in name for part in NOT_DECAYED))


def pretrain_brainomni(
    model: BrainOmni, corpus: Corpus, validation: Corpus, *, rng: np.random.Generator, folder: Path | None = None
) -> dict[str, Any]:
    """Pretrain on the codes of recordings.

    Parameters
    ----------
    model : BrainOmni
        Trained in place.
    corpus, validation : Corpus
        `tokens` of the model's tokenizer; of these, codes of `recordings` alone are read. The first segments of each
        recording are what is validated on.
    rng : np.random.Generator
    folder : Path, optional
        Gets checkpoints and `metrics.parquet`; a run that was killed goes on there.

    Returns
    -------
    dict
        Steps, tokens, parameters, and the last row of the curve: loss, accuracies, nulls, and these in validation.

    Raises
    ------
    UnusableRecording
        There is nothing to train on, or its tokens do not fit the tokenizer.
    """
    config = model.config.training
    seed = int(rng.integers(2**31))
    windows, held = (open_codes(model, part) for part in (corpus, validation))
    if not windows:
        raise UnusableRecording("the training corpus", "no recording has tokens", "see the quarantine table")
    nulls = Nulls(count_codes(windows, model.tokenizer.codebook_sizes))
    sampler = WindowSampler(
        windows, tokens_of=_tokens_of, batch_tokens=config.batch_tokens // config.accumulate, seed=seed
    )
    model.train()
    result = train(
        model=model,
        task=MaskedPrediction(nulls),
        batches=Batches(sampler, partial(read_codes, windows)),
        config=config,
        seed=seed,
        folder=folder,
        validation=[_first_segments(one) for one in held],
    )
    model.load_state_dict(result.weights)
    model.eval()
    facts = {name: value for name, value in result.last.items() if name not in OF_THE_LOOP}
    n_parameters = sum(param.numel() for param in model.parameters() if param.requires_grad)
    return {"steps": result.step, "tokens": result.tokens, "parameters": n_parameters, **facts}


def open_codes(model: BrainOmni, corpus: Corpus) -> list[CodeWindows]:
    """Segments of each recording of a corpus, by name.

    Raises
    ------
    UnusableRecording
        Tokens are of another tokenizer: other codebooks, rate or overlap.
    """
    opened = []
    for tokens in corpus.tokens:
        found = (tuple(tokens.codebook_sizes), tokens.sfreq, tokens.overlap)
        wanted = (tuple(model.tokenizer.codebook_sizes), model.sfreq, model.overlap)
        if found != wanted:
            reason = f"codebooks, rate and overlap are {found}, those of the model's tokenizer {wanted}"
            raise UnusableRecording(f"tokens of {tokens.device}", reason, "tokenize the device again")
        opened += [CodeWindows(tokens, name) for name in tokens.recordings if name in corpus.recordings]
    return sorted(opened, key=lambda windows: windows.recording)


def _tokens_of(windows: Any) -> int:
    return int(windows.n_channels * windows.n_times)


def _first_segments(windows: CodeWindows) -> CodeBatch:
    count = min(len(windows), VALIDATION_SEGMENTS)
    return read_codes([windows], Draw.of_one(np.arange(count)))
