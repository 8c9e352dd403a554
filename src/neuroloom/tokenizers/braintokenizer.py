"""BrainTokenizer: EEG and MEG of any sensors as codes of a few latent sources.

Each window of each sensor becomes frames (SEANet), the frames of all sensors become those of latent sources (attention
with what is known of a sensor), and each frame of a source becomes one code a level (residual quantization). The
decoder is the mirror image. One set of weights serves 4 to 306 sensors, in any order.

Source: BrainOmni, Xiao et al., NeurIPS 2025, arXiv 2505.18185. Against the authors' code: encoding runs through blocks
of windows, so that memory does not grow with sensors or length; weights are normalised once, not in every step;
nothing is computed for losses when only codes are wanted; half precision (bf16) is offered, with codebooks, softmax
and norms in single precision; the phase loss can be had without jumps (`reconstruction.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.passes.mapping import CorpusMap
from neuroloom.tokenizers.base import Tokens
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.official import config_of, load_network, load_strictly, to_ours
from neuroloom.tokenizers.quantize import ResidualQuantizer
from neuroloom.tokenizers.seanet import SeanetDecoder, SeanetEncoder, folded
from neuroloom.tokenizers.segments import Segments
from neuroloom.tokenizers.sources import N_SENSOR_TYPES, Gather, Scatter, SensorEmbedding
from neuroloom.tokenizers.starting import start_weights
from neuroloom.training.checkpoint import SETTINGS, save_network

WAVEFORMS = 256  # one-sensor windows that are encoded at once: what fits into the caches
PUBLISHED_SFREQ = 256.0


class BrainTokenizer(nn.Module):
    """The network, with the methods of a `Tokenizer`.

    Parameters
    ----------
    config : BrainTokenizerConfig
    sfreq : float
        Rate of the signals, Hz.
    """

    def __init__(self, config: BrainTokenizerConfig, sfreq: float = PUBLISHED_SFREQ) -> None:
        super().__init__()
        self.config, self.sfreq = config, sfreq
        seanet = {
            "n_filters": config.n_filters,
            "ratios": config.ratios,
            "kernel_size": config.kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "embed_dim": config.embed_dim,
        }
        self.sensors = SensorEmbedding(config.embed_dim)
        self.encoder = SeanetEncoder(**seanet)  # type: ignore[arg-type]
        self.gather = Gather(config.embed_dim, config.n_latents, config.num_heads)
        self.quantizer = ResidualQuantizer(
            config.num_quantizers,
            config.codebook_size,
            config.embed_dim,
            decay=config.decay,
            dead_below=config.dead_below,
            rotation_trick=config.rotation_trick,
        )
        self.scatter = Scatter(config.embed_dim, config.num_heads)
        self.decoder = SeanetDecoder(**seanet)  # type: ignore[arg-type]
        start_weights(self)

    @classmethod
    def from_official(cls, state_dict: Mapping[str, Tensor], model_cfg: Mapping[str, Any]) -> Self:
        """The published model, from its checkpoint or braindecode's conversion of it.

        Parameters
        ----------
        state_dict : mapping
            Tensors by the authors' names or braindecode's.
        model_cfg : mapping
            The authors' model_cfg.json.

        Raises
        ------
        ConfigError
            If a tensor is missing, unknown or of another shape, by name.
        """
        model = cls(config_of(model_cfg))
        load_strictly(model, to_ours(state_dict), source="published BrainTokenizer weights")
        return model.eval()

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of each quantizer's codebook."""
        return (self.config.codebook_size,) * self.config.num_quantizers

    @property
    def step(self) -> float:
        """Time between two tokens of one latent, s."""
        return self.config.hop / self.sfreq

    def windows(self, signal_BCT: Tensor, overlap: float = 0.0) -> Tensor:
        """Windows (B, C, W, samples) of a signal.

        What is shorter than a window is filled up with zeros. With overlap the last window is filled up; without, a
        shorter rest is left out.
        """
        length = self.config.window_length
        stride = round(length * (1 - overlap))
        if not 1 <= stride <= length:
            raise ValueError(f"overlap {overlap:g} of windows of {length} samples; give a share from 0 to below 1")
        missing = max(length - signal_BCT.shape[-1], 0)
        if overlap and not missing:
            missing = -(signal_BCT.shape[-1] - length) % stride
        return F.pad(signal_BCT, (0, missing)).unfold(-1, length, stride)

    @torch.inference_mode()
    def encode(
        self,
        signal_BCT: Any,
        positions_BC6: Any,
        sensor_type_BC: Any,
        overlap: float = 0.0,
        *,
        precision: torch.dtype = torch.float32,
    ) -> Tokens:
        """Tokens of prepared segments.

        Parameters
        ----------
        signal_BCT : tensor or array
            Around zero, of about unit size (`segments.normalize_segments`), at `sfreq`.
        positions_BC6 : tensor or array
            Position and orientation (`segments.normalize_positions`).
        sensor_type_BC : int tensor or array
            0 EEG, 1 magnetometer or axial gradiometer, 2 planar gradiometer.
        overlap : float
            Share of a window that the next one repeats.
        precision : torch.dtype
            float32, or bfloat16 for the convolutions.

        Returns
        -------
        Tokens
            Codes int64 (B, latents, steps, quantizers), features float32 (B, latents, steps, D).

        Raises
        ------
        ValueError
            Missing values, a sensor type that does not exist, or shapes that do not fit.
        """
        signal_BCT, positions_BC6, sensor_type_BC = self._checked(signal_BCT, positions_BC6, sensor_type_BC)
        windows_BCWT = self.windows(signal_BCT, overlap)
        n_windows = windows_BCWT.shape[2]
        sensors_BCD = self.sensors(positions_BC6, sensor_type_BC)
        codes: list[Tensor] = []
        features: list[Tensor] = []
        with folded(self.encoder, precision):
            for samples, places in _blocks(windows_BCWT.shape):
                latents_NLFD = self.to_latents(windows_BCWT[samples, :, places].to(precision), sensors_BCD[samples])
                for part, found in zip((codes, features), self.quantizer.encode(latents_NLFD), strict=True):
                    part.append(found)
        return Tokens(*(_in_a_row(torch.cat(part), n_windows) for part in (codes, features)))

    def to_latents(self, windows_NCT: Tensor, sensors_NCD: Tensor) -> Tensor:
        """Windows of all sensors (N, C, samples) to frames of all latents (N, L, F, D), before quantization."""
        n_windows, n_channels, n_times = windows_NCT.shape
        frames_NCFD = self.encoder(windows_NCT.reshape(-1, n_times, 1)).unflatten(0, (n_windows, n_channels))
        n_frames = frames_NCFD.shape[2]
        frames_MCD = frames_NCFD.to(sensors_NCD.dtype).transpose(1, 2).flatten(0, 1)
        latents_MLD = self.gather(frames_MCD, sensors_NCD.repeat_interleave(n_frames, dim=0))
        return latents_MLD.unflatten(0, (n_windows, n_frames)).transpose(1, 2)

    def to_windows(self, latents_NLFD: Tensor, sensors_NCD: Tensor) -> Tensor:
        """Frames of all latents (N, L, F, D) to windows of all sensors (N, C, samples)."""
        n_windows, _, n_frames, _ = latents_NLFD.shape
        latents_MLD = latents_NLFD.transpose(1, 2).flatten(0, 1)
        frames_MCD = self.scatter(sensors_NCD.repeat_interleave(n_frames, dim=0), latents_MLD)
        frames_NCFD = frames_MCD.unflatten(0, (n_windows, n_frames)).transpose(1, 2)
        return self.decoder(frames_NCFD.flatten(0, 1)).unflatten(0, (n_windows, -1)).squeeze(-1)

    def embed(self, codes: Any) -> Tensor:
        """Features (..., D) that codes (..., quantizers) stand for."""
        return self.quantizer.embed(torch.as_tensor(codes).long())

    @torch.inference_mode()
    def decode(self, features: Any, positions_BC6: Any, sensor_type_BC: Any) -> Tensor:
        """Windows that features stand for, each sensor at zero mean and unit SD as the network learnt it.

        Parameters
        ----------
        features : tensor or array (B, latents, steps, D)
        positions_BC6, sensor_type_BC : tensors or arrays
            Of any sensors, also of others than those that were encoded.

        Returns
        -------
        tensor (B, C, windows, samples)
        """
        features = torch.as_tensor(features).float()
        n_frames = self.config.window_length // self.config.hop
        if features.shape[2] % n_frames:
            raise ValueError(f"{features.shape[2]} steps are no whole windows of {n_frames}; give all of a recording")
        positions_BC6, sensor_type_BC = _sensors(positions_BC6, sensor_type_BC)
        sensors_BCD = self.sensors(positions_BC6, sensor_type_BC)
        latents_BLWFD = features.unflatten(2, (-1, n_frames))
        n_samples, _, n_windows = latents_BLWFD.shape[:3]
        windows = []
        with folded(self.decoder, torch.float32):
            for samples, places in _blocks((n_samples, sensors_BCD.shape[1], n_windows)):
                windows.append(self.to_windows(latents_BLWFD[samples, :, places], sensors_BCD[samples]))
        return torch.cat(windows).unflatten(0, (n_samples, n_windows)).transpose(1, 2)

    def fit(
        self,
        corpus: Sequence[Segments],
        *,
        rng: np.random.Generator,
        validation: Sequence[Segments] = (),
        over: CorpusMap = map,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Train on recordings, from weights that follow from `rng` where it was not trained before.

        Parameters
        ----------
        corpus, validation : sequence of Segments
            Of the model's rate.
        rng : np.random.Generator
        over : CorpusMap
            Not used: the loop reads ahead by itself.
        folder : Path, optional
            For checkpoints, as in `reconstruction.train_tokenizer`.
        """
        from neuroloom.tokenizers.reconstruction import train_tokenizer

        if not bool(self.quantizer.codebooks[0].started):
            with torch.random.fork_rng():
                torch.manual_seed(int(rng.integers(2**31)))
                self.load_state_dict(type(self)(self.config, self.sfreq).state_dict())
        return train_tokenizer(self, corpus, rng=rng, validation=validation, folder=folder)

    def save(self, folder: Path) -> None:
        """Weights as safetensors, settings as JSON."""
        save_network(self, folder, kind="braintokenizer", sfreq=self.sfreq, config=self.config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ConfigError
            If the weights do not fit the settings, such as a codebook of another size.
        """
        settings = json.loads((folder / SETTINGS).read_text())
        return load_network(cls(BrainTokenizerConfig(**settings["config"]), settings["sfreq"]), folder)

    def _checked(self, signal_BCT: Any, positions_BC6: Any, sensor_type_BC: Any) -> tuple[Tensor, Tensor, Tensor]:
        signal_BCT = torch.as_tensor(signal_BCT).float()
        positions_BC6, sensor_type_BC = _sensors(positions_BC6, sensor_type_BC)
        if signal_BCT.ndim != 3 or signal_BCT.shape[:2] != sensor_type_BC.shape or 0 in signal_BCT.shape:
            shapes = f"{tuple(signal_BCT.shape)} and {tuple(positions_BC6.shape)}"
            raise ValueError(f"signal and positions are {shapes}; (B, C, T) and (B, C, 6) are needed, none empty")
        if not torch.isfinite(signal_BCT).all():
            lost = (~torch.isfinite(signal_BCT)).any(-1).nonzero()[0].tolist()
            raise ValueError(f"missing values in segment {lost[0]}, channel {lost[1]}; clean the recording first")
        return signal_BCT, positions_BC6, sensor_type_BC


def _sensors(positions_BC6: Any, sensor_type_BC: Any) -> tuple[Tensor, Tensor]:
    positions_BC6, sensor_type_BC = torch.as_tensor(positions_BC6).float(), torch.as_tensor(sensor_type_BC).long()
    if positions_BC6.shape != (*sensor_type_BC.shape, 6):
        shapes = f"{tuple(positions_BC6.shape)} and {tuple(sensor_type_BC.shape)}"
        raise ValueError(f"positions and types are {shapes}; (B, C, 6) and (B, C) are needed")
    if not torch.isfinite(positions_BC6).all():
        lost = (~torch.isfinite(positions_BC6)).any(-1).nonzero()[0].tolist()
        raise ValueError(f"segment {lost[0]}, channel {lost[1]} has no position; give the recording a montage")
    if ((sensor_type_BC < 0) | (sensor_type_BC >= N_SENSOR_TYPES)).any():
        found = sorted(set(sensor_type_BC.flatten().tolist()))
        raise ValueError(f"sensor types {found}; 0 (EEG), 1 (magnetometer), 2 (planar gradiometer) are known")
    return positions_BC6, sensor_type_BC


def _blocks(shape: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Sample and window of each of the windows of a block, block by block."""
    n_samples, n_channels, n_windows = shape[:3]
    for block in torch.arange(n_samples * n_windows).split(max(WAVEFORMS // n_channels, 1)):
        yield block // n_windows, block % n_windows


def _in_a_row(x: Tensor, n_windows: int) -> Tensor:
    """(B x W, L, F, D) to (B, L, W x F, D)."""
    return x.unflatten(0, (-1, n_windows)).transpose(1, 2).flatten(2, 3)


TOKENIZER = BrainTokenizer
