"""SEANet: lengths, edges, normalised weights, and weights that are fixed for a while."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from neuroloom.tokenizers.seanet import NormedConv, SeanetDecoder, SeanetEncoder, SkipLstm, folded

SIZES = {"n_filters": 4, "kernel_size": 5, "last_kernel_size": 5, "embed_dim": 12}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(21)


@pytest.mark.parametrize(
    ("ratios", "n_times"), [((8, 4, 2), 512), ((5, 5), 125), ((5, 3), 60), ((3,), 9), ((8, 4, 2), 64), ((4, 2), 16)]
)
def test_lengths_are_kept(ratios: tuple[int, ...], n_times: int) -> None:
    encoder, decoder = (kind(ratios=ratios, **SIZES) for kind in (SeanetEncoder, SeanetDecoder))
    frames = encoder(torch.randn(3, n_times, 1))
    hop = torch.tensor(ratios).prod()
    assert frames.shape == (3, n_times // hop, 12)
    assert decoder(frames).shape == (3, n_times, 1)


@pytest.mark.parametrize(("n_times", "frames"), [(20, 4), (21, 5), (24, 5)])
def test_a_last_stride_that_is_not_whole_is_filled(n_times: int, frames: int) -> None:
    assert NormedConv(1, 2, 10, stride=5)(torch.randn(1, n_times, 1)).shape == (1, frames, 2)


@pytest.mark.parametrize(
    ("kernel", "stride", "edges"), [(5, 1, (2, 2)), (3, 1, (1, 1)), (8, 4, (2, 2)), (10, 5, (3, 2))]
)
def test_edges_are_mirrored_as_torch_does_it(kernel: int, stride: int, edges: tuple[int, int]) -> None:
    conv, x_BCT = NormedConv(3, 4, kernel, stride=stride), torch.randn(2, 3, 40, requires_grad=True)
    weight, bias = conv.weights()
    expected = F.conv1d(F.pad(x_BCT, edges, mode="reflect"), weight, bias, stride=stride)
    found = conv(x_BCT.mT).mT
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    gradients = (torch.autograd.grad(y.pow(2).sum(), x_BCT)[0] for y in (found, expected))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-5)


def test_what_is_too_short_to_be_mirrored_is_mirrored_with_zeros() -> None:
    conv, x_BCT = NormedConv(1, 1, 5), torch.tensor([[[3.0, 7.0]]])
    weight, bias = conv.weights()
    expected = F.conv1d(torch.tensor([[[0.0, 7.0, 3.0, 7.0, 0.0, 7.0]]]), weight, bias)
    torch.testing.assert_close(conv(x_BCT.mT).mT, expected)


@pytest.mark.parametrize("transposed", [False, True])
def test_weights_are_normalised_as_torch_does_it(transposed: bool) -> None:
    conv = NormedConv(6, 4, 4, stride=2, transposed=transposed)
    conv.weight_g.data.uniform_(0.5, 2.0)
    layer = weight_norm((nn.ConvTranspose1d if transposed else nn.Conv1d)(6, 4, 4, stride=2))
    layer.parametrizations.weight.original0.data.copy_(conv.weight_g)
    layer.parametrizations.weight.original1.data.copy_(conv.weight_v)
    torch.testing.assert_close(conv.weights()[0], layer.weight)
    target = torch.randn_like(layer.weight)
    ours = torch.autograd.grad((conv.weights()[0] * target).sum(), [conv.weight_g, conv.weight_v])
    theirs = torch.autograd.grad((layer.weight * target).sum(), list(layer.parametrizations.weight.parameters()))
    torch.testing.assert_close(ours, theirs)


def test_a_new_convolution_has_its_weight_at_its_own_length() -> None:
    conv = NormedConv(6, 4, 3)
    torch.testing.assert_close(conv.weights()[0], conv.weight_v)


@pytest.mark.parametrize("kind", [SeanetEncoder, SeanetDecoder])
def test_fixed_weights_give_the_same_and_are_given_back(kind: type[nn.Module]) -> None:
    network = kind(ratios=(4, 2), **SIZES)
    x_BTC = torch.randn(2, *((64, 1) if kind is SeanetEncoder else (8, 12)))
    expected = network(x_BTC)
    with folded(network, torch.float32), torch.no_grad():
        torch.testing.assert_close(network(x_BTC), expected, rtol=0, atol=1e-6)
    with folded(network, torch.bfloat16), torch.no_grad():
        half = network(x_BTC.bfloat16())
        assert half.dtype == torch.bfloat16
        torch.testing.assert_close(half.float(), expected, rtol=0.1, atol=0.05)
    assert all(part.folded is None for part in network.modules() if isinstance(part, NormedConv | SkipLstm))
    assert torch.equal(network(x_BTC), expected)
    assert {param.dtype for param in network.parameters()} == {torch.float32}


def test_fixed_weights_are_given_back_after_an_error() -> None:
    network = SeanetEncoder(ratios=(4, 2), **SIZES)
    names = list(network.state_dict())
    with pytest.raises(RuntimeError), folded(network, torch.float32):
        network(torch.randn(2, 64, 3))
    assert list(network.state_dict()) == names
    x_BTC = torch.randn(1, 64, 1)
    before = network(x_BTC)
    network.layers[0].weight_g.data.mul_(2)
    assert not torch.equal(network(x_BTC), before)


def test_gradients_reach_every_weight() -> None:
    encoder, decoder = (kind(ratios=(4, 2), **SIZES) for kind in (SeanetEncoder, SeanetDecoder))
    decoder(encoder(torch.randn(2, 64, 1))).pow(2).sum().backward()
    lost = [name for part in (encoder, decoder) for name, p in part.named_parameters() if p.grad is None]
    assert lost == []


@pytest.mark.parametrize("width", [8, 16, 32, 64])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_half_precision_gives_the_same_numbers_at_every_stride(width: int, stride: int) -> None:
    """torch itself does not, on processors with AMX: 16 channels, kernel 8, stride 4 came out as noise."""
    torch.manual_seed(4)
    conv, x_BTC = NormedConv(width, 2 * width, 2 * stride, stride=stride), torch.randn(4, 512, width)
    with torch.no_grad():
        expected = conv(x_BTC)
        with folded(conv, torch.bfloat16):
            found = conv(x_BTC.bfloat16()).float()
    assert found.shape == expected.shape
    assert (found - expected).norm() / expected.norm() < 0.01
