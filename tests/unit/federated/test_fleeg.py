"""FLEEG's network: its published sizes, its bound on filters, and seven steps for windows of any length."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from neuroloom.federated.fleeg import (
    CLASSIFIER_MAX_NORM,
    MAX_NORM,
    PUBLISHED,
    SHARED,
    SHORTEST,
    BoundedConv,
    FleegNet,
    FleegShape,
    shape_for,
)
from neuroloom.schema import ConfigError

PARAMETERS = {
    "KoreaU_MI": 305_077,
    "Shin_MI": 272_527,
    "ShanghaiU_MI": 286_327,
    "BCI2a_MI": 280_077,
    "Weibo2014": 291_277,
    "Cho2017": 381_627,
    "MunichMI": 346_327,
    "Schirrmeister2017": 359_077,
    "Murat2018": 254_977,
}
SMALL = FleegShape(5, 200, (1, 2, 3, 3), (6, 6, 6, 10))


def made(shape: FleegShape = SMALL, *, seed: int = 0, large: float = 1.0) -> FleegNet:
    """A network with weights of a seed, times a factor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = FleegNet(shape)
    with torch.no_grad():
        for conv in bounded(network).values():
            conv.weight.mul_(large)
    return network


def bounded(network: FleegNet) -> dict[str, BoundedConv]:
    return {name: part for name, part in network.named_modules() if isinstance(part, BoundedConv)}


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_client_has_its_size_and_seven_steps(name: str) -> None:
    shape = PUBLISHED[name]
    network = made(shape).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[name]
    assert shape.n_parameters() == PARAMETERS[name]
    shared = {key: tuple(network.state_dict()[key].shape) for key in SHARED}
    assert shared == {
        "shared_conv.weight": (200, 100, 10),
        "classifier.weight": (2, 200, 7),
        "classifier.bias": (2,),
    }
    assert sum(network.state_dict()[key].numel() for key in SHARED) == 202_802
    with torch.no_grad():
        assert network.features(drawn(1, shape.n_chans, shape.n_times)).shape == (1, 200, 7)


def test_the_published_clients_are_nine() -> None:
    assert set(PUBLISHED) == set(PARAMETERS)


@pytest.mark.parametrize("n_outputs", [2, 3, 5])
def test_classes_have_their_parameters_and_logits(n_outputs: int) -> None:
    network = FleegNet(SMALL, n_outputs)
    assert sum(parameter.numel() for parameter in network.parameters()) == SMALL.n_parameters(n_outputs)
    assert network(drawn(3, 5, 200)).shape == (3, n_outputs)


def test_what_is_not_shared_is_local_by_name_with_every_batch_norm() -> None:
    network = made()
    names = list(network.state_dict())
    assert set(SHARED) <= set(names)
    assert len(SHARED) == 3
    assert all(name.startswith("local") for name in names if name not in SHARED)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm1d)]
    assert len(norms) == 4
    assert all(name.startswith("local") for name in norms)
    assert not any("parametrizations" in name for name in names)


class Published2d(nn.Module):
    """The table of the specification layer by layer, on images of channels by times; weights are bounded as `how`."""

    def __init__(self, of: FleegNet, how: str) -> None:
        super().__init__()
        of, self.how = of.double(), how
        source = {name: part.weight.detach() for name, part in bounded(of).items()}
        self.time = nn.Parameter(source["local1.time"][:, :, None].clone())
        self.space = nn.Parameter(source["local1.space"][..., None].clone())
        self.convs = nn.ParameterList(
            source[name][:, :, None].clone() for name in ("local2.conv", "local3.conv", "shared_conv", "classifier")
        )
        self.biases = nn.ParameterList(
            of.state_dict()[f"{name}.bias"].clone() for name in ("local1.time", "classifier")
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in (25, 50, 100, 200)).double()
        self.pools = of.shape.pools

    def weight(self, weight: nn.Parameter, limit: float) -> Tensor:
        if self.how == "in place":
            weight.data = torch.renorm(weight.data, p=2, dim=0, maxnorm=limit)
        return torch.renorm(weight, p=2, dim=0, maxnorm=limit) if self.how == "on its way" else weight

    def forward(self, x_BCT: Tensor) -> Tensor:
        x = F.conv2d(x_BCT[:, None], self.weight(self.time, 2.0), self.biases[0])
        x = F.conv2d(x, self.weight(self.space, 2.0))
        for at, norm in enumerate(self.norms):
            if at:
                x = F.conv2d(F.dropout(x, 0.5, self.training), self.weight(self.convs[at - 1], 2.0))
            x = F.max_pool2d(F.elu(norm(x)), (1, self.pools[at]))
        x = F.conv2d(x, self.weight(self.convs[3], 0.5), self.biases[1])
        return x.log_softmax(dim=1)[:, :, 0, 0]


