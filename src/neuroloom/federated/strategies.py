"""How updates become one: Flower's own aggregation, by the names of the config.

FedAvg (McMahan et al. 2017, arXiv 1602.05629) weights by windows; FedAdam is of Reddi et al. 2021 (arXiv 2003.00295),
median and trimmed mean of Yin et al. 2018 (arXiv 1803.01498), Krum of Blanchard et al. 2017. FedProx differs at the
sites, FedBN, FLEEG, personal heads and LoRA in what is shared: all of them are averaged.
"""

from __future__ import annotations

from typing import Any

from flwr.serverapp.strategy import FedAdam, FedAvg, FedMedian, FedTrimmedAvg, Krum

from neuroloom.federated.config import StrategyConfig
from neuroloom.federated.wire import ARRAYS, FACTS, WEIGHT


def aggregation(strategy: StrategyConfig) -> FedAvg:
    """Flower's strategy that combines the replies of a round."""
    combining = _made(strategy)
    # sites are judged by themselves; given when it is made, this is a warning on the screen of each job
    combining.fraction_evaluate = 0.0
    return combining


def _made(strategy: StrategyConfig) -> FedAvg:
    given: dict[str, Any] = {
        "min_train_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": WEIGHT,
        "arrayrecord_key": ARRAYS,
        "configrecord_key": FACTS,
    }
    if strategy.kind == "fedadam":
        return FedAdam(eta=strategy.server_lr, **given)
    if strategy.kind == "median":
        return FedMedian(**given)
    if strategy.kind == "trimmed_mean":
        return FedTrimmedAvg(beta=strategy.trim, **given)
    if strategy.kind == "krum":
        return Krum(num_malicious_nodes=strategy.n_bad, **given)
    return FedAvg(**given)
