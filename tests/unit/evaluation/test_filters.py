"""The first layer of ShallowFBCSPNet against braindecode's, whose weights it uses."""

from __future__ import annotations

import pytest
import torch

from neuroloom.evaluation.filters import FirstLayer


@pytest.mark.parametrize("bias_spat", [False, True])
def test_it_filters_as_braindecode_does(bias_spat: bool) -> None:
    from braindecode.modules import CombinedConv

    torch.manual_seed(1)
    combined = CombinedConv(in_chans=5, n_filters_time=3, n_filters_spat=4, filter_time_length=7, bias_spat=bias_spat)
    ours = FirstLayer(combined)
    x_B1TC = torch.randn(2, 1, 30, 5, requires_grad=True)
    expected, found = combined(x_B1TC), ours(x_B1TC)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    inputs = [x_B1TC, *combined.parameters()]
    gradients = [torch.autograd.grad(y.pow(2).sum(), inputs, retain_graph=True) for y in (found, expected)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in combined.named_parameters()]