def trained(network: nn.Module, *, steps: int, learned: bool = True) -> Tensor:
    """Logarithms of probabilities, step by step, by FLEEG's optimizer and loss, then those of evaluation."""
    x_BCT, wanted_B = drawn(12, 5, 200).double(), torch.arange(12) % 2
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01 * learned, weight_decay=5e-4 * learned)
    said = []
    for step in range(steps):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step)
            said.append(network.train()(x_BCT).log_softmax(dim=1))
        optimizer.zero_grad()
        F.nll_loss(said[-1], wanted_B).backward()
        optimizer.step()
    said.append(network.eval()(x_BCT).log_softmax(dim=1))
    return torch.stack(said).detach()


@pytest.mark.parametrize("large", [1.0, 6.0])
def test_training_is_that_of_the_published_layers_and_renormalised_weights(large: float) -> None:
    network = made(large=large).double()
    references = {how: Published2d(network, how) for how in ("in place", "on its way", "not at all")}
    said = trained(network, steps=6)
    differs = {how: float((trained(twin, steps=6) - said).abs().max()) for how, twin in references.items()}
    assert differs["in place"] < 1e-4  # renorm itself divides by the norm plus 1e-7
    assert differs["not at all"] > 0.5
    if large > 1:  # a bound on the way to the layer only is another training
        assert differs["on its way"] > 0.5


def test_no_filter_is_beyond_its_bound_after_training_steps() -> None:
    network = made(large=6.0)
    trained(network.double(), steps=3)
    network.train()(drawn(4, 5, 200).double())
    for name, conv in bounded(network).items():
        limit = CLASSIFIER_MAX_NORM if name == "classifier" else MAX_NORM
        norm_F = conv.weight.detach().flatten(1).norm(dim=1)
        assert norm_F.max() <= limit, name
        assert norm_F.max() > 0.99 * limit, name  # the bound was at work


def test_a_second_look_finds_every_filter_within_its_bound() -> None:
    conv = BoundedConv(100, 5000, 10).train()
    with torch.no_grad():
        conv.weight.mul_(10 * torch.rand(5000, 1, 1, generator=torch.Generator().manual_seed(5)))
    once = conv.bounded().detach().clone()
    assert (once.flatten(1).norm(dim=1) > 1.999).float().mean() > 0.5
    torch.testing.assert_close(conv.bounded(), once, rtol=0, atol=0)


def test_evaluation_uses_bounded_weights_and_keeps_those_it_has() -> None:
    network = made(large=6.0).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x_BCT = drawn(4, 5, 200)
    with torch.no_grad():
        said_BL = network(x_BCT)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(value, before[name], rtol=0, atol=0)
        for conv in bounded(network).values():
            assert conv.bounded().flatten(1).norm(dim=1).max() <= conv.max_norm
            conv.weight.copy_(torch.renorm(conv.weight, p=2, dim=0, maxnorm=conv.max_norm))
        torch.testing.assert_close(network(x_BCT), said_BL, rtol=1e-4, atol=1e-5)


def test_a_frozen_part_is_left_as_it_is() -> None:
    network = made(large=6.0).train()
    network.shared_conv.weight.requires_grad_(False)
    before = network.shared_conv.weight.clone()
    network(drawn(4, 5, 200))
    torch.testing.assert_close(network.shared_conv.weight, before, rtol=0, atol=0)


