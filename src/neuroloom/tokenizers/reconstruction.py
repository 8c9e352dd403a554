"""How BrainTokenizer is trained: hide some sensors, reconstruct all of them.

Source: BrainOmni (arXiv 2505.18185) and its code. Five terms: absolute error in time, exp(-r) of the mean correlation,
absolute errors of amplitude and phase of the spectrum, and the commitment of the quantizer. The published phase term
takes the difference of two angles as it is, which jumps by two pi; `phase="wrapped"` goes the shorter way round.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.quantize import draw
from neuroloom.tokenizers.segments import Segments
from neuroloom.training.data import Batch, Batches, read_signals
from neuroloom.training.loop import train
from neuroloom.training.sampling import Draw, WindowSampler
from neuroloom.training.task import Task, groups_by_decay

EPSILON = 1e-6
PHASE_WEIGHT = 0.5
VALIDATION_SEGMENTS = 4  # of each recording


def standardize(windows_BCWT: Tensor) -> Tensor:
    """Each window of each sensor at zero mean and unit SD: what is reconstructed."""
    centred = windows_BCWT - windows_BCWT.mean(dim=-1, keepdim=True)
    return centred / (windows_BCWT.std(dim=-1, keepdim=True) + EPSILON)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson correlation along the last axis."""
    x, y = (part - part.mean(dim=-1, keepdim=True) for part in (x, y))
    return (x * y).sum(-1) / (x.norm(dim=-1) * y.norm(dim=-1) + EPSILON)


def reconstruction_terms(
    made_BCWT: Tensor, target_BCWT: Tensor, *, phase: Literal["raw", "wrapped"] = "raw"
) -> dict[str, Tensor]:
    """How far a reconstruction is from its target.

    Parameters
    ----------
    made_BCWT, target_BCWT : tensor
        Windows; the target standardized.
    phase : {"raw", "wrapped"}
        Difference of angles as published, or by the shorter way round.

    Returns
    -------
    dict
        `time`, `amplitude`, `phase` (mean absolute errors) and `correlation` (mean over windows and sensors).
    """
    window_T = torch.hamming_window(made_BCWT.shape[-1], device=made_BCWT.device)
    made, target = (torch.fft.rfft(x.float() * window_T, norm="ortho") for x in (made_BCWT, target_BCWT))
    turned = made.angle() - target.angle()
    if phase == "wrapped":
        turned = torch.atan2(turned.sin(), turned.cos())
    return {
        "time": (made_BCWT - target_BCWT).abs().mean(),
        "correlation": correlation(made_BCWT, target_BCWT).mean(),
        "amplitude": (made.abs() - target.abs()).abs().mean(),
        "phase": turned.abs().mean(),
    }


def total_loss(terms: dict[str, Tensor], commitment: Tensor) -> Tensor:
    """The published sum."""
    spectrum = terms["amplitude"] + PHASE_WEIGHT * terms["phase"]
    return terms["time"] + torch.exp(-terms["correlation"]) + commitment + spectrum


