"""Pretraining of BrainOmni: what is hidden, what stands beside the loss, and that it learns what the nulls cannot."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from neuroloom.models.base import Corpus
from neuroloom.models.brainomni import BrainOmni
from neuroloom.models.brainomni_pretraining import (
    CodeBatch,
    CodeWindows,
    Hiding,
    MaskedPrediction,
    Nulls,
    count_codes,
    open_codes,
    pretrain_brainomni,
    read_codes,
)
from neuroloom.models.config import BrainOmniConfig
from neuroloom.quarantine import UnusableRecording
from neuroloom.tokenizers.braintokenizer import BrainTokenizer
from neuroloom.tokenizers.config import BrainTokenizerConfig
from neuroloom.tokenizers.tokens import PADDING, TokenSet
from neuroloom.training.sampling import START, Draw

SFREQ, L, S, Q, K = 64.0, 4, 20, 2, 16
CODES = (L, S, Q)


def brainomni(*, training: dict[str, Any] | None = None, **changes: Any) -> BrainOmni:
    small = {"window_length": 64, "n_filters": 4, "ratios": (4, 2), "embed_dim": 16, "num_heads": 2, "n_latents": L}
    torch.manual_seed(0)
    tokenizer = BrainTokenizer(BrainTokenizerConfig(**small, codebook_size=K, num_quantizers=Q), SFREQ)
    loop = {"steps": 4, "batch_tokens": 8 * L * S, "lr": 3e-3, "log_every": 1000, "workers": 0, **(training or {})}
    config = BrainOmniConfig(**{"embed_dim": 32, "depth": 3, "num_heads": 4, **changes}, training=loop)
    return BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer)


def melodies(seed: int, n_segments: int = 32) -> np.ndarray:
    """A tune of five steps for each latent and level, from a random place on: each step follows from the others."""
    rng, tune = np.random.default_rng(seed), np.random.default_rng(9).integers(K, size=(5, L, Q))
    places_NS = rng.integers(5, size=(n_segments, 1)) + np.arange(S)
    return tune[places_NS % 5].transpose(0, 2, 1, 3).astype(np.uint16)


def tokens(codes_NLSQ: Any, names: tuple[str, ...] = ("a", "b"), **changes: Any) -> TokenSet:
    count = codes_NLSQ.shape[0]
    facts: dict[str, Any] = {"tokenizer": "bt", "kind": "braintokenizer", "fold": 0, "device": "lab-eeg", "step": 0.125}
    return TokenSet(
        codes_NLSQ=codes_NLSQ,
        recordings=list(names),
        recording_N=np.repeat(np.arange(len(names)), count // len(names)),
        start_N=np.arange(count),
        **{**facts, "sfreq": SFREQ, "overlap": 0.0, "codebook_sizes": (K,) * Q, **changes},
    )


def batch(n_rows: int = 3, seed: int = 1) -> CodeBatch:
    codes_BLSQ = torch.randint(K, (n_rows, *CODES), generator=torch.Generator().manual_seed(seed))
    return CodeBatch(codes_BLSQ, ("a",) * n_rows, (0, n_rows, n_rows))


def uniform() -> MaskedPrediction:
    return MaskedPrediction(Nulls(np.ones((L, Q, K))))


def hide(rows: tuple[int, int, int], shape: tuple[int, int] = (L, S), **ratios: float) -> Hiding:
    ratios = {"mask_ratio": 0.5, "random_ratio": 0.2, **ratios}
    return Hiding.draw(shape, rows, torch.Generator().manual_seed(3), **ratios)


class Spied:
    """An array that remembers which rows were read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.read = array, array.shape, set[int]()

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = key[0] if isinstance(key, tuple) else key
        self.read |= set(range(*rows.indices(len(self.array))))
        return self.array[key]


def test_half_of_the_tokens_are_hidden_and_a_fifth_of_these_replaced() -> None:
    hiding = hide((0, 40, 40), (16, 160))
    count, n_hidden = 40 * 2560, int(hiding.n_hidden)
    assert hiding.hidden_BLS.sum() == n_hidden
    assert n_hidden / count == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / count))
    share = float(hiding.replaced_BLS.sum()) / n_hidden
    assert share == pytest.approx(0.2, abs=4 * math.sqrt(0.16 / n_hidden))
    assert not (hiding.replaced_BLS & ~hiding.hidden_BLS).any()
    per_step = hiding.hidden_BLS.float().mean((0, 1))
    assert per_step.std().item() == pytest.approx(math.sqrt(0.25 / 640), rel=0.3)
    fewer = hide((0, 40, 40), (16, 160), mask_ratio=0.15, random_ratio=0.0)
    assert int(fewer.n_hidden) / count == pytest.approx(0.15, abs=0.005)
    assert not fewer.replaced_BLS.any()


