import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from neuroloom.manifest import ArtifactError
from neuroloom.training.checkpoint import (
    TrainingState,
    checkpoints,
    load_checkpoint,
    load_optimizer_state,
    match_state,
    optimizer_state,
    read_card,
    save_checkpoint,
    write_card,
)
from neuroloom.training.sampling import Position

CARD = {"architecture": "linear", "seed": 1, "data": ["abc"], "seen": [["demo", "1", "f00"]]}


def make_state(step: int) -> TrainingState:
    tensors = {"a": torch.arange(6.0).reshape(2, 3) * step, "n": torch.tensor(step)}
    return TrainingState(
        "digest", step, 10 * step, Position(2, step), tensors, {"a/exp_avg": torch.ones(3)}, {}, [{"lr": 0.1}]
    )


def test_a_card_names_its_weights(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(3)}, weights)
    write_card(tmp_path, CARD)
    card = read_card(tmp_path)
    assert {key: card[key] for key in CARD} == CARD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "model.safetensors"]
    save_file({"weight": torch.ones(3)}, weights)
    with pytest.raises(ArtifactError, match="have changed"):
        read_card(tmp_path)
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(ArtifactError, match="not JSON"):
        read_card(tmp_path)
    (tmp_path / "card.json").unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        read_card(tmp_path)


def test_shared_and_sliced_weights_are_kept(tmp_path: Path) -> None:
    weight = torch.randn(4, 6)
    weights = {"in": weight, "out": weight, "part": weight[:, ::2], "turned": weight.t()}
    state = load_checkpoint(save_checkpoint(tmp_path, replace(make_state(1), weights=weights), keep=1)).weights
    assert torch.equal(state["out"], weight)
    assert torch.equal(state["part"], weight[:, ::2])
    assert torch.equal(state["turned"], weight.t())


def test_weights_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    state = {"weight": torch.zeros(4, 3), "head": torch.zeros(1)}
    with pytest.raises(ArtifactError) as error:
        match_state(nn.Linear(4, 3), state, "some.safetensors")
    message = str(error.value)
    assert "some.safetensors: 3 of 2 tensors do not fit Linear" in message
    for part in ("bias is missing", "head is not known", "weight is float32 (4, 3), not float32 (3, 4)"):
        assert part in message
    with pytest.raises(ArtifactError, match="int64"):
        match_state(nn.Linear(2, 1, bias=False), {"weight": torch.zeros(1, 2, dtype=torch.int64)}, "x")


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        path = save_checkpoint(tmp_path, make_state(step), keep=2)
    (tmp_path / "step-000000020.partial").mkdir()
    assert [each.name for each in checkpoints(tmp_path)] == ["step-000000010", "step-000000015"]
    state, expected = load_checkpoint(path), make_state(15)
    assert (state.run, state.step, state.tokens, state.position) == ("digest", 15, 150, Position(2, 15))
    assert state.groups == expected.groups
    assert state.averaged == {}
    for name in ("a", "n"):
        assert torch.equal(state.weights[name], expected.weights[name])
        assert state.weights[name].dtype == expected.weights[name].dtype


def test_a_checkpoint_cut_short_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_state(5), keep=2)
    (path / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: 3 bytes, not \d+"):
        load_checkpoint(path)
    (path / "weights.safetensors").unlink()
    with pytest.raises(ArtifactError, match="0 bytes"):
        load_checkpoint(path)


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, make_state(5), keep=2)
    for file in path.iterdir():
        if file.suffix == ".json":
            json.loads(file.read_text())
        else:
            length = int.from_bytes(file.read_bytes()[:8], "little")
            json.loads(file.read_bytes()[8 : 8 + length])


def test_an_optimizer_comes_back_by_name() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    groups = [{"params": [model[1].weight]}, {"params": [*model[0].parameters()], "weight_decay": 0.5}]
    optimizer = torch.optim.AdamW(groups)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    tensors, options = optimizer_state(optimizer, model)
    assert {name.split("/")[0] for name in tensors} == {"0.weight", "0.bias", "1.weight"}
    other = torch.optim.AdamW(groups)
    load_optimizer_state(other, model, tensors, json.loads(json.dumps(options)))
    for param in groups[1]["params"]:
        assert torch.equal(other.state[param]["exp_avg"], optimizer.state[param]["exp_avg"])
    assert other.param_groups[1]["weight_decay"] == 0.5
    with pytest.raises(ArtifactError, match=r"2\.weight/exp_avg"):
        load_optimizer_state(other, model, {"2.weight/exp_avg": torch.ones(1)}, options)