class Reconstruction(Task[Batch]):
    """Hidden sensors, and noise on the visible ones, in training; everything visible in validation.

    Codebooks follow in the forward pass, so nothing is left to do after a step.
    """

    def loss(self, model: BrainTokenizer, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The published loss of a batch, and its terms."""
        chosen_C = torch.arange(batch.signal_BCT.shape[1], device=batch.signal_BCT.device)
        if model.training and model.config.max_channels:
            chosen_C = draw(chosen_C, min(model.config.max_channels, len(chosen_C)), generator).sort().values
        windows_BCWT = model.windows(batch.signal_BCT[:, chosen_C])
        n_samples, n_channels, n_windows, _ = windows_BCWT.shape
        visible_C = torch.arange(n_channels, device=windows_BCWT.device)
        seen_BCWT = windows_BCWT
        if model.training:
            visible_C = visible_channels(n_channels, model.config.mask_ratio, generator)
            noise = torch.randn((batch.rows[2], *windows_BCWT[0, visible_C].shape), generator=generator)
            own = noise[batch.rows[0] : batch.rows[1]].to(windows_BCWT.device)
            seen_BCWT = windows_BCWT[:, visible_C] + model.config.noise * own
        sensors_BCD = model.sensors(batch.positions_BC6[:, chosen_C], batch.sensor_type_BC[:, chosen_C])
        sensors_NCD = sensors_BCD.repeat_interleave(n_windows, dim=0)
        latents_NLFD = model.to_latents(seen_BCWT.transpose(1, 2).flatten(0, 1), sensors_NCD[:, visible_C])
        quantized_NLFD, codes, commitment = model.quantizer(latents_NLFD, generator)
        made_NCT = model.to_windows(quantized_NLFD, sensors_NCD)
        made_BCWT = made_NCT.unflatten(0, (n_samples, n_windows)).transpose(1, 2).float()
        terms = reconstruction_terms(made_BCWT, standardize(windows_BCWT), phase=model.config.phase)
        used = codes[..., 0].unique().numel() / model.config.codebook_size
        terms_and_more = {**terms, "commitment": commitment, "codes_in_batch": torch.tensor(used)}
        return total_loss(terms, commitment), {name: value.detach() for name, value in terms_and_more.items()}

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """Weights decay; norms and the embedding of the sensor type do not."""
        return groups_by_decay(model, lambda name: name.startswith(("sensors.norm", "sensors.kind")))


def visible_channels(n_channels: int, mask_ratio: float, generator: torch.Generator) -> Tensor:
    """Sensors that the encoder sees, in order: all but a share of them, of which there is at least one of several."""
    hidden = min(max(int(n_channels * mask_ratio), 1), n_channels - 1) if mask_ratio else 0
    order = torch.randperm(n_channels, generator=generator, device=generator.device)
    return order[hidden:].sort().values


def train_tokenizer(
    model: BrainTokenizer,
    corpus: Sequence[Segments],
    *,
    rng: np.random.Generator,
    validation: Sequence[Segments] = (),
    folder: Path | None = None,
) -> dict[str, Any]:
    """Train a tokenizer on recordings.

    Parameters
    ----------
    model : BrainTokenizer
        Trained in place.
    corpus : sequence of Segments
        Of the model's rate.
    rng : np.random.Generator
    validation : sequence of Segments
        The first segments of each are what the loss is validated on.
    folder : Path, optional
        Gets checkpoints and the curve; a run that was killed goes on there.

    Returns
    -------
    dict
        Steps, tokens, parameters and the last loss and validation.
    """
    config = model.config.training
    seed = int(rng.integers(2**31))

    def tokens_of(segments: Any) -> int:
        """One-sensor windows, which is what the time goes into."""
        n_channels = min(segments.n_channels, model.config.max_channels or segments.n_channels)
        return n_channels * (segments.n_times // model.config.window_length)

    sampler = WindowSampler(
        corpus, tokens_of=tokens_of, batch_tokens=config.batch_tokens // config.accumulate, seed=seed
    )
    batches = Batches.of_signals(corpus, sampler)
    held = [_first_segments(segments) for segments in validation]
    model.train()
    result = train(
        model=model, task=Reconstruction(), batches=batches, config=config, seed=seed, folder=folder, validation=held
    )
    model.load_state_dict(result.weights)
    model.eval()
    facts = {name: value for name, value in result.last.items() if name.startswith(("loss", "validation_"))}
    n_parameters = sum(param.numel() for param in model.parameters())
    return {"steps": result.step, "tokens": result.tokens, "parameters": n_parameters, **facts}


def _first_segments(segments: Segments) -> Batch:
    count = min(len(segments), VALIDATION_SEGMENTS)
    return read_signals([segments], Draw.of_one(np.arange(count)))
