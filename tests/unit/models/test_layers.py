"""Parts of a transformer: they equal their formulas, and shortcuts change no number."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from neuroloom.models.layers import Attention, FeedForward, Layer, Transformer, attend


def normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * weight


def softmax_attention(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
    """Head after head, in double precision."""
    width = queries.shape[-1] // num_heads
    parts = []
    for head in range(num_heads):
        q, k, v = (x[..., head * width : (head + 1) * width].double() for x in (queries, keys, values))
        parts.append(torch.softmax(q @ k.mT / width**0.5, dim=-1) @ v)
    return torch.cat(parts, dim=-1)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-6), (torch.bfloat16, 0.02)])
def test_attention_is_that_of_the_formula(tokens: Tensor, dtype: torch.dtype, bound: float) -> None:
    generator = torch.Generator().manual_seed(2)
    queries, keys, values = (torch.randn(2, n, 48, generator=generator).to(dtype) for n in (5, 9, 9))
    found = attend(queries, keys, values, 4)
    assert found.dtype == dtype
    expected = softmax_attention(queries, keys, values, 4)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=bound)
    assert expected.std() > 0.2


def test_half_precision_has_the_gradient_of_single_precision() -> None:
    parts = torch.randn(3, 2, 30, 64, generator=torch.Generator().manual_seed(3)).bfloat16()
    given = [parts.clone().requires_grad_(), parts.float().requires_grad_()]
    for qkv in given:
        attend(*qkv, 4).float().pow(2).sum().backward()
    half, single = (qkv.grad.float().flatten() for qkv in given if qkv.grad is not None)
    assert torch.corrcoef(torch.stack([half, single]))[0, 1] > 0.9999
    assert (half.norm() / single.norm() - 1).abs() < 0.01


def test_a_layer_is_that_of_the_formula(tokens: Tensor) -> None:
    torch.manual_seed(4)
    layer = Layer(24, num_heads=3, head_dim=16, hidden=41)
    attention, wide = layer.attention, layer.feed_forward
    torch.nn.init.normal_(attention.norm.weight)
    torch.nn.init.normal_(wide.norm.weight)
    qkv = (normed(tokens, attention.norm.weight) @ attention.qkv.weight.T).chunk(3, dim=-1)
    x = tokens.double() + softmax_attention(*qkv, 3) @ attention.out.weight.double().T
    up = normed(x, wide.norm.weight.double()) @ wide.widen.weight.double().T
    expected = x + (F.gelu(up[..., 41:]) * up[..., :41]) @ wide.narrow.weight.double().T
    torch.testing.assert_close(layer(tokens).double(), expected, rtol=0, atol=1e-5)


def test_heads_may_be_wider_than_a_token_and_nothing_has_a_bias() -> None:
    attention, wide = Attention(24, num_heads=4, head_dim=16), FeedForward(24, 41)
    shapes = {
        name: tuple(p.shape) for part in (attention, wide) for name, p in part.named_parameters() if "norm" not in name
    }
    assert shapes == {
        "qkv.weight": (192, 24),
        "out.weight": (24, 64),
        "widen.weight": (82, 24),
        "narrow.weight": (24, 41),
    }


def test_the_last_layer_may_make_some_tokens_only(tokens: Tensor) -> None:
    torch.manual_seed(5)
    model = Transformer(24, depth=3, num_heads=2, head_dim=8, mlp_ratio=2.66)
    whole, part = model(tokens), model(tokens, start=4)
    assert part.shape == (2, 5, 24)
    torch.testing.assert_close(part, whole[:, 4:], rtol=0, atol=1e-6)
    grads = [torch.autograd.grad(x.pow(2).sum(), list(model.parameters())) for x in (whole[:, 4:], part)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)


def test_states_are_the_tokens_after_each_layer(tokens: Tensor) -> None:
    torch.manual_seed(6)
    model = Transformer(24, depth=3, num_heads=2, head_dim=8, mlp_ratio=2.66)
    states = list(model.states(tokens))
    assert len(states) == 4
    assert states[0] is tokens
    torch.testing.assert_close(states[2], model.layers[1](states[1]))
    torch.testing.assert_close(states[-1], model(tokens))


@pytest.mark.parametrize(("dim", "sd"), [(512, 0.02), (128, 0.04)])
def test_weights_start_with_the_published_sd_at_the_published_width(dim: int, sd: float) -> None:
    torch.manual_seed(7)
    model = Transformer(dim, depth=1, num_heads=4, head_dim=16, mlp_ratio=2.66)
    weights = torch.cat([p.flatten() for name, p in model.named_parameters() if "norm" not in name])
    assert weights.abs().max() <= 3 * sd
    assert weights.std().item() == pytest.approx(0.9866 * sd, rel=0.01)  # of a normal distribution cut at three SDs
    assert all(torch.equal(p, torch.ones(dim)) for name, p in model.named_parameters() if "norm" in name)


def test_norms_stay_in_single_precision_in_half_precision_training(tokens: Tensor) -> None:
    torch.manual_seed(8)
    layer = Layer(24, num_heads=2, head_dim=8, hidden=48)
    seen: list[torch.dtype] = []
    layer.attention.norm.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    layer.attention.qkv.register_forward_hook(lambda module, given, made: seen.append(made.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made = layer(tokens)
    assert seen == [torch.float32, torch.bfloat16]
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, layer(tokens), rtol=0, atol=0.01)


def test_a_local_start_looks_at_its_like() -> None:
    """Of tokens in clusters, each attends first to those of its own; from chance it does not."""
    torch.manual_seed(0)
    centres_KD, at_N = torch.randn(4, 32), torch.arange(40) % 4
    x_BND = (centres_KD[at_N] + 0.1 * torch.randn(40, 32))[None]
    same_NN = (at_N[:, None] == at_N).float()
    share = {}
    for gain in (0.0, 4.0):
        (attention,) = [
            part
            for part in Transformer(32, depth=1, num_heads=2, head_dim=16, mlp_ratio=2, local_start=gain).modules()
            if isinstance(part, Attention)
        ]
        queries, keys, _ = attention.qkv(attention.norm(x_BND)).unflatten(-1, (3, 2, 16)).permute(2, 0, 3, 1, 4)
        weight_NN = (queries @ keys.mT / 4).softmax(-1).mean(dim=(0, 1))
        share[gain] = (weight_NN * same_NN).sum(-1).mean().item()
    assert share[0.0] < 0.4
    assert share[4.0] > 0.9
