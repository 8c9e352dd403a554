"""How REVE is pretrained: hide patches, and fill them in from those that are left.

The encoder sees the visible patches alone; a decoder sees their tokens, and one learnt vector in place of each hidden
one, all with the code of their place. A second loss fills in the hidden patches from a single vector that one query
takes from the tokens of all layers.

Source: REVE (arXiv 2510.21585) and its code. Against the latter: visible tokens stay in order, and the decoder reads
them followed by the hidden ones, so that nothing is scattered into a buffer; its last layer makes the hidden tokens
only; the second loss adds the encoder's code of a place, which is the decoder's where both are equally wide and makes
other widths (tiny, large) possible; masks are drawn for all segments at once (`masking.py`), and all random numbers
come from the generator of the step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.layers import Transformer, start_normal
from neuroloom.models.masking import sample_masks
from neuroloom.models.reve import REVE, config_of, distinct, official_name, renamed
from neuroloom.schema import ConfigError
from neuroloom.tokenizers.official import load_strictly
from neuroloom.tokenizers.segments import Segments
from neuroloom.training.data import Batch, Batches, read_signals
from neuroloom.training.loop import train
from neuroloom.training.sampling import Draw, WindowSampler
from neuroloom.training.task import Task

VALIDATION_SEGMENTS = 8  # of each recording
NAMES = {
    "mask_token_D": "mask_token",
    "to_samples": "to_pixels",
    "from_query": "cls_to_pixels",
    "to_decoder": "enc_to_dec",
    "code_to_decoder": "pos_enc_to_dec",
}


class REVEPretraining(nn.Module):
    """An encoder with what is only needed to pretrain it.

    Parameters
    ----------
    encoder : REVE
        Its config also says what the decoder is.
    """

    def __init__(self, encoder: REVE) -> None:
        super().__init__()
        config = encoder.config
        self.encoder = encoder
        dim, wide = config.embed_dim, config.decoder_embed_dim
        self.decoder = Transformer(
            wide,
            depth=config.decoder_depth,
            num_heads=config.decoder_num_heads,
            head_dim=config.decoder_head_dim,
            mlp_ratio=config.mlp_ratio,
            local_start=config.local_start,
        )
        self.to_decoder = nn.Identity() if wide == dim else nn.Linear(dim, wide)
        self.code_to_decoder = nn.Identity() if wide == dim else nn.Linear(dim, wide)
        self.mask_token_D = nn.Parameter(torch.empty(wide))
        start_normal(self.mask_token_D)
        self.to_samples = nn.Linear(wide, config.patch_size)
        self.from_query: nn.Sequential | None = None
        if config.token_average:
            self.from_query = nn.Sequential(
                nn.Linear(dim, 4 * dim, bias=False), nn.ReLU(), nn.Linear(4 * dim, config.patch_size)
            )

    @classmethod
    def from_official(cls, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Self:
        """The published pretraining model; parameters and errors as `REVE.from_official`."""
        model = cls(REVE(config_of(config)))
        ours_of = {model._official_name(name): name for name in model.state_dict()}
        ours = renamed(ours_of, state)
        if "encoder.query_D" in ours:
            ours["encoder.query_D"] = ours["encoder.query_D"].flatten()
        elif model.from_query is None:
            ours["encoder.query_D"] = model.encoder.query_D.detach()
        load_strictly(model, ours, source="published REVE pretraining weights")
        return model

    @staticmethod
    def _official_name(name: str) -> str:
        part, _, rest = name.partition(".")
        if part == "encoder":
            return official_name(rest) if rest == "query_D" else f"encoder.{official_name(rest)}"
        return official_name(name) if part == "decoder" else NAMES[part] + name[len(part) :]

    def forward(
        self, eeg_BCT: Tensor, sensors_BCF: Tensor, masked_BM: Tensor, visible_BN: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Hidden patches as the decoder and as the query say they are, and as they are, (B, M, samples) each.

        Parameters
        ----------
        eeg_BCT : tensor
        sensors_BCF : tensor
            Positions (m), or what `REVE.sensors` gives.
        masked_BM, visible_BN : int tensor
            Indices of patches; patch `n` of channel `c` has index `c * patches + n`.
        """
        patches_BCNT = self.encoder.patches(eeg_BCT)
        n_tokens, n_visible = patches_BCNT.shape[1] * patches_BCNT.shape[2], visible_BN.shape[1]
        order_BN = torch.cat([visible_BN, masked_BM], dim=1)
        first_B1 = torch.arange(len(order_BN), device=order_BN.device)[:, None] * n_tokens
        ordered_BNT = patches_BCNT.flatten(1, 2).flatten(0, 1)[first_B1 + order_BN]
        code_BND = self._code(sensors_BCF, patches_BCNT.shape[2], order_BN)
        tokens_BND = self.encoder.patch(ordered_BNT[:, :n_visible]) + code_BND[:, :n_visible]
        states = list(self.encoder.transformer.states(tokens_BND))
        hidden_BMD = self._fill_in(states[-1], code_BND)
        from_query_BMT = None
        if self.from_query is not None:
            pooled_BD = self.encoder.pool(torch.cat(states, dim=1))
            from_query_BMT = self.from_query(pooled_BD[:, None] + code_BND[:, n_visible:]).float()
        return self.to_samples(hidden_BMD).float(), from_query_BMT, ordered_BNT[:, n_visible:]

    def terms(self, eeg_BCT: Tensor, sensors_BCF: Tensor, masked_BM: Tensor, visible_BN: Tensor) -> dict[str, Tensor]:
        """Mean absolute errors over the hidden patches: `reconstruction`, and `token_average` where there is one."""
        made_BMT, from_query_BMT, target_BMT = self(eeg_BCT, sensors_BCF, masked_BM, visible_BN)
        terms = {"reconstruction": F.l1_loss(made_BMT, target_BMT)}
        if from_query_BMT is not None:
            terms["token_average"] = F.l1_loss(from_query_BMT, target_BMT)
        return terms

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The loss that is trained."""
        return terms["reconstruction"] + self.encoder.config.token_average * terms.get("token_average", 0.0)

    def loss(self, eeg_BCT: Tensor, sensors_BCF: Tensor, masked_BM: Tensor, visible_BN: Tensor) -> Tensor:
        """The published loss, a scalar; parameters as of `forward`."""
        return self.total(self.terms(eeg_BCT, sensors_BCF, masked_BM, visible_BN))

    def _code(self, sensors_BCF: Tensor, n_patches: int, order_BN: Tensor) -> Tensor:
        """Code of the places in the order of the tokens, computed once for each montage."""
        sets_UCF, row_B = distinct(sensors_BCF)
        code_UND = self.encoder.place(sets_UCF, n_patches)
        return F.embedding(row_B[:, None] * code_UND.shape[1] + order_BN, code_UND.flatten(0, 1))

    def _fill_in(self, visible_BND: Tensor, code_BND: Tensor) -> Tensor:
        """Tokens of the decoder for the hidden patches."""
        n_samples, n_visible = visible_BND.shape[:2]
        n_masked = code_BND.shape[1] - n_visible
        seen = self.to_decoder(visible_BND)
        blank = self.mask_token_D.to(seen.dtype).expand(n_samples, n_masked, -1)
        return self.decoder(torch.cat([seen, blank], dim=1) + self.code_to_decoder(code_BND), start=n_visible)


class MaskedPatches(Task[Batch]):
    """Masks and noise on positions in training; random masks and what simple predictors reach in validation."""

    def loss(
        self, model: REVEPretraining, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and its terms."""
        config, signal_BCT = model.encoder.config, batch.signal_BCT
        sensors_BCF = model.encoder.sensors(batch.positions_BC6, batch.sensor_type_BC)
        masked_BM, visible_BN = sample_masks(
            sensors_BCF[..., :3],
            model.encoder.n_patches(signal_BCT.shape[-1]),
            config=config,
            generator=generator,
            rows=batch.rows,
            mask=None if model.training else "random",
        )
        if model.training and config.position_noise:
            # one draw for the whole batch, as published: what is computed of positions is computed once
            noise_C3 = torch.randn(sensors_BCF.shape[1], 3, generator=generator, device=sensors_BCF.device)
            sensors_BCF = sensors_BCF + F.pad(config.position_noise * noise_C3, (0, sensors_BCF.shape[2] - 3))
        terms = model.terms(signal_BCT, sensors_BCF, masked_BM, visible_BN)
        metrics = {name: value.detach() for name, value in terms.items()}
        if not model.training:
            metrics |= null_errors(model.encoder.patches(signal_BCT), masked_BM)
        return model.total(terms), metrics


