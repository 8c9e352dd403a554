"""Which patches are hidden in masked autoencoding: the same number in every segment, drawn for all segments at once.

Three ways. `block` is what REVE's paper describes (arXiv 2510.21585): regions of the head for some patches in a row,
and some regions throughout. `released` is what its published code does: it builds such blocks (cut by the order of
channels), but numbers patches by time while tokens are numbered by channel, so that what is hidden is next to random.
`random` hides single patches.

Changed in `block`: exactly `round(mask_ratio x patches)` are hidden; the last region is cut to what is nearest to its
centre, not to the channels that come first; a rest of patches shorter than a block is treated as one. The published
code searches each segment for itself, channel after channel; here all regions of all segments are found together.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from neuroloom.models.config import ReveConfig

Draw = Callable[..., Tensor]  # random numbers of each row, of a given shape
ROUNDS = 8  # in which regions are found; a montage rarely needs more than five


def sample_masks(
    positions_BC3: Tensor,
    n_patches: int,
    *,
    config: ReveConfig,
    generator: torch.Generator,
    rows: tuple[int, int, int] | None = None,
    mask: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Indices of hidden and of visible patches of each segment, in order.

    Parameters
    ----------
    positions_BC3 : tensor
        m.
    n_patches : int
        Patches in time; patch `n` of channel `c` has index `c * n_patches + n`.
    config : ReveConfig
        Kind, share and sizes of the mask.
    generator : torch.Generator
        On the device of the positions.
    rows : tuple of int, optional
        First and last row of this process, and how many there are (`Batch.rows`); numbers are drawn for all of them.
    mask : str, optional
        Instead of the kind that the config names.

    Returns
    -------
    int tensors (B, hidden), (B, visible)
        Equal counts in all rows; `block` and `random` hide `round(mask_ratio * C * n_patches)`, `released` hides
        `int(mask_ratio * C)` for each patch in time. At least one patch is hidden and one is visible.
    """
    n_rows, n_channels = positions_BC3.shape[:2]
    first, last, total = rows or (0, n_rows, n_rows)

    def draw(*shape: int) -> Tensor:
        return torch.rand((total, *shape), generator=generator, device=positions_BC3.device)[first:last]

    keys_of = {"block": _block_keys, "released": _released_keys, "random": _random_keys}[mask or config.mask]
    key_BN, n_hidden = keys_of(positions_BC3, n_patches, config, draw)
    return _split(key_BN, min(max(n_hidden, 1), n_channels * n_patches - 1))


def _random_keys(positions_BC3: Tensor, n_patches: int, config: ReveConfig, draw: Draw) -> tuple[Tensor, int]:
    n_tokens = positions_BC3.shape[1] * n_patches
    return draw(n_tokens), round(config.mask_ratio * n_tokens)