def test_hidden_tokens_are_shown_as_the_mask_or_as_another_one_of_their_segment() -> None:
    hiding = hide((0, 3, 3))
    features = torch.arange(3 * L * S).float().reshape(3, L, S, 1) + 1000 * torch.arange(3)[:, None, None, None]
    shown = hiding.shown(features, torch.tensor([-1.0]))[..., 0]
    features = features[..., 0]
    assert torch.equal(shown[~hiding.hidden_BLS], features[~hiding.hidden_BLS])
    masked_BLS = hiding.hidden_BLS & ~hiding.replaced_BLS
    assert (shown[masked_BLS] == -1).all()
    others, own = shown[hiding.replaced_BLS], features[hiding.replaced_BLS]
    assert (others != own).float().mean() > 0.9
    assert set(others.tolist()) <= set(features.flatten().tolist())
    assert torch.equal(others // 1000, own // 1000)  # of the same segment
    donors = hiding.donor_BN.flatten().float()
    assert donors.mean().item() == pytest.approx((L * S - 1) / 2, rel=0.1)


def test_all_rows_are_drawn_on_every_process() -> None:
    whole, first, rest = hide((0, 5, 5)), hide((0, 2, 5)), hide((2, 5, 5))
    for name in ("hidden_BLS", "replaced_BLS", "donor_BN"):
        assert torch.equal(torch.cat([getattr(first, name), getattr(rest, name)]), getattr(whole, name))
    assert first.n_hidden == rest.n_hidden == whole.n_hidden


def test_two_processes_add_up_to_one() -> None:
    model, whole, task = brainomni(dropout=0.0).train(), batch(5), uniform()

    def scored(rows: slice) -> tuple[dict[str, float], Tensor]:
        part = CodeBatch(whole.codes_BLSQ[rows], whole.recordings[rows], (rows.start, rows.stop, 5))
        model.zero_grad()
        loss, metrics = task.loss(model, part, torch.Generator().manual_seed(7))
        loss.backward()
        assert model.head.weight.grad is not None
        values = {name: value.item() for name, value in {"loss": loss.detach(), **metrics}.items()}
        return values, model.head.weight.grad.clone()

    expected, gradient = scored(slice(0, 5))
    parts = [scored(slice(0, 2)), scored(slice(2, 5))]
    for name, value in expected.items():
        assert 0.4 * parts[0][0][name] + 0.6 * parts[1][0][name] == pytest.approx(value, abs=1e-5), name
    torch.testing.assert_close(0.4 * parts[0][1] + 0.6 * parts[1][1], gradient, rtol=0, atol=1e-6)
    assert expected["loss"] == pytest.approx(math.log(K), rel=0.1)


def test_what_is_hidden_does_not_reach_its_prediction() -> None:
    model, hiding = brainomni().eval(), hide((0, 2, 2), random_ratio=0.0)
    features = model.tokenizer.embed(batch(2).codes_BLSQ).requires_grad_()
    places_N = hiding.hidden_BLS.flatten().nonzero()[:, 0]
    model.predict(hiding.shown(features, model.mask_D), places_N).square().sum().backward()
    assert features.grad is not None
    reached_BLS = features.grad.abs().sum(-1) > 0
    assert not (reached_BLS & hiding.hidden_BLS).any()
    assert reached_BLS[~hiding.hidden_BLS].all()


def test_the_loss_of_a_step_does_not_depend_on_torchs_generator_in_evaluation() -> None:
    model, task, losses = brainomni().eval(), uniform(), set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.add(task.loss(model, batch(), torch.Generator().manual_seed(5))[0].item())
    assert len(losses) == 1
    other, _ = task.loss(model, batch(), torch.Generator().manual_seed(6))
    assert other.item() not in losses


def test_codes_are_counted_by_latent_and_level() -> None:
    rng = np.random.default_rng(1)
    codes = rng.integers(K, size=(200, *CODES)).astype(np.uint16)
    corpus = [CodeWindows(tokens(codes, ("a", "b")), name) for name in ("a", "b")]
    counts_LQK = count_codes(corpus, (K, K))
    assert counts_LQK.shape == (L, Q, K)
    for latent, level, code in [(0, 0, 0), (3, 1, 15), (2, 0, 7)]:
        assert counts_LQK[latent, level, code] == (codes[:, latent, :, level] == code).sum()
    assert counts_LQK.sum() == codes.size


def test_nulls_are_those_of_the_formulas() -> None:
    rng = np.random.default_rng(2)
    counts_LQK = rng.integers(50, size=(L, Q, K))
    codes_BLSQ = torch.from_numpy(rng.integers(K, size=(3, *CODES)))
    hidden_BLS = torch.from_numpy(rng.random((3, L, S)) < 0.5)
    found = Nulls(counts_LQK).scores(codes_BLSQ, hidden_BLS)
    expected = dict.fromkeys(found, 0.0)
    smooth = counts_LQK + 1.0
    for sample, latent, step in hidden_BLS.nonzero().tolist():
        near = step - 1 if step else 1
        for level in range(Q):
            code = int(codes_BLSQ[sample, latent, step, level])
            expected["unigram"] -= np.log(smooth[:, level, code].sum() / smooth[:, level].sum())
            expected["unigram_latent"] -= np.log(smooth[latent, level, code] / smooth[latent, level].sum())
            expected["frequent"] += counts_LQK[latent, level].argmax() == code
            expected["neighbour"] += int(codes_BLSQ[sample, latent, near, level]) == code
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_code_that_was_never_seen_is_not_impossible() -> None:
    counts_LQK = np.zeros((L, Q, K))
    counts_LQK[..., 0] = 1000
    scores = Nulls(counts_LQK).scores(batch().codes_BLSQ, torch.ones(3, L, S, dtype=torch.bool))
    assert all(torch.isfinite(value) for value in scores.values())


def test_codes_of_held_out_recordings_are_never_read() -> None:
    spied = Spied(melodies(1, 12))
    device = tokens(spied, ("a", "b", "c"))
    model = brainomni()
    chosen = Corpus(tokens=[device], recordings=frozenset("ac"))
    pretrain_brainomni(model, chosen, Corpus(), rng=np.random.default_rng(1))
    assert spied.read == {0, 1, 2, 3, 8, 9, 10, 11}
    assert [windows.recording for windows in open_codes(model, chosen)] == ["a", "c"]
    pretrain_brainomni(model, chosen, Corpus(tokens=[device], recordings=frozenset("b")), rng=np.random.default_rng(1))
    assert spied.read == set(range(12))


def test_segments_are_read_by_draw() -> None:
    codes = melodies(1, 8)
    corpus = [CodeWindows(tokens(codes), name) for name in ("a", "b")]
    found = read_codes(corpus, Draw(np.array([1, 0, 1]), np.array([3, 0, 0]), (2, 5, 7), 0, START))
    assert torch.equal(found.codes_BLSQ, torch.from_numpy(codes[[7, 0, 4]].astype(np.int64)))
    assert (found.recordings, found.rows) == (("b", "a", "b"), (2, 5, 7))
    assert found.to("cpu").codes_BLSQ.dtype == torch.int64
    assert (corpus[0].n_channels, corpus[0].n_times, len(corpus[0])) == (L, S, 4)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"codebook_sizes": (K, 8)}, "codebooks"),
        ({"sfreq": 128.0}, "128"),
        ({"overlap": 0.25}, "0.25"),
    ],
)
def test_tokens_of_another_tokenizer_are_refused(changes: dict[str, Any], what: str) -> None:
    corpus = Corpus(tokens=[tokens(melodies(1), **changes)], recordings=frozenset("ab"))
    with pytest.raises(UnusableRecording, match=rf"tokens of lab-eeg: .*{what}.*tokenize the device again"):
        pretrain_brainomni(brainomni(), corpus, Corpus(), rng=np.random.default_rng(1))