def null_errors(patches_BCNT: Tensor, masked_BM: Tensor) -> dict[str, Tensor]:
    """Mean absolute errors of predictors that learn nothing, over the hidden patches.

    Parameters
    ----------
    patches_BCNT : tensor
    masked_BM : int tensor
        Indices of hidden patches.

    Returns
    -------
    dict
        `mean_patch`: the mean over the visible patches of the channel. `mean_value`: the mean over all their samples,
        which is the harder one to beat. `last_value`: the last sample of the visible patch before, else the first of
        the one after. All predict zero for a channel without a visible patch.
    """
    n_samples, n_channels, n_patches, _ = patches_BCNT.shape
    hidden_BN = torch.zeros(n_samples, n_channels * n_patches, dtype=torch.bool, device=patches_BCNT.device)
    hidden_BCN = hidden_BN.scatter_(1, masked_BM, True).unflatten(1, (n_channels, n_patches))
    seen_BCN1 = (~hidden_BCN)[..., None]
    mean_BC1T = (patches_BCNT * seen_BCN1).sum(2, keepdim=True) / seen_BCN1.sum(2, keepdim=True).clamp(min=1)
    guesses = {
        "mean_patch": mean_BC1T.expand_as(patches_BCNT),
        "mean_value": mean_BC1T.mean(-1, keepdim=True).expand_as(patches_BCNT),
        "last_value": _last_values(patches_BCNT, ~hidden_BCN),
    }
    return {name: F.l1_loss(guess[hidden_BCN], patches_BCNT[hidden_BCN]) for name, guess in guesses.items()}


