"""What the trained models of an arm give away, beside what they gave away before anybody fine-tuned them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional

from neuroloom.evaluation.adaptation import Reader
from neuroloom.evaluation.examples import AT_ONCE
from neuroloom.evaluation.readout import DEFAULT_SETTINGS, ProbeSettings
from neuroloom.federated.attacks import membership_inference, subject_identity
from neuroloom.federated.fleeg import FleegNet
from neuroloom.federated.training import SiteTraining
from neuroloom.records import Array

TRAINED, INITIAL = "after training", "before training"


def attack_rows(
    trainings: Sequence[SiteTraining], *, rng: np.random.Generator, settings: ProbeSettings = DEFAULT_SETTINGS
) -> pd.DataFrame:
    """Both attacks on the models of one arm; every site's people are attacked through the model that their site has.

    The networks are as before the first round afterwards.

    Parameters
    ----------
    trainings : sequence of SiteTraining
        After their last round.
    rng : np.random.Generator
    settings : ProbeSettings
        Of the read-out for identity.

    Returns
    -------
    table : DataFrame
        Columns of `attacks.membership_inference` with `state` (after or before training) and `site` (`all` for
        membership, which one site has too few people for).
    """
    after = [_seen_through(training) for training in trainings]
    for training in trainings:
        training.restart()
    before = [_seen_through(training) for training in trainings]
    loss_W, first_W = (np.concatenate([loss for loss, _ in found]) for found in (after, before))
    member_W = np.concatenate([_members(training) for training in trainings])
    people_W = np.concatenate([training.data.participants_W for training in trainings])
    members = membership_inference(loss_W, member_W, people_W, reference_W=first_W, rng=rng)
    null = membership_inference(first_W, member_W, people_W, rng=rng)
    tables = [members.assign(state=TRAINED, site="all"), null.assign(state=INITIAL, site="all")]
    for state, found in ((TRAINED, after), (INITIAL, before)):
        for training, (_, features_WD) in zip(trainings, found, strict=True):
            data = training.data
            row = subject_identity(
                features_WD,
                data.participants_W,
                recordings_W=data.recordings_W,
                starts_W=data.starts_W,
                rng=rng,
                settings=settings,
            )
            tables.append(row.assign(state=state, site=data.site))
    return pd.concat(tables, ignore_index=True)


def _members(training: SiteTraining) -> Array:
    """Windows of people who were trained on."""
    data = training.data
    return np.isin(data.participants_W, data.people)


def _seen_through(training: SiteTraining) -> tuple[Array, Array]:
    """Loss (W,) and features (W, D) of all windows, with the weights as they are; classes weigh the same here."""
    network, data = training.network.eval(), training.data
    losses: list[Array] = []
    features: list[Array] = []
    windows: list[Array] = []
    for group in data.groups:
        for rows_N in np.array_split(np.arange(len(group.windows_N)), -(-len(group.windows_N) // AT_ONCE)):
            windows.append(group.windows_N[rows_N])
            wanted_B = torch.from_numpy(data.target_W[windows[-1]])
            with torch.no_grad():
                features_BD, logits_BL = _read(network, group.rows(rows_N))
                losses.append(functional.cross_entropy(logits_BL, wanted_B, reduction="none").double().numpy())
            features.append(features_BD.double().numpy())
    order_W = np.argsort(np.concatenate(windows))
    return np.concatenate(losses)[order_W], np.concatenate(features)[order_W]


def _read(network: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Mean over the tokens, or over time, (B, D), and logits (B, L)."""
    if isinstance(network, Reader):
        tokens_BND = network.encoder(*inputs)
        return tokens_BND.mean(dim=1), network.head(tokens_BND)
    if isinstance(network, FleegNet):
        found_BDT = network.features(*inputs)
        return found_BDT.mean(dim=-1), network.classifier(found_BDT)[:, :, 0]
    raise TypeError(f"{type(network).__name__}: say in attacking._read what its features are")
