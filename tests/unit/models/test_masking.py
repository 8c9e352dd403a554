"""What is hidden: exact counts, the shapes of blocks, and equal numbers whatever the number of processes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from neuroloom.models.config import ReveConfig
from neuroloom.models.masking import region_keys, sample_masks

NAMES = [
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz"),
    *("C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2"),
]
KINDS = ("block", "released", "random")


@pytest.fixture(scope="module")
def electrodes() -> Tensor:
    """19 electrodes of the 10-20 system, (C, 3)."""
    import mne

    places = mne.channels.make_standard_montage("colin27_1020").get_positions()["ch_pos"]
    return torch.from_numpy(np.array([places[name] for name in NAMES], np.float32))


@pytest.fixture(scope="module")
def dense() -> Tensor:
    """64 places on a head of 9 cm, 2 cm and more apart."""
    at = torch.arange(64) + 0.5
    height, turn = 1 - at / 64, torch.pi * (1 + 5**0.5) * at
    round_ = (1 - height**2).sqrt()
    return 0.09 * torch.stack([round_ * turn.cos(), round_ * turn.sin(), height], dim=1)


def masks(positions_C3: Tensor, n_rows: int = 64, n_patches: int = 11, seed: int = 0, **settings: object) -> Tensor:
    """Hidden or not, (B, C, N)."""
    config = ReveConfig(**settings)
    generator = torch.Generator().manual_seed(seed)
    positions_BC3 = positions_C3.expand(n_rows, -1, -1)
    masked_BM, visible_BN = sample_masks(positions_BC3, n_patches, config=config, generator=generator)
    n_tokens = len(positions_C3) * n_patches
    both = torch.cat([masked_BM, visible_BN], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(n_tokens).expand(n_rows, -1))
    assert (masked_BM.diff(dim=1) > 0).all()
    assert (visible_BN.diff(dim=1) > 0).all()
    hidden_BN = torch.zeros(n_rows, n_tokens, dtype=torch.bool).scatter_(1, masked_BM, True)
    return hidden_BN.unflatten(1, (len(positions_C3), n_patches))


def agreement(hidden_BCN: Tensor) -> float:
    """Share of pairs of patches of one block and channel that are both hidden or both visible."""
    blocks = hidden_BCN[..., :9].unflatten(-1, (3, 3))
    return float((blocks[..., [0, 0, 1]] == blocks[..., [1, 2, 2]]).float().mean())


@pytest.mark.parametrize("n_patches", [1, 2, 11, 30])
@pytest.mark.parametrize("ratio", [0.1, 0.55, 0.9])
def test_counts_are_exact(electrodes: Tensor, n_patches: int, ratio: float) -> None:
    counts = {kind: masks(electrodes, 8, n_patches, mask=kind, mask_ratio=ratio).sum((1, 2)) for kind in KINDS}
    n_tokens = 19 * n_patches
    for kind in ("block", "random"):
        assert counts[kind].tolist() == [round(ratio * n_tokens)] * 8
    assert counts["released"].tolist() == [int(ratio * 19) * n_patches] * 8


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_something_is_hidden_and_something_is_seen(kind: str, ratio: float) -> None:
    for n_channels in (1, 2):
        hidden_BCN = masks(torch.rand(n_channels, 3), 4, 2, mask=kind, mask_ratio=ratio)
        assert set(hidden_BCN.sum((1, 2)).tolist()) <= set(range(1, 2 * n_channels))


@pytest.mark.parametrize("montage", ["electrodes", "dense"])
def test_patches_of_a_block_agree_but_for_one_channel(montage: str, request: pytest.FixtureRequest) -> None:
    hidden_BCN = masks(request.getfixturevalue(montage), mask="block")
    blocks = hidden_BCN[..., :9].unflatten(-1, (3, 3))
    mixed_B = (blocks.any(-1) & ~blocks.all(-1)).sum((1, 2))
    assert mixed_B.max() <= 1
    assert (hidden_BCN.sum(1).amax(1) - hidden_BCN.sum(1).amin(1)).max() <= 1  # as many channels at each time


def test_patches_of_a_released_block_agree_as_if_drawn_singly(dense: Tensor) -> None:
    found = {kind: agreement(masks(dense, 200, mask=kind)) for kind in KINDS}
    by_chance = 0.55**2 + 0.45**2
    assert found["block"] > 0.99
    assert found["random"] == pytest.approx(by_chance, abs=0.01)
    assert found["released"] == pytest.approx(by_chance, abs=0.03)


def test_released_masks_are_blocks_in_the_other_order(electrodes: Tensor) -> None:
    hidden_BCN = masks(electrodes, mask="released")
    by_time_BNC = hidden_BCN.flatten(1).unflatten(1, (11, 19))
    assert (by_time_BNC.sum(2) == int(0.55 * 19)).all()
    assert agreement(by_time_BNC.transpose(1, 2)) == 1.0
    assert (by_time_BNC[:, :9].all(1).sum(1) >= 1).all()  # channels that are left out throughout


def test_released_masks_spare_the_last_channels(dense: Tensor) -> None:
    places_C3 = dense[torch.randperm(64, generator=torch.Generator().manual_seed(9))]
    released = masks(places_C3, 400, mask="released").flatten(1).unflatten(1, (11, 64)).float().mean((0, 1))
    block = masks(places_C3, 400, mask="block").float().mean((0, 2))
    assert released[-8:].mean() < block[-8:].mean() - 0.05


def test_blocks_do_not_favour_channels_by_their_number(electrodes: Tensor) -> None:
    often_C = masks(electrodes, 400, mask="block").float().mean((0, 2))
    turned_C = masks(electrodes.flip(0), 400, mask="block").float().mean((0, 2)).flip(0)
    assert (often_C - turned_C).abs().max() < 0.06
    assert often_C.mean().item() == pytest.approx(0.55, abs=0.01)


def test_blocks_are_regions_of_the_head(dense: Tensor) -> None:
    apart_CC = torch.cdist(dense, dense).fill_diagonal_(1)
    nearest_C = apart_CC.argmin(1)
    alike = {}
    for kind in ("block", "random"):
        hidden_BCN = masks(dense, 100, mask=kind)
        alike[kind] = float((hidden_BCN == hidden_BCN[:, nearest_C]).float().mean())
    assert alike["random"] == pytest.approx(0.505, abs=0.02)
    assert alike["block"] > alike["random"] + 0.1


def test_some_channels_are_hidden_throughout(dense: Tensor) -> None:
    dropped = masks(dense, 100, mask="block", mask_ratio=0.3, dropout_ratio=0.1).all(-1).sum(1)
    without = masks(dense, 100, mask="block", mask_ratio=0.3, dropout_ratio=0.0).all(-1).sum(1)
    assert (dropped >= 6).all()
    assert without.float().mean() < 3


def regions_one_by_one(place_C3: np.ndarray, order: np.ndarray, dropped: np.ndarray, radius: float) -> np.ndarray:
    """Region of each channel, by taking one channel after the other."""
    with_C = np.where(dropped, -1, len(order))
    for number, seed in enumerate(np.argsort(order)):
        if with_C[seed] == len(order):
            near = np.linalg.norm(place_C3 - place_C3[seed], axis=1) <= radius
            with_C[near & (with_C == len(order))] = number
    return with_C


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.05, 1.0])
def test_regions_found_at_once_are_those_found_one_by_one(dense: Tensor, radius: float) -> None:
    generator = torch.Generator().manual_seed(3)
    order_BGC = torch.rand(3, 4, 64, generator=generator)
    dropped_BGC = torch.rand(3, 4, 64, generator=generator) < 0.1
    key_BGC = region_keys(dense.expand(3, -1, -1), order_BGC, dropped_BGC, radius=radius)
    for row in range(3):
        for block in range(4):
            parts = (dense.numpy(), order_BGC[row, block].numpy(), dropped_BGC[row, block].numpy())
            expected = regions_one_by_one(*parts, radius)
            assert key_BGC[row, block].floor().int().tolist() == expected.tolist()


def test_a_region_that_is_cut_keeps_what_is_nearest_to_its_centre(dense: Tensor) -> None:
    order_BGC = torch.rand(1, 1, 64, generator=torch.Generator().manual_seed(4))
    key_C = region_keys(dense[None], order_BGC, torch.zeros(1, 1, 64, dtype=torch.bool), radius=0.05)[0, 0]
    first = int(order_BGC[0, 0].argmin())
    region = key_C.floor() == 0
    away_C = (dense - dense[first]).norm(dim=1)
    assert region.sum() > 5
    assert torch.equal(region, away_C <= 0.05)
    assert torch.equal(key_C[region].argsort(), away_C[region].argsort())


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_two_processes_are_those_of_one(dense: Tensor, kind: str) -> None:
    positions_BC3 = dense + 0.001 * torch.randn(6, 64, 3, generator=torch.Generator().manual_seed(5))
    config = ReveConfig(mask=kind)

    def drawn(first: int, last: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(6)
        return sample_masks(positions_BC3[first:last], 11, config=config, generator=generator, rows=(first, last, 6))

    whole, parts = drawn(0, 6), (drawn(0, 4), drawn(4, 6))
    for at in range(2):
        assert torch.equal(torch.cat([part[at] for part in parts]), whole[at])
    assert not torch.equal(whole[0][0], whole[0][1])


def test_the_kind_may_be_given() -> None:
    positions_BC3 = torch.rand(2, 4, 3)
    config = ReveConfig(mask="block")
    found = [
        sample_masks(positions_BC3, 5, config=one, generator=torch.Generator().manual_seed(7), mask=mask)[0]
        for one, mask in ((config, "random"), (ReveConfig(mask="random"), None))
    ]
    assert torch.equal(*found)
