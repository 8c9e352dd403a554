"""BrainTokenizer: windows, blocks, what it refuses, how it starts, and its files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from neuroloom.schema import ConfigError
from neuroloom.tokenizers import braintokenizer
from neuroloom.tokenizers.base import load_tokenizer
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig, parse_tokenizer
from neuroloom.tokenizers.seanet import NormedConv
from neuroloom.training.checkpoint import SETTINGS, WEIGHTS

SFREQ, CHANNELS = 64.0, 5


def config(**changes: Any) -> BrainTokenizerConfig:
    small = {"window_length": 64, "n_filters": 4, "ratios": (4, 2), "embed_dim": 16, "num_heads": 2, "n_latents": 4}
    return BrainTokenizerConfig(**{**small, "codebook_size": 16, "num_quantizers": 2, **changes})


@pytest.fixture
def model() -> BrainTokenizer:
    torch.manual_seed(31)
    return BrainTokenizer(config(), SFREQ).eval()


@pytest.fixture
def given() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(32)
    return {
        "signal_BCT": torch.randn(3, CHANNELS, 200, generator=generator),
        "positions_BC6": torch.randn(3, CHANNELS, 6, generator=generator),
        "sensor_type_BC": torch.tensor([[0, 0, 1, 2, 2]] * 3),
    }


def test_windows_follow_one_another_and_a_rest_is_left_out(model: BrainTokenizer) -> None:
    x_BCT = torch.arange(200.0).expand(2, 3, 200)
    windows_BCWT = model.windows(x_BCT)
    assert windows_BCWT.shape == (2, 3, 3, 64)
    assert windows_BCWT[1, 2, :, 0].tolist() == [0, 64, 128]


@pytest.mark.parametrize(("n_times", "starts"), [(200, [0, 48, 96, 144]), (160, [0, 48, 96]), (64, [0]), (65, [0, 48])])
def test_overlapping_windows_reach_the_end(model: BrainTokenizer, n_times: int, starts: list[int]) -> None:
    windows_BCWT = model.windows(torch.arange(1.0, n_times + 1).expand(1, 1, n_times), 0.25)
    assert (windows_BCWT[0, 0, :, 0] - 1).tolist() == starts
    assert windows_BCWT.max() == n_times
    filled = starts[-1] + 64 - n_times
    assert int((windows_BCWT[0, 0, -1] == 0).sum()) == filled


def test_a_signal_that_is_shorter_than_a_window_is_filled_with_zeros(
    model: BrainTokenizer, given: dict[str, Tensor]
) -> None:
    short_BCT = given["signal_BCT"][..., :40]
    for overlap in (0.0, 0.25):
        tokens = model.encode(**given | {"signal_BCT": short_BCT}, overlap=overlap)
        filled = model.encode(**given | {"signal_BCT": nn.functional.pad(short_BCT, (0, 24))})
        assert tokens.codes.shape == (3, 4, 8, 2)
        assert torch.equal(tokens.codes, filled.codes)


@pytest.mark.parametrize("overlap", [1.0, -0.5, 0.999])
def test_an_overlap_that_is_none_is_refused(model: BrainTokenizer, given: dict[str, Tensor], overlap: float) -> None:
    with pytest.raises(ValueError, match="give a share from 0 to below 1"):
        model.encode(**given, overlap=overlap)


@pytest.mark.parametrize("waveforms", [1, 7, 10_000])
def test_the_size_of_blocks_changes_nothing(
    model: BrainTokenizer, given: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch, waveforms: int
) -> None:
    expected = model.encode(**given, overlap=0.25)
    sensors = given["positions_BC6"], given["sensor_type_BC"]
    made = model.decode(expected.features, *sensors)
    monkeypatch.setattr(braintokenizer, "WAVEFORMS", waveforms)
    tokens = model.encode(**given, overlap=0.25)
    assert torch.equal(tokens.codes, expected.codes)
    torch.testing.assert_close(tokens.features, expected.features, rtol=0, atol=1e-6)
    torch.testing.assert_close(model.decode(tokens.features, *sensors), made, rtol=0, atol=1e-6)
    assert expected.codes.dtype == torch.int64
    assert torch.equal(model.embed(expected.codes), expected.features)


def test_arrays_do_as_well_as_tensors(model: BrainTokenizer, given: dict[str, Tensor]) -> None:
    arrays = {name: value.numpy() for name, value in given.items()}
    arrays["signal_BCT"] = arrays["signal_BCT"].astype(np.float64)
    assert torch.equal(model.encode(**arrays).codes, model.encode(**given).codes)
    assert torch.equal(
        model.embed(model.encode(**given).codes.numpy().astype(np.uint16)), model.encode(**given).features
    )


def spoiled(given: dict[str, Tensor], name: str, value: float) -> dict[str, Tensor]:
    wrong = given[name].clone()
    wrong[1, 3, ...] = value
    return given | {name: wrong}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("signal_BCT", float("nan"), "missing values in segment 1, channel 3"),
        ("signal_BCT", float("inf"), "missing values in segment 1, channel 3"),
        ("positions_BC6", float("nan"), "segment 1, channel 3 has no position; give the recording a montage"),
        ("sensor_type_BC", 3, r"sensor types \[0, 1, 2, 3\]"),
        ("sensor_type_BC", -1, r"sensor types \[-1, 0, 1, 2\]"),
    ],
)
def test_bad_values_are_named(
    model: BrainTokenizer, given: dict[str, Tensor], name: str, value: float, message: str
) -> None:
    wrong = spoiled(given, name, value)
    with pytest.raises(ValueError, match=message):
        model.encode(**wrong)
    if name != "signal_BCT":
        with pytest.raises(ValueError, match=message):
            model.decode(torch.zeros(3, 4, 8, 16), wrong["positions_BC6"], wrong["sensor_type_BC"])


@pytest.mark.parametrize(
    "changes",
    [
        {"signal_BCT": torch.zeros(3, CHANNELS + 1, 200)},
        {"signal_BCT": torch.zeros(CHANNELS, 200)},
        {"signal_BCT": torch.zeros(3, CHANNELS, 0)},
        {"positions_BC6": torch.zeros(3, CHANNELS, 3)},
        {"positions_BC6": torch.zeros(1, CHANNELS, 6)},
        {"sensor_type_BC": torch.zeros(CHANNELS)},
        {
            "signal_BCT": torch.zeros(3, 0, 200),
            "positions_BC6": torch.zeros(3, 0, 6),
            "sensor_type_BC": torch.zeros(3, 0),
        },
        {
            "signal_BCT": torch.zeros(0, 2, 200),
            "positions_BC6": torch.zeros(0, 2, 6),
            "sensor_type_BC": torch.zeros(0, 2),
        },
    ],
)
def test_shapes_that_do_not_fit_are_named(
    model: BrainTokenizer, given: dict[str, Tensor], changes: dict[str, Tensor]
) -> None:
    with pytest.raises(ValueError, match=r"\(B, C, 6\).* are needed"):
        model.encode(**given | changes)


@pytest.mark.parametrize("kind", ["zero", "flat channel", "constant", "one channel", "tiny", "huge"])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_odd_signals_have_valid_codes(
    model: BrainTokenizer, given: dict[str, Tensor], kind: str, precision: torch.dtype
) -> None:
    x_BCT = given["signal_BCT"]
    if kind == "one channel":
        given = {name: value[:, :1] for name, value in given.items()}
    elif kind == "flat channel":
        x_BCT[:, 2] = 0.0
    else:
        x_BCT *= {"zero": 0.0, "constant": 0.0, "tiny": 1e-30, "huge": 1e20}[kind]
        x_BCT += float(kind == "constant")
    tokens = model.encode(**given, precision=precision)
    assert int(tokens.codes.min()) >= 0
    assert int(tokens.codes.max()) < 16
    assert torch.isfinite(tokens.features).all()
    made = model.decode(tokens.features, given["positions_BC6"], given["sensor_type_BC"])
    assert torch.isfinite(made).all()


def test_steps_that_are_no_whole_windows_are_refused(model: BrainTokenizer, given: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="9 steps are no whole windows of 8"):
        model.decode(torch.zeros(3, 4, 9, 16), given["positions_BC6"], given["sensor_type_BC"])


def test_tokens_come_back_on_other_sensors(model: BrainTokenizer, given: dict[str, Tensor]) -> None:
    features = model.encode(**given).features
    made = model.decode(features, torch.randn(3, 9, 6), torch.zeros(3, 9, dtype=torch.long))
    assert made.shape == (3, 9, 3, 64)


def sizes(model: BrainTokenizer) -> tuple[float, float, float]:
    """SD of what reaches the latents, of what comes back, and how much frames of one latent differ among each other."""
    generator = torch.Generator().manual_seed(33)
    x_NCT = torch.randn(6, 19, 512, generator=generator)
    place_NCD = model.sensors(torch.randn(6, 19, 6, generator=generator), torch.zeros(6, 19, dtype=torch.long))
    with torch.no_grad():
        frames = model.encoder(x_NCT.reshape(-1, 512, 1))
        latents_NLFD = nn.functional.normalize(model.to_latents(x_NCT, place_NCD), dim=-1)
        made_NCT = model.to_windows(latents_NLFD, place_NCD)
    spread = latents_NLFD.flatten(0, 2).std(dim=0).norm()
    return float(frames.std()), float(made_NCT.std(dim=-1).mean()), float(spread)


def test_signals_keep_their_size_from_the_first_step() -> None:
    torch.manual_seed(34)
    frames, made, spread = sizes(BrainTokenizer(BrainTokenizerConfig(n_filters=16, embed_dim=128)))
    assert 0.3 < frames < 3
    assert 0.3 < made < 3
    assert spread > 0.5  # of unit vectors: codes can part


def test_with_torchs_own_start_signals_die_out() -> None:
    torch.manual_seed(34)
    model = BrainTokenizer(BrainTokenizerConfig(n_filters=16, embed_dim=128))
    for part in model.modules():
        if isinstance(part, NormedConv):
            fresh = NormedConv(
                *(part.weight_v.shape[:2] if part.transposed else part.weight_v.shape[1::-1]),
                part.kernel,
                stride=part.stride,
                transposed=part.transposed,
            )
            part.load_state_dict(fresh.state_dict())
        elif isinstance(part, nn.Linear):
            part.reset_parameters()
    frames, made, spread = sizes(model)
    assert frames < 0.1
    assert made < 0.03
    assert spread < 0.15


def test_equal_seeds_start_equal() -> None:
    models = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        models.append(BrainTokenizer(config()).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["encoder.layers.0.weight_v"], models[2]["encoder.layers.0.weight_v"])


def test_a_saved_tokenizer_is_found_again(model: BrainTokenizer, given: dict[str, Tensor], tmp_path: Path) -> None:
    model.quantizer.levels[0].counts_K.fill_(3)
    model.save(tmp_path / "a" / "b")
    loaded = load_tokenizer(tmp_path / "a" / "b")
    assert isinstance(loaded, BrainTokenizer)
    assert not loaded.training
    assert (loaded.config, loaded.sfreq, loaded.step) == (model.config, SFREQ, 0.125)
    assert torch.equal(loaded.encode(**given).features, model.encode(**given).features)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert loaded.quantizer.levels[0].counts_K.sum() == 48
    assert parse_tokenizer(json.loads((tmp_path / "a" / "b" / SETTINGS).read_text())["config"]) == model.config


def test_a_codebook_of_another_size_is_named(model: BrainTokenizer, tmp_path: Path) -> None:
    model.save(tmp_path)
    weights = load_file(tmp_path / WEIGHTS)
    weights["quantizer.levels.1.embed_KD"] = torch.zeros(8, 16)
    save_file(weights, tmp_path / WEIGHTS)
    with pytest.raises(ConfigError, match=rf"{WEIGHTS}: quantizer\.levels\.1\.embed_KD is \(8, 16\), not \(16, 16\)"):
        BrainTokenizer.load(tmp_path)
    save_file({name: value for name, value in weights.items() if "counts" not in name}, tmp_path / WEIGHTS)
    with pytest.raises(ConfigError, match=r"missing quantizer\.levels\.0\.counts_K"):
        BrainTokenizer.load(tmp_path)


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tokenizer there"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("changes", [{"window_length": 60}, {"embed_dim": 15}, {"codebook_size": 65_536}, {"widow": 1}])
def test_settings_that_cannot_be_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        config(**changes)
