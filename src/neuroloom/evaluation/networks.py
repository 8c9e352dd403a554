"""Small networks as baselines, and the tuning budget that they share with the models they are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neuroloom.evaluation.statistics import merit_of
from neuroloom.records import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Budget:
    """Tuning that a baseline, or a model beside it, is given.

    Attributes
    ----------
    epochs : int
        Passes over the training part of each fit of a network; the best one by validation is kept.
    learning_rates : tuple of float
    penalties : tuple of float
        Of the logistic regression on tangent space, per training window.
    components : tuple of int
        Of CSP.
    batch_size : int
    weight_decay : float
    """

    epochs: int = 20
    learning_rates: tuple[float, ...] = (1e-3, 3e-3)
    penalties: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    components: tuple[int, ...] = (2, 4, 6, 8)
    batch_size: int = 32
    weight_decay: float = 1e-3


DEFAULT_BUDGET = Budget()


def train_network(
    network: torch.nn.Module,
    x: dict[str, Array],
    y: dict[str, Array],
    *,
    learning_rate: float,
    budget: Budget,
    n_classes: int,
) -> dict[str, Array]:
    """Train on `train` and return the probabilities of `validation` and `test` at the best epoch by validation.

    Adam with decoupled weight decay, cross entropy with classes weighted equally. Takes torch's generator as it is: the
    caller seeds it.

    Parameters
    ----------
    network : torch.nn.Module
        (W, C, T) -> logits (W, L).
    x : dict
        Part -> standardised float32 windows (W, C, T).
    y : dict
        Part -> codes (W,).
    learning_rate : float
    budget : Budget
    n_classes : int
    """
    import torch

    count_L = np.bincount(y["train"], minlength=n_classes)
    weight_L = torch.tensor(np.where(count_L > 0, len(y["train"]) / np.maximum(count_L, 1), 0.0), dtype=torch.float32)
    loss = torch.nn.CrossEntropyLoss(weight=weight_L)
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=budget.weight_decay)
    x_WCT, y_W = torch.from_numpy(x["train"]), torch.from_numpy(y["train"])
    best, kept = -1.0, dict[str, Array]()
    for _ in range(budget.epochs):
        network.train()
        order_W = torch.randperm(len(y_W))
        for at in range(0, len(order_W), budget.batch_size):
            batch = order_W[at : at + budget.batch_size]
            if len(batch) > 1:  # batch norm has no spread of a single window
                optimizer.zero_grad()
                loss(network(x_WCT[batch]), y_W[batch]).backward()
                optimizer.step()
        judged = {part: _network_proba(network, x[part]) for part in ("validation", "test")}
        merit = merit_of(y["validation"], judged["validation"])
        if merit > best + 1e-12:
            best, kept = merit, judged
    return kept


def _network_proba(network: torch.nn.Module, x_WCT: Array) -> Array:
    import torch

    network.eval()
    with torch.inference_mode():
        proba = [network(torch.from_numpy(x_WCT[at : at + 256])).softmax(dim=1) for at in range(0, len(x_WCT), 256)]
    return torch.cat(proba).double().numpy()


def build_network(kind: str, shape: tuple[int, ...], *, n_classes: int, sfreq: float) -> torch.nn.Module:
    """`eegnet` (Lawhern et al. 2018, J Neural Eng 15:056013) or `shallow` (Schirrmeister et al. 2017, HBM 38:5391).

    Both are braindecode's with its defaults; `shape` is channels and samples of a window.
    """
    from braindecode.models import EEGNet, ShallowFBCSPNet

    model = {"eegnet": EEGNet, "shallow": ShallowFBCSPNet}[kind]
    return model(n_chans=shape[0], n_outputs=n_classes, n_times=shape[1], sfreq=sfreq)
