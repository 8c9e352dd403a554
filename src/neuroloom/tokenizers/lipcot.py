"""LiPCoT: each channel of each few seconds becomes one token, the cluster of its linear prediction.

Source: Anjum 2024, arXiv 2408.07292, and its code. Changed against it: all windows are predicted at once (`burg`); the
poles of a pair stand in a fixed order, the positive frequency first; a warped spectrum has the density of the axis put
back; zero and constant series, which gave NaN tokens there, take no part in the fit and have a token of their own
rule: the code nearest to a predictor of zeros with the power `POWER_FLOOR`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from neuroloom.config import ConfigError
from neuroloom.manifest import ArtifactError
from neuroloom.passes.mapping import CorpusMap
from neuroloom.records import Array
from neuroloom.tokenizers.base import Tokens
from neuroloom.tokenizers.burg import burg, lipcot_features, lipcot_inverse, power_response
from neuroloom.tokenizers.config import LipcotConfig
from neuroloom.tokenizers.segments import Segments
from neuroloom.training.checkpoint import SETTINGS, WEIGHTS, write_settings

__all__ = ["TOKENIZER", "Lipcot", "burg", "lipcot_features", "lipcot_inverse"]

BYTES_AT_ONCE = 1 << 25
JOIN = 8  # steps are faded into each other over this part of a step


class Lipcot:
    """The LiPCoT tokenizer: a latent is a channel, a step is a series of `config.step` seconds, one quantizer.

    Parameters
    ----------
    config : LipcotConfig
    sfreq : float
        Hz, of what it is fitted on and encodes.

    Attributes
    ----------
    config, sfreq
    step : float
        Time between two tokens, s.
    n_times : int
        Samples of a series.

    Raises
    ------
    ConfigError
        If a series is too short for the order.
    """

    def __init__(self, config: LipcotConfig, sfreq: float) -> None:
        self.config, self.sfreq, self.step = config, float(sfreq), float(config.step)
        self.n_times = round(config.step * sfreq)
        if self.n_times < config.order + 1:
            raise ConfigError(
                f"lipcot: step {config.step:g} s is {self.n_times} samples at {sfreq:g} Hz, order {config.order} needs"
                f" {config.order + 1}; raise step or lower order"
            )
        self._codebook_KD: Array | None = None
        self._mean_D = self._scale_D = np.zeros(0)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Entries of the one codebook."""
        return (self.config.vocabulary,)

    def codebook(self) -> Array:
        """Centres of the clusters as features, scaling undone: (K, D)."""
        return self._fitted() * self._scale_D + self._mean_D

    def fit(
        self,
        corpus: Sequence[Segments],
        *,
        rng: np.random.Generator,
        validation: Sequence[Segments] = (),
        over: CorpusMap = map,
        folder: Path | None = None,
    ) -> dict[str, Any]:
        """Features of a corpus, standardized, and their k-means.

        Parameters
        ----------
        corpus : sequence of Segments
            One task each.
        rng : Generator
            One integer below 2^31 is drawn from it, as scikit-learn's random_state.
        validation : sequence of Segments
            Not used: nothing is chosen by it.
        over : CorpusMap
            Takes the pass over the corpus.
        folder : Path, optional
            Not used: it is not long enough at work to be gone on with.

        Returns
        -------
        dict
            series, flat_series (left out), inertia, iterations.

        Raises
        ------
        ValueError
            If a recording has another sampling rate, is too short or is not finite.
        ConfigError
            If there are fewer distinct series than codes.
        """
        from sklearn.cluster import KMeans, MiniBatchKMeans
        from sklearn.preprocessing import StandardScaler
        from threadpoolctl import threadpool_limits

        parts = list(over(self._series_features, corpus))
        features_WD = np.concatenate([part for part, _ in parts]) if parts else np.zeros((0, 1))
        self._check_distinct(features_WD)
        scaler = StandardScaler().fit(features_WD)
        config, seed = self.config, int(rng.integers(2**31))
        facts = {"n_clusters": config.vocabulary, "n_init": config.n_init, "max_iter": config.max_iter}
        if config.batch_size:
            kmeans = MiniBatchKMeans(**facts, batch_size=config.batch_size, random_state=seed)
        else:
            kmeans = KMeans(**facts, random_state=seed)
        with threadpool_limits(1):  # threads add their sums in the order in which they end
            kmeans.fit(scaler.transform(features_WD))
        self._codebook_KD = kmeans.cluster_centers_
        self._mean_D, self._scale_D = scaler.mean_, scaler.scale_
        return {
            "series": len(features_WD),
            "flat_series": sum(flat for _, flat in parts),
            "inertia": float(kmeans.inertia_),
            "iterations": int(kmeans.n_iter_),
        }

    def encode(
        self, signal_BCT: Any, positions_BC6: Any = None, sensor_type_BC: Any = None, overlap: float = 0.0
    ) -> Tokens:
        """Codes of segments.

        Parameters
        ----------
        signal_BCT : array or tensor
            At `sfreq`, scaled as the corpus was.
        positions_BC6, sensor_type_BC : optional
            Not used: a channel is a series by itself.
        overlap : float
            Share of a series that the next one begins with, from 0 to below 1. A shorter rest at the end has no token.

        Returns
        -------
        Tokens
            codes int64 (B, C, steps, 1), and the exact scaled features float32 (B, C, steps, D).

        Raises
        ------
        ValueError
            If the signal is not finite (the window and the channel are named) or shorter than a series.
        """
        codebook_KD = self._fitted()
        signal_BCT = _array(signal_BCT)
        series_BCNT = self._series(signal_BCT, overlap)
        features_WD, _ = self._features(series_BCNT)
        scaled_WD = (features_WD - self._mean_D) / self._scale_D
        shape = series_BCNT.shape[:3]
        codes_W = ((codebook_KD**2).sum(axis=1) - 2 * scaled_WD @ codebook_KD.T).argmin(axis=1)
        return Tokens(codes_W.astype(np.int64).reshape(*shape, 1), scaled_WD.astype(np.float32).reshape(*shape, -1))

    def embed(self, codes: Any) -> Array:
        """Scaled features of the centres that codes (..., 1) stand for: float32 (..., D)."""
        codes = _array(codes)
        if codes.shape[-1:] != (1,) or (codes.size and not 0 <= codes.min() <= codes.max() < self.config.vocabulary):
            raise ValueError(
                f"codes of shape {codes.shape}: LiPCoT has one quantizer, the last axis, with codes from 0 to"
                f" {self.config.vocabulary - 1}"
            )
        return self._fitted()[codes[..., 0]].astype(np.float32)

    def predictors(self, features: Any) -> tuple[Array, Array]:
        """Coefficients (W, P), warped as the config says, and powers (W,) of scaled features (..., D)."""
        self._fitted()
        features_WD = _array(features).reshape(-1, len(self._mean_D)).astype(np.float64)
        return lipcot_inverse(features_WD * self._scale_D + self._mean_D, self.sfreq, self.config.features)

    def spectrum(self, features: Any, freqs: Any) -> Array:
        """One-sided power density of scaled features (..., D) at freqs (F, Hz): (..., F), squared unit per Hz."""
        psd_WF = power_response(*self.predictors(features), np.asarray(freqs), self.sfreq, self.config.warp)
        return psd_WF.reshape(*np.shape(features)[:-1], -1)

    def decode(
        self,
        features: Any,
        positions_BC6: Any = None,
        sensor_type_BC: Any = None,
        *,
        rng: np.random.Generator | None = None,
    ) -> Array:
        """Noise with the spectra that features stand for; phases are not in a LiPCoT token.

        The noise is filtered by its Fourier transform, so that it is stationary from the first sample, and steps that
        follow one another are faded into each other at constant power.

        Parameters
        ----------
        features : array or tensor (B, C, steps, D)
            Scaled, of series that did not overlap.
        positions_BC6, sensor_type_BC : optional
            Not used.
        rng : Generator, optional
            Of the noise; by default one that is the same in each call.

        Returns
        -------
        float32 array (B, C, steps x samples of a series)
        """
        features = _array(features)
        rng = rng or np.random.default_rng(0)
        n_batch, n_channels, n_steps, _ = features.shape
        signal_BCT = np.empty((n_batch, n_channels, n_steps * self.n_times), np.float32)
        for at in range(n_batch):
            signal_BCT[at] = self._resynthesis(features[at], rng)
        return signal_BCT

    def save(self, folder: Path) -> None:
        """Write the codebook and the scaling (safetensors) and the settings (JSON)."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"codebook": self._fitted(), "mean": self._mean_D, "scale": self._scale_D}
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, folder / WEIGHTS)
        write_settings(folder, kind="lipcot", sfreq=self.sfreq, config=self.config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Back from a folder that `save` wrote.

        Raises
        ------
        ArtifactError
            If a file is missing or broken, or the codebook has another size than the settings say.
        """
        from pydantic import ValidationError
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            settings = json.loads((folder / SETTINGS).read_text())
            tokenizer = cls(LipcotConfig(**settings["config"]), settings["sfreq"])
            arrays = load_file(folder / WEIGHTS)
        except (OSError, KeyError, ValueError, ValidationError, SafetensorError) as error:
            raise ArtifactError(f"{folder}: no LiPCoT tokenizer can be read there ({error}); fit it again") from error
        order = tokenizer.config.order
        width = 2 * order + 1 if tokenizer.config.features == "spectral" else order + 1
        expected = {"codebook": (tokenizer.config.vocabulary, width), "mean": (width,), "scale": (width,)}
        found = {name: values.shape for name, values in arrays.items()}
        if found != expected:
            raise ArtifactError(
                f"{folder / WEIGHTS}: has {found}, the settings in {SETTINGS} need {expected}; the two files are not"
                " of one tokenizer, fit it again"
            )
        tokenizer._codebook_KD = arrays["codebook"]
        tokenizer._mean_D, tokenizer._scale_D = arrays["mean"], arrays["scale"]
        return tokenizer

    def _fitted(self) -> Array:
        if self._codebook_KD is None:
            raise ValueError("the LiPCoT tokenizer has no codebook yet; call fit, or load one")
        return self._codebook_KD

    def _resynthesis(self, features_CND: Array, rng: np.random.Generator) -> Array:
        from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

        n_channels, n_steps, _ = features_CND.shape
        fade = self.n_times // JOIN
        length = next_fast_len(2 * (self.n_times + fade), real=True)
        freqs_F = rfftfreq(length, 1 / self.sfreq)
        signal_CT = np.zeros((n_channels, n_steps * self.n_times + fade))
        for at in range(n_steps):
            gain_CF = np.sqrt(self.spectrum(features_CND[:, at], freqs_F) * self.sfreq / 2)
            noise_CF = rfft(rng.standard_normal((n_channels, length)), axis=-1)
            part_CT = irfft(noise_CF * gain_CF, length, axis=-1)[:, : self.n_times + fade]
            first = at * self.n_times
            signal_CT[:, first : first + self.n_times + fade] += part_CT * self._fading(fade, at, n_steps)
        return signal_CT[:, fade // 2 :][:, : n_steps * self.n_times]

    def _fading(self, fade: int, at: int, n_steps: int) -> Array:
        """Weights of a step: squares of neighbours add up to one, and nothing is faded at the ends."""
        weight_T = np.ones(self.n_times + fade)
        ramp_T = np.sin(np.pi / 2 * (np.arange(fade) + 0.5) / max(fade, 1))
        if at > 0:
            weight_T[:fade] = ramp_T
        if at < n_steps - 1:
            weight_T[self.n_times :] = ramp_T[::-1]
        return weight_T

    def _series(self, signal_BCT: Array, overlap: float) -> Array:
        if signal_BCT.ndim != 3 or signal_BCT.shape[2] < self.n_times:
            raise ValueError(
                f"signal_BCT has shape {signal_BCT.shape}; LiPCoT needs windows by channels by {self.n_times} samples"
                f" ({self.step:g} s at {self.sfreq:g} Hz) or more: lower step, or give longer segments"
            )
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap is {overlap}; it must be 0 or more and below 1")
        bad = np.argwhere(~np.isfinite(signal_BCT).all(axis=2))
        if len(bad):
            raise ValueError(
                f"{len(bad)} series are not finite (NaN or infinite), the first in window {bad[0][0]}, channel"
                f" {bad[0][1]}; clean them or leave them out"
            )
        hop = max(round(self.n_times * (1 - overlap)), 1)
        return np.lib.stride_tricks.sliding_window_view(signal_BCT, self.n_times, axis=-1)[:, :, ::hop]

    def _features(self, series_BCNT: Array) -> tuple[Array, Array]:
        a_WP, sigma_W = burg(series_BCNT.reshape(-1, self.n_times), self.config.order, self.config.warp)
        return lipcot_features(a_WP, sigma_W, self.sfreq, self.config.features), sigma_W

    def _series_features(self, segments: Segments) -> tuple[Array, int]:
        """Features of the series of a recording, and how many constant ones were left out."""
        if not np.isclose(segments.sfreq, self.sfreq):
            raise ValueError(f"{segments.recording}: has {segments.sfreq:g} Hz, the tokenizer has {self.sfreq:g} Hz")
        found: list[Array] = []
        n_flat, first, count = 0, 0, 1
        while first < len(segments):
            signal_BCT = segments.read(first, min(count, len(segments) - first))
            try:
                features_WD, sigma_W = self._features(self._series(signal_BCT, 0.0))
            except ValueError as error:
                raise ValueError(f"{segments.recording}, from segment {first}: {error}") from error
            found.append(features_WD[sigma_W > 0])
            n_flat += int((sigma_W <= 0).sum())
            first += len(signal_BCT)
            count = max(BYTES_AT_ONCE // signal_BCT[0].nbytes, 1)
        return np.concatenate(found), n_flat

    def _check_distinct(self, features_WD: Array) -> None:
        n_distinct = len(np.unique(features_WD, axis=0))
        if n_distinct < self.config.vocabulary:
            raise ConfigError(
                f"lipcot: {n_distinct} distinct series that are not flat, for a vocabulary of"
                f" {self.config.vocabulary}; lower vocabulary or step, or give more recordings"
            )


def _array(values: Any) -> Array:
    """NumPy array of an array, or of a tensor on any device."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


TOKENIZER = Lipcot