def test_padding_and_emptiness_are_refused() -> None:
    codes = melodies(1)
    codes[20, 2] = PADDING
    corpus = Corpus(tokens=[tokens(codes)], recordings=frozenset("ab"))
    with pytest.raises(UnusableRecording, match=r"b: codes up to 65535 with codebooks of \(16, 16\)"):
        pretrain_brainomni(brainomni(), corpus, Corpus(), rng=np.random.default_rng(1))
    with pytest.raises(UnusableRecording, match="no recording has tokens"):
        pretrain_brainomni(brainomni(), Corpus(), Corpus(), rng=np.random.default_rng(1))
    with pytest.raises(UnusableRecording, match="c: no tokens of bt"):
        CodeWindows(tokens(melodies(1), ("a", "b") + ("c",) * 31), "c")


def test_norms_head_projection_and_mask_are_not_decayed() -> None:
    model = brainomni()
    decayed, kept = uniform().parameter_groups(model)
    names = {id(param): name for name, param in model.named_parameters()}
    expected = {"mask_D", "project.weight", "project.bias", "head.weight", "head.bias"}
    expected |= {f"blocks.{at}.{norm}_norm.weight" for at in range(3) for norm in ("mix", "feed")}
    assert kept["weight_decay"] == 0.0
    assert {names[id(param)] for param in kept["params"]} == expected
    trained = [param for param in model.parameters() if param.requires_grad]
    assert len(decayed["params"]) + len(kept["params"]) == len(trained)
    assert not any(names[id(param)].startswith("tokenizer") for param in decayed["params"])