def _block_keys(positions_BC3: Tensor, n_patches: int, config: ReveConfig, draw: Draw) -> tuple[Tensor, int]:
    """The channel that is hidden first in its block has the lowest key; one channel of one block is cut at most."""
    n_channels, length = positions_BC3.shape[1], config.mask_patches
    n_blocks = -(-n_patches // length)
    dropped_B1C = _dropped(positions_BC3, draw(n_channels), config)[:, None]
    key_BGC = region_keys(positions_BC3, draw(n_blocks, n_channels), dropped_B1C, radius=config.mask_radius)
    rank_BGC = key_BGC.argsort(dim=-1).argsort(dim=-1)
    order_BG1 = draw(n_blocks).argsort(dim=1)[..., None]
    at_N = torch.arange(n_patches, device=key_BGC.device)
    key_BNC = (rank_BGC * n_blocks + order_BG1)[:, at_N // length] * n_patches + at_N[:, None]
    return key_BNC.transpose(1, 2).flatten(1), round(config.mask_ratio * n_channels * n_patches)


def _released_keys(positions_BC3: Tensor, n_patches: int, config: ReveConfig, draw: Draw) -> tuple[Tensor, int]:
    """Zero for what the published code hides, one for the rest, by the numbers of the tokens that it names."""
    n_channels, length = positions_BC3.shape[1], config.mask_patches
    # patches that fill no block are masked each for itself, and no channels are left out in them
    whole, rest = divmod(n_patches, length)
    n_hidden = int(config.mask_ratio * n_channels)
    at_G1 = torch.arange(whole + rest, device=positions_BC3.device)[:, None]
    dropped_BGC = _dropped(positions_BC3, draw(n_channels), config)[:, None] & (at_G1 < whole)
    key_BGC = region_keys(positions_BC3, draw(whole + rest, n_channels), dropped_BGC, radius=config.mask_radius)
    # whole regions until there are enough channels, of which the first are kept
    level_BGC = key_BGC.floor()
    last_BG1 = level_BGC.sort(dim=-1).values[..., max(n_hidden - 1, 0), None]
    grown_BGC = level_BGC <= last_BG1
    hidden_BGC = grown_BGC & (grown_BGC.cumsum(dim=-1) <= n_hidden)
    at_N = torch.arange(n_patches, device=positions_BC3.device)
    block_N = torch.where(at_N < whole * length, at_N // length, at_N - whole * length + whole)
    return (~hidden_BGC[:, block_N]).to(torch.uint8).flatten(1), n_patches * n_hidden


def region_keys(positions_BC3: Tensor, order_BGC: Tensor, dropped_BGC: Tensor, *, radius: float) -> Tensor:
    """In which order channels are hidden, if random ones are taken one after the other, each with what is around it.

    A channel that is hidden already is not taken. Those that are taken are the first of their surroundings in a random
    order among those that are not yet hidden; all such channels of a round are found at once (Blelloch, Fineman and
    Shun 2012, arXiv 1202.3205).

    Parameters
    ----------
    positions_BC3 : tensor
        m.
    order_BGC : tensor
        Random numbers, for each of G blocks.
    dropped_BGC : bool tensor
        Channels that are hidden from the start and are not taken, for each block or once for all.
    radius : float
        m.

    Returns
    -------
    tensor (B, G, C)
        The channel with the lowest number is hidden first. Whole part: the place of the channel that it was hidden
        with; rest: its distance from there. Negative for `dropped_BGC`.
    """
    n_channels = order_BGC.shape[-1]
    place_BGC = order_BGC.argsort(dim=-1).argsort(dim=-1)
    distance_BCC = torch.cdist(
        positions_BC3.float(), positions_BC3.float(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    near_B1CC = (distance_BCC <= radius)[:, None]
    taken_BGC = torch.zeros_like(order_BGC, dtype=torch.bool)
    open_BGC = ~taken_BGC & ~dropped_BGC
    for _ in range(ROUNDS):
        waiting_BGC = torch.where(open_BGC, place_BGC, n_channels)
        lowest_BGC = _lowest(waiting_BGC, near_B1CC, n_channels)
        now_BGC = open_BGC & (lowest_BGC == place_BGC)
        taken_BGC = taken_BGC | now_BGC
        open_BGC = open_BGC & ~(near_B1CC & now_BGC[:, :, None]).any(-1)
    seeds_BGC = torch.where(taken_BGC | open_BGC, place_BGC, n_channels)
    with_BGC = _lowest(seeds_BGC, near_B1CC, n_channels)
    centre_BGC = place_BGC.argsort(dim=-1).gather(-1, with_BGC.clamp(max=n_channels - 1))
    away_BGC = distance_BCC[:, None].expand(-1, order_BGC.shape[1], -1, -1).gather(-1, centre_BGC[..., None])[..., 0]
    return torch.where(dropped_BGC, -1.0, with_BGC + away_BGC / (2 * radius + 1e-6))


def _lowest(value_BGC: Tensor, near_B1CC: Tensor, most: int) -> Tensor:
    """Lowest value around each channel, itself included."""
    return torch.where(near_B1CC, value_BGC[:, :, None], most).amin(-1)


def _dropped(positions_BC3: Tensor, order_BC: Tensor, config: ReveConfig) -> Tensor:
    """Channels that are hidden throughout, (B, C)."""
    none_B1C = torch.zeros_like(order_BC[:, None], dtype=torch.bool)
    key_BC = region_keys(positions_BC3, order_BC[:, None], none_B1C, radius=config.dropout_radius)[:, 0]
    return key_BC.argsort(dim=-1).argsort(dim=-1) < int(config.dropout_ratio * key_BC.shape[-1])


def _split(key_BN: Tensor, n_hidden: int) -> tuple[Tensor, Tensor]:
    """Indices of the lowest keys and of the others, each in order."""
    hidden_BN = torch.zeros(key_BN.shape, dtype=torch.bool, device=key_BN.device)
    hidden_BN.scatter_(1, key_BN.argsort(dim=1, stable=True)[:, :n_hidden], True)
    order_BN = hidden_BN.to(torch.uint8).argsort(dim=1, stable=True)
    n_visible = key_BN.shape[1] - n_hidden
    return order_BN[:, n_visible:], order_BN[:, :n_visible]
