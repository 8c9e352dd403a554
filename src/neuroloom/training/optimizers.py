"""AdamW, and AdamW with clipped updates, both through the fused kernels of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from neuroloom.training.config import TrainingConfig

BUNDLE = 2**24  # elements that are looked at together on a GPU: their temporaries stay small
PIECE = 2**16  # elements that are looked at together on a CPU: they stay in its cache


class StableAdamW(torch.optim.Optimizer):
    """AdamW whose rate is divided, tensor by tensor, by the root mean square of its update where that exceeds 1.

    Weight decay is decoupled and scaled by the same rate. Nothing is copied to the host, so a GPU is not waited for.

    Parameters
    ----------
    params : iterable
        Parameters, or groups of them.
    lr : float
    betas : tuple of float
        Decay of the moving averages of gradient and squared gradient.
    eps : float
    weight_decay : float

    Notes
    -----
    Source: Wortsman et al. 2023 (arXiv 2304.13013), algorithm 2. Its debiased averages are Adam's with bias correction,
    so the last move is Adam's own kernel with a rate for each tensor.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.92, 0.999),
        eps: float = 1e-9,
        weight_decay: float = 0.01,
    ) -> None:
        if not (0 <= betas[0] < 1 and 0 < betas[1] < 1):
            raise ValueError(f"betas {betas}: need 0 <= first < 1 and 0 < second < 1")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "step": 0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            group["step"] += 1
            for params in _bundles([param for param in group["params"] if param.grad is not None]):
                self._update(params, group)
        return loss

    def _update(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for param in params:
            if not self.state[param]:
                self.state[param] = {name: torch.zeros_like(param) for name in ("exp_avg", "exp_avg_sq")}
        grads = [_gradient(param) for param in params]
        means = [self.state[param]["exp_avg"] for param in params]
        squares = [self.state[param]["exp_avg_sq"] for param in params]
        first, second = group["betas"]
        rms_N = update_rms(grads, squares, beta=second, eps=group["eps"], step=group["step"])
        rates = (group["lr"] / rms_N.clamp(min=1.0)).unbind()
        steps = torch.full((), float(group["step"]), device=params[0].device)
        options = {"beta1": first, "beta2": second, "weight_decay": group["weight_decay"], "eps": group["eps"]}
        # a call for each tensor, because the kernel takes one rate
        for param, grad, mean, square, rate in zip(params, grads, means, squares, rates, strict=True):
            torch._fused_adamw_(
                [param], [grad], [mean], [square], [], [steps], lr=rate, amsgrad=False, maximize=False, **options
            )


def update_rms(grads: Sequence[Tensor], squares: Sequence[Tensor], *, beta: float, eps: float, step: int) -> Tensor:
    """Root mean square of g / sqrt(u) of each tensor, where u is the debiased average that will hold g, too.

    Parameters
    ----------
    grads, squares : sequence of Tensor
        Gradients, and the averages of their squares before this step; on one device.
    beta : float
        Decay of the averages.
    eps : float
        u counts as eps ** 2 at least.
    step : int
        Of this update, counted from 1.

    Returns
    -------
    Tensor (N,)
    """
    old = beta / (1 - beta**step)
    new = (1 - beta) / (1 - beta**step)
    add = _sums_in_pieces if grads[0].device.type == "cpu" else _sums_at_once
    # factors are folded in as numbers: a tensor of them would have to be copied to a GPU, which waits for it
    sums = add(grads, squares, share=new / old, least=eps**2 / old)
    return torch.stack(torch._foreach_div(sums, [old * grad.numel() for grad in grads])).sqrt()


def _sums_at_once(grads: Sequence[Tensor], squares: Sequence[Tensor], *, share: float, least: float) -> list[Tensor]:
    """Sum of g ** 2 / (u + share * g ** 2) of each tensor, in a few kernels for all of them."""
    expected = torch._foreach_addcmul(list(squares), list(grads), list(grads), share)
    torch._foreach_clamp_min_(expected, least)
    ratios = torch._foreach_div(list(grads), expected)
    torch._foreach_mul_(ratios, list(grads))
    return list(torch._foreach_norm(ratios, 1))


def _sums_in_pieces(grads: Sequence[Tensor], squares: Sequence[Tensor], *, share: float, least: float) -> list[Tensor]:
    """The same in pieces that stay in a processor's cache, which is several times faster there."""
    sums = []
    for grad, square in zip(grads, squares, strict=True):
        pieces = zip(torch.split(grad.flatten(), PIECE), torch.split(square.flatten(), PIECE), strict=True)
        sums.append(torch.stack([_piece_sum(g, u, share, least) for g, u in pieces]).sum())
    return sums


def _piece_sum(grad: Tensor, square: Tensor, share: float, least: float) -> Tensor:
    expected = torch.addcmul(square, grad, grad, value=share).clamp_min_(least)
    return torch.dot(torch.div(grad, expected, out=expected), grad)


def build_optimizer(groups: Iterable[dict[str, Any]], config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer that the config names.

    Parameters
    ----------
    groups : iterable of dict
        `params`, and where they differ from the config's: `lr` (peak), `betas`, `eps`, `weight_decay`.
    config : TrainingConfig
    """
    options: dict[str, Any] = {
        "lr": config.lr,
        "betas": config.betas,
        "eps": config.eps,
        "weight_decay": config.weight_decay,
    }
    if config.optimizer == "stable_adamw":
        return StableAdamW(list(groups), **options)
    return torch.optim.AdamW(list(groups), fused=True, **options)


def _bundles(params: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Parameters in turn, together up to a size, on one device and of one type."""
    bundle: list[Tensor] = []
    size = 0
    for param in params:
        other = bundle and (param.device != bundle[0].device or param.dtype != bundle[0].dtype)
        if bundle and (other or size + param.numel() > BUNDLE):
            yield bundle
            bundle, size = [], 0
        bundle.append(param)
        size += param.numel()
    if bundle:
        yield bundle


def _gradient(param: Tensor) -> Tensor:
    if param.grad is None or param.grad.is_sparse:
        raise ValueError(f"a parameter of shape {tuple(param.shape)} has a sparse gradient; use a dense embedding")
    if param.grad.stride() == param.stride():
        return param.grad
    return torch.empty_like(param).copy_(param.grad)  # the kernel walks through memory, whatever its order
