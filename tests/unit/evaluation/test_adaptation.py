"""What is put into an encoder: nothing at first, as many numbers as declared, and the pretrained ones stay."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from neuroloom.evaluation.adaptation import (
    AttentiveHead,
    Reader,
    add_adapters,
    check_trainable,
    expected_trainable,
    trainable,
    used_parameters,
)
from neuroloom.schema import ConfigError

WIDTH = 12
UNUSED = {"decoder.weight", "decoder.bias", "last.qkv.weight", "last.qkv.bias"}


def batch(n: int = 3) -> tuple[Any, Any]:
    return torch.randn(n, 5, 5, 20, generator=torch.Generator().manual_seed(1)), torch.zeros(n, 5, 6)


def head(n_outputs: int = 3) -> AttentiveHead:
    return AttentiveHead(torch.zeros(WIDTH), torch.ones(WIDTH), n_outputs=n_outputs)


def test_parameters_in_use_are_found_frozen_or_not(toy_encoder: Any) -> None:
    encoder = toy_encoder().requires_grad_(False)
    encoder.out.requires_grad_(True)
    with torch.no_grad():
        used = used_parameters(encoder, batch())
    assert used == set(dict(encoder.named_parameters())) - UNUSED
    assert [name for name, value in encoder.named_parameters() if value.requires_grad] == ["out.weight", "out.bias"]
    assert all(value.grad is None for value in encoder.parameters())


def test_adapters_start_as_nothing_and_leave_the_base_bit_by_bit(toy_encoder: Any) -> None:
    encoder = toy_encoder().eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    tokens_BND = encoder(*batch())
    add_adapters(encoder, used_parameters(encoder, batch()), rank=4)
    assert torch.equal(encoder(*batch()), tokens_BND)
    assert parametrize.is_parametrized(encoder.qkv)
    assert parametrize.is_parametrized(encoder.out)
    assert not parametrize.is_parametrized(encoder.last["qkv"])  # no token depends on it
    optimizer = torch.optim.AdamW([value for value in encoder.parameters() if value.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        encoder(*batch()).square().mean().backward()
        optimizer.step()
    after = {name.replace("parametrizations.weight.original", "weight"): v for name, v in encoder.state_dict().items()}
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert (encoder(*batch()) - tokens_BND).abs().max() > 0.01
    rank = torch.linalg.matrix_rank(encoder.qkv.weight - before["qkv.weight"])
    assert rank == 4


def test_layers_that_are_not_there_are_named(toy_encoder: Any) -> None:
    encoder = toy_encoder()
    with pytest.raises(ConfigError, match="no linear layer named qkv or out"):
        add_adapters(encoder, frozenset({"patch.weight"}))


@pytest.mark.parametrize("n_outputs", [1, 2, 3])
def test_counts_follow_from_shapes(toy_encoder: Any, n_outputs: int) -> None:
    encoder = toy_encoder()
    used = used_parameters(encoder, batch())
    count = {
        name: expected_trainable(name, encoder, n_outputs, used=used, rank=5)
        for name in ("linear", "attentive", "lora", "full", "scratch")
    }
    in_head = trainable(head(n_outputs))
    assert count["attentive"] == in_head == 2 * WIDTH + n_outputs * (WIDTH + 1)
    assert count["linear"] == (1 if n_outputs == 2 else n_outputs) * (WIDTH + 1)
    everything = sum(value.numel() for name, value in encoder.named_parameters() if name not in UNUSED)
    assert count["full"] == count["scratch"] == everything + in_head
    add_adapters(encoder, used, rank=5)
    assert count["lora"] == trainable(Reader(encoder, head(n_outputs))) == in_head + 5 * (WIDTH + 36) + 5 * 24


def test_a_count_that_is_not_the_declared_one_is_refused(toy_encoder: Any) -> None:
    network = Reader(toy_encoder(), head())  # nobody froze it
    expected = expected_trainable("attentive", network.encoder, 3, used=used_parameters(network.encoder, batch()))
    with pytest.raises(ConfigError, match=r"regime attentive: [\d,]+ parameters would be trained, it has 63;.*encoder"):
        check_trainable("attentive", network, expected)
    network.encoder.requires_grad_(False)
    assert check_trainable("attentive", network, expected) == 63


def test_a_new_head_reads_the_mean_of_standardised_tokens(rng: np.random.Generator) -> None:
    tokens_BND = torch.from_numpy(rng.normal(3.0, 2.0, (4, 7, WIDTH))).float()
    one = AttentiveHead(torch.full((WIDTH,), 3.0), torch.full((WIDTH,), 2.0), n_outputs=2)
    mean_BD = (tokens_BND.mean(dim=1) - 3) / 2
    expected = one.linear(mean_BD / (mean_BD.square().mean(dim=1, keepdim=True) + 1e-6).sqrt())
    torch.testing.assert_close(one(tokens_BND), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        one.query_D.copy_(100 * (tokens_BND[0, 3] - 3))
    shown_D = (tokens_BND[0, 3] - 3) / 2  # the query picks the token that is like it
    torch.testing.assert_close(one(tokens_BND)[0], one.linear(one.norm(shown_D)), rtol=1e-3, atol=1e-4)


def test_features_that_never_change_are_left_out() -> None:
    sd_D = torch.ones(WIDTH)
    sd_D[2] = 0.0
    one, tokens_BND = AttentiveHead(torch.zeros(WIDTH), sd_D, n_outputs=2), torch.randn(2, 3, WIDTH)
    changed_BND = tokens_BND.clone()
    changed_BND[..., 2] = 1e6
    assert torch.equal(one(tokens_BND), one(changed_BND))


def test_a_frozen_encoder_has_no_dropout_and_no_gradient(toy_encoder: Any) -> None:
    frozen = Reader(toy_encoder(dropout=0.5), head(), frozen=True).train()
    free = Reader(toy_encoder(dropout=0.5), head()).train()
    assert torch.equal(frozen(*batch()), frozen(*batch()))
    assert not torch.equal(free(*batch()), free(*batch()))
    frozen(*batch()).sum().backward()
    assert all(value.grad is None for value in frozen.encoder.parameters())
    assert all(value.grad is not None for value in frozen.head.parameters())