def test_every_weight_gets_a_gradient() -> None:
    model = brainomni().train()
    uniform().loss(model, batch(), torch.Generator().manual_seed(1))[0].backward()
    missing = [name for name, param in model.named_parameters() if param.requires_grad and param.grad is None]
    assert missing == []
    assert all(param.grad is None for param in model.tokenizer.parameters())


def test_masked_prediction_beats_its_nulls_on_predictable_codes(tmp_path: Path) -> None:
    model = brainomni(training={"steps": 150})
    before = {name: value.clone() for name, value in model.tokenizer.state_dict().items()}
    train, held = (Corpus(tokens=[tokens(melodies(seed))], recordings=frozenset("ab")) for seed in (1, 2))
    facts = model.pretrain(train, held, rng=np.random.default_rng(1), folder=tmp_path)
    assert facts["validation_loss"] < 0.7 * facts["validation_unigram_latent"] < 0.7 * facts["validation_unigram"]
    assert facts["validation_accuracy"] > 1.5 * max(facts["validation_frequent"], facts["validation_neighbour"])
    assert (facts["steps"], facts["tokens"]) == (150, 150 * 8 * L * S)
    assert facts["parameters"] == sum(param.numel() for param in model.parameters() if param.requires_grad)
    assert not model.training
    for name, value in model.tokenizer.state_dict().items():
        assert torch.equal(value, before[name]), name
    curve = pd.read_parquet(tmp_path / "metrics.parquet")
    nulls = {"unigram", "unigram_latent", "frequent", "neighbour"}
    assert {"loss", "accuracy", "accuracy_0", "accuracy_1"} | nulls <= set(curve.columns)
    assert curve["loss"][0] == pytest.approx(math.log(K), rel=0.1)
    assert curve["unigram_latent"].std() < 0.1
    again = brainomni(training={"steps": 150}).pretrain(train, held, rng=np.random.default_rng(1), folder=tmp_path)
    assert again["loss"] == facts["loss"]  # the finished run is not made anew


def test_shuffled_steps_cannot_be_predicted() -> None:
    def corpus(seed: int) -> Corpus:
        return Corpus(
            tokens=[tokens(np.random.default_rng(seed).permuted(melodies(seed), axis=2))], recordings=frozenset("ab")
        )

    facts = brainomni(training={"steps": 60}).pretrain(corpus(1), corpus(2), rng=np.random.default_rng(1))
    assert facts["validation_loss"] > 0.97 * facts["validation_unigram_latent"]


def test_equal_seeds_train_equal_weights() -> None:
    corpus = Corpus(tokens=[tokens(melodies(1))], recordings=frozenset("ab"))
    models = [brainomni() for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        model.pretrain(corpus, Corpus(), rng=np.random.default_rng(seed))
    first, again, other = (model.state_dict() for model in models)
    assert {name: torch.equal(value, again[name]) for name, value in first.items()} == dict.fromkeys(first, True)
    assert not torch.equal(first["head.weight"], other["head.weight"])
