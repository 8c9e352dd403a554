from types import ModuleType

import pytest
from flwr.clientapp import ClientApp

from neuroloom.federated.node import _replace, load_app
from neuroloom.schema import ConfigError


def test_an_app_is_found_by_its_name() -> None:
    assert isinstance(load_app("neuroloom.federated.client:app"), ClientApp)


@pytest.mark.parametrize("name", ["neuroloom.federated.client:train", "neuroloom.federated.client"])
def test_something_else_is_not_run(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no ClientApp\. Name one as module:attribute"):
        load_app(name)


def test_a_flower_of_another_make_is_noticed() -> None:
    with pytest.raises(ConfigError, match=r"flower_of_tomorrow has no get_executor: this was written for flwr 1\.41"):
        _replace(ModuleType("flower_of_tomorrow"), "get_executor", None)
