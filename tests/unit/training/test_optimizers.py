import pytest
import torch
from torch import nn

from neuroloom.training.config import TrainingConfig
from neuroloom.training.optimizers import StableAdamW, build_optimizer, update_rms


@pytest.mark.parametrize("name", ["adamw", "stable_adamw"])
def test_groups_take_the_settings_of_the_config_where_they_have_none(name: str) -> None:
    first, second = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    config = TrainingConfig(optimizer=name, lr=0.1, betas=(0.5, 0.9), eps=1e-5, weight_decay=0.2)
    optimizer = build_optimizer([{"params": [first]}, {"params": [second], "weight_decay": 0.0, "lr": 0.3}], config)
    found = [(group["lr"], group["betas"], group["eps"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [(0.1, (0.5, 0.9), 1e-5, 0.2), (0.3, (0.5, 0.9), 1e-5, 0.0)]


def test_pieces_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU tensors are gone through in pieces, on a GPU as a whole."""
    from neuroloom.training import optimizers

    torch.manual_seed(0)
    grads = [torch.randn(1000), torch.randn(7, 11), torch.zeros(3)]
    squares = [torch.rand_like(grad) for grad in grads]
    options = {"beta": 0.99, "eps": 1e-9, "step": 3}
    expected = update_rms(grads, squares, **options)
    monkeypatch.setattr(optimizers, "PIECE", 64)
    assert torch.allclose(update_rms(grads, squares, **options), expected, rtol=1e-6)
    monkeypatch.setattr(optimizers, "_sums_in_pieces", optimizers._sums_at_once)
    assert torch.allclose(update_rms(grads, squares, **options), expected, rtol=1e-6)


def test_zero_gradients_leave_weights_finite() -> None:
    param = nn.Parameter(torch.ones(4))
    optimizer = StableAdamW([param], lr=0.1, weight_decay=0.0)
    for _ in range(2):
        param.grad = torch.zeros(4)
        optimizer.step()
    assert torch.equal(param, torch.ones(4))


def test_parameters_without_a_gradient_stay() -> None:
    used, idle = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))
    optimizer = StableAdamW([used, idle], lr=0.1)
    used.grad = torch.ones(4)
    optimizer.step()
    assert torch.equal(idle, torch.ones(4))
    assert not torch.equal(used, torch.ones(4))


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="betas"):
        StableAdamW([nn.Parameter(torch.ones(1))], betas=(0.9, 0.0))