def test_gradients_of_two_batches_can_be_added_up() -> None:
    network = made(large=6.0).train()
    (network(drawn(4, 5, 200)).sum() + network(drawn(4, 5, 200, seed=2)).square().sum()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_every_tensor_is_trained_and_what_differs_is_learned() -> None:
    network, rate = made(), torch.linspace(0, 40 * torch.pi, 200)
    wanted_B = torch.arange(32) % 2
    x_BCT = 0.3 * drawn(32, 5, 200) + (wanted_B[:, None, None] + 0.5) * rate.sin()
    before = {name: value.clone() for name, value in network.named_parameters()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003)
    torch.manual_seed(0)
    losses = []
    for _ in range(15):
        losses.append(F.cross_entropy(network.train()(x_BCT), wanted_B))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert all((value != before[name]).any() for name, value in network.named_parameters())
    assert losses[-1] < 0.5 * losses[0]


def test_cross_entropy_of_logits_is_the_published_loss() -> None:
    logits_BL, wanted_B = drawn(6, 2).double() * 4, torch.arange(6) % 2
    log_BL = logits_BL.log_softmax(dim=1)
    published = F.nll_loss(log_BL, wanted_B)
    torch.testing.assert_close(F.cross_entropy(logits_BL, wanted_B), published)
    torch.testing.assert_close(F.cross_entropy(log_BL, wanted_B), published)


def test_one_seed_gives_one_network_and_another_gives_another() -> None:
    first, again, other = (trained(made(seed=seed).double(), steps=2) for seed in (3, 3, 4))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("n_chans", "n_times"),
    [(64, 640), (19, 800), (15, 250), (30, 1000), (64, 1024), (19, 2000), (3, 300), (1, SHORTEST)],
)
def test_a_site_of_any_device_gets_a_network_of_seven_steps(n_chans: int, n_times: int) -> None:
    network = made(shape_for(n_chans, n_times)).eval()
    with torch.no_grad():
        assert network.features(drawn(1, n_chans, n_times)).shape == (1, 200, 7)
    assert shape_for(n_chans, n_times) == network.shape
    assert sum(network.state_dict()[key].numel() for key in SHARED) == 202_802


def test_every_length_from_the_shortest_on_leads_to_seven_steps() -> None:
    for n_times in [*range(SHORTEST, 200), *range(200, 2501, 11), 5000, 7500, 15000]:
        shape = shape_for(8, n_times)
        length = n_times
        for kernel, pool in zip(shape.kernels, shape.pools, strict=True):
            length = (length - kernel + 1) // pool
        assert length == 7
        assert all(6 <= kernel <= 22 for kernel in shape.kernels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_length_gets_sizes_near_the_published_ones(name: str) -> None:
    published = PUBLISHED[name]
    found = shape_for(published.n_chans, published.n_times)
    assert max(abs(a - b) for a, b in zip(found.pools, published.pools, strict=True)) <= 2
    if published.n_times == 1000:
        assert found == published


@pytest.mark.parametrize("n_times", [0, 10, SHORTEST - 1])
def test_windows_that_are_too_short_are_an_error_of_the_config(n_times: int) -> None:
    with pytest.raises(ConfigError, match=rf"windows of {n_times} samples are too short.*45 or more"):
        shape_for(19, n_times)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pools": (3, 3, 3, 2)}, "the classifier sees 11 steps"),
        ({"kernels": (10, 10, 10, 9)}, "the shared kernel has 9 samples"),
        ({"n_times": 40}, "the classifier sees 0 steps"),
        ({"n_chans": 0}, "start at 1"),
        ({"pools": (0, 3, 3, 3)}, "start at 1"),
    ],
)
def test_a_shape_that_could_not_be_shared_is_an_error_of_the_config(changed: dict, says: str) -> None:
    sizes: dict[str, Any] = {"n_chans": 19, "n_times": 1000, "pools": (3, 3, 3, 3), "kernels": (10, 10, 10, 10)}
    assert FleegShape(**sizes).n_steps == 7
    with pytest.raises(ConfigError, match=says):
        FleegShape(**(sizes | changed))


def test_windows_of_another_size_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(6, 200\).*made for \(5, 200\)"):
        made()(drawn(2, 6, 200))