def _last_values(patches_BCNT: Tensor, seen_BCN: Tensor) -> Tensor:
    """For each patch, the last sample of the visible patch before, else the first of the one after, else zero."""
    n_patches = patches_BCNT.shape[2]
    at_N = torch.arange(n_patches, device=patches_BCNT.device)
    before_BCN = torch.where(seen_BCN, at_N, -1).cummax(-1).values
    after_BCN = torch.where(seen_BCN, at_N, n_patches).flip(-1).cummin(-1).values.flip(-1)
    last_BCN = patches_BCNT[..., -1].gather(2, before_BCN.clamp(min=0))
    next_BCN = patches_BCNT[..., 0].gather(2, after_BCN.clamp(max=n_patches - 1))
    value_BCN = torch.where(before_BCN >= 0, last_BCN, torch.where(after_BCN < n_patches, next_BCN, 0.0))
    return value_BCN[..., None].expand_as(patches_BCNT)


def pretrain_reve(
    encoder: REVE,
    corpus: Sequence[Segments],
    *,
    rng: np.random.Generator,
    validation: Sequence[Segments] = (),
    folder: Path | None = None,
) -> dict[str, Any]:
    """Pretrain an encoder on recordings.

    Parameters
    ----------
    encoder : REVE
        Trained in place; it goes on from the weights that it has.
    corpus : sequence of Segments
        Of the model's rate, prepared as `reve`.
    rng : np.random.Generator
    validation : sequence of Segments
        Some segments of each are what the loss is validated on.
    folder : Path, optional
        Gets checkpoints and the curve; a run that was killed goes on there.

    Returns
    -------
    dict
        Steps, tokens, parameters (of the encoder, and with decoder) and the last losses and validation.

    Raises
    ------
    ConfigError
        If the segments are shorter than a patch.
    """
    config, seed = encoder.config.training, int(rng.integers(2**31))
    for segments in (*corpus, *validation):
        if not encoder.n_patches(segments.n_times):
            raise ConfigError(
                f"{segments.recording}: segments of {segments.n_times} samples hold no patch of "
                f"{encoder.config.patch_size}; give pretrain.models.<name>.segment or ingest.window more seconds"
            )
    sampler = WindowSampler(
        corpus,
        tokens_of=lambda segments: segments.n_channels * encoder.n_patches(segments.n_times),
        batch_tokens=config.batch_tokens // config.accumulate,
        seed=seed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = REVEPretraining(encoder)
    # without the second loss nothing learns the query, and processes would wait for its gradient
    encoder.query_D.requires_grad_(model.from_query is not None)
    result = train(
        model=model,
        task=MaskedPatches(),
        batches=Batches.of_signals(corpus, sampler),
        config=config,
        seed=seed,
        folder=folder,
        validation=[_some_segments(segments) for segments in validation],
    )
    model.load_state_dict(result.weights)
    encoder.query_D.requires_grad_(True)
    encoder.eval()
    named = ("loss", "reconstruction", "token_average", "validation_")
    facts = {name: value for name, value in result.last.items() if name.startswith(named)}
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in (("", encoder), ("_in_training", model))}
    counts = {f"parameters{name}": count for name, count in sizes.items()}
    return {"steps": result.step, "tokens": result.tokens, **counts, **facts}


def _some_segments(segments: Segments) -> Batch:
    """A batch of segments spread evenly over a recording."""
    count = min(len(segments), VALIDATION_SEGMENTS)
    chosen = np.linspace(0, len(segments) - 1, count).round().astype(np.int64)
    return read_signals([segments], Draw.of_one(chosen))
