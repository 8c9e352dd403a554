"""The network of an arm, and which of its tensors are shared: everything else never leaves a site.

No recording is needed to build it, so that the server, which has none, builds the same one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neuroloom.evaluation.adaptation import AttentiveHead, Reader, add_adapters, token_statistics, used_parameters
from neuroloom.evaluation.examples import Group
from neuroloom.evaluation.networks import drawn_from
from neuroloom.federated.config import ALONE, FLEEG, StrategyConfig
from neuroloom.federated.fleeg import SHARED, FleegNet, shape_for
from neuroloom.federated.wire import Tensors
from neuroloom.models.base import Encoder, load_model
from neuroloom.study.sources import coloured_noise
from neuroloom.tokenizers.sources import RMSNorm

MADE_UP, SENSORS = 16, 8  # windows and sensors that show which weights tokens depend on, and how large tokens are
HEAD_M = 0.09  # radius of a head
NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, RMSNorm)
SERVER_CHANS, SERVER_TIMES = 22, 1000  # of the server's copy of FLEEG, whose shared layers do not depend on them


def build_network(
    strategy: StrategyConfig,
    *,
    n_outputs: int,
    seed: int,
    window: float,
    model: Path | None = None,
    shape: tuple[int, int] | None = None,
) -> nn.Module:
    """A network as training starts with it; the same seed gives all sites the same one.

    Parameters
    ----------
    strategy : StrategyConfig
    n_outputs : int
        Classes.
    seed : int
        Of what starts untrained.
    window : float
        Length of a window, s.
    model : Path, optional
        Folder of the pretrained model that the strategy names.
    shape : tuple of int, optional
        Channels and samples of a window at a site, for FLEEG.

    Raises
    ------
    ConfigError
        If the folder holds no model, or a window is too short for FLEEG.
    """
    if strategy.network == FLEEG:
        with drawn_from(seed):
            return FleegNet(shape_for(*(shape or (SERVER_CHANS, SERVER_TIMES))), n_outputs)
    if model is None:
        raise ValueError(f"network {strategy.network}: give the folder of the pretrained model")
    encoder = load_model(model).requires_grad_(False).eval()
    inputs = _made_up(encoder, window)
    used = used_parameters(encoder, inputs)
    mean_D, sd_D = token_statistics(encoder, [Group(np.arange(MADE_UP), inputs)], np.arange(MADE_UP))
    with drawn_from(seed):  # alone, so that all arms have the same head
        head = AttentiveHead(mean_D, sd_D, n_outputs=n_outputs)
    if strategy.kind == "lora":
        with drawn_from(seed, 1):
            add_adapters(encoder, used, rank=strategy.rank)
    else:
        for name, value in encoder.named_parameters():
            value.requires_grad_(name in used)
    return Reader(encoder, head)


def _made_up(encoder: Encoder, window: float) -> tuple[Tensor, ...]:
    """Inputs of windows of 1/f noise from sensors all over a head: what is known of EEG without any recording."""
    rng, n_times = np.random.default_rng(0), round(window * encoder.sfreq)
    noise_CT = coloured_noise(rng, MADE_UP * SENSORS, n_times, encoder.sfreq, exponent=1.0)
    noise_CT /= noise_CT.std(axis=1, keepdims=True)
    positions_BC6 = np.zeros((MADE_UP, SENSORS, 6))
    direction_BC3 = rng.standard_normal((MADE_UP, SENSORS, 3))
    positions_BC6[..., :3] = HEAD_M * direction_BC3 / np.linalg.norm(direction_BC3, axis=-1, keepdims=True)
    signal_BCT = torch.from_numpy(noise_CT.reshape(MADE_UP, SENSORS, n_times).astype(np.float32))
    with torch.no_grad():
        types_BC = torch.zeros(MADE_UP, SENSORS, dtype=torch.int64)
        return encoder.inputs(signal_BCT, torch.from_numpy(positions_BC6.astype(np.float32)), types_BC)


def shared_names(strategy: StrategyConfig, network: nn.Module) -> tuple[str, ...]:
    """Names of the tensors that cross the wire, in the order of the network.

    FedBN (Li et al. 2021, arXiv 2102.07623) keeps what normalises at the site; a personal head stays there (Arivazhagan
    et al. 2019, arXiv 1912.00818); FLEEG keeps the lower layers. With LoRA all that is trained is shared: adapters
    and head.
    """
    if strategy.kind in ALONE:
        return ()
    if strategy.kind == "fleeg":
        return SHARED
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    if strategy.kind == "personal":
        return tuple(name for name in trained if name.startswith("encoder."))
    if strategy.kind == "fedbn":
        own = {f"{at}.{name}" for at, one in network.named_modules() if isinstance(one, NORMS) for name in _own(one)}
        return tuple(name for name in trained if name not in own)
    return tuple(trained)


def _own(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters(recurse=False)]


def state_of(network: nn.Module, names: tuple[str, ...]) -> Tensors:
    """Copies of some tensors."""
    state = network.state_dict()
    return {name: state[name].detach().cpu().numpy().copy() for name in names}


def set_state(network: nn.Module, tensors: Tensors) -> None:
    """Put some tensors into the network, in place."""
    state = network.state_dict()
    with torch.no_grad():
        for name, values in tensors.items():
            state[name].copy_(torch.from_numpy(values))
