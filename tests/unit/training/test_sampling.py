from collections import Counter
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest

from neuroloom.schema import ConfigError
from neuroloom.training.sampling import START, Draw, Position, WindowSampler, dataset_weights


class FakeWindows(SimpleNamespace):
    def __len__(self) -> int:
        return self.count


def make_corpus(*shapes: tuple[int, int]) -> list[FakeWindows]:
    """Recordings of (channels, windows)."""
    return [
        FakeWindows(recording=f"r{at}", n_channels=n_channels, n_times=2000, count=count)
        for at, (n_channels, count) in enumerate(shapes)
    ]


def patches(windows: FakeWindows) -> int:
    return 11 * windows.n_channels


MIXED = make_corpus(*((n, 40 + n) for n in (4, 8, 16, 19, 21, 23, 26, 32, 62, 64, 64, 102, 128, 204, 306)))


def pairs(draw: Draw) -> list[tuple[int, int]]:
    return [*zip(draw.recording_B.tolist(), draw.window_B.tolist(), strict=True)]


def test_batches_are_of_one_shape_and_of_constant_tokens() -> None:
    sampler = WindowSampler(MIXED, tokens_of=patches, batch_tokens=52_800, seed=1)
    draws = list(islice(sampler.draws(), 200))
    for draw in draws:
        assert len({MIXED[at].n_channels for at in draw.recording_B}) == 1
        assert draw.n_tokens == sum(patches(MIXED[at]) for at in draw.recording_B)
    used = [draw.n_tokens / 52_800 for draw in draws]
    assert max(used) <= 1
    assert min(used) >= 0.95
    assert sampler.waste == pytest.approx(1 - np.mean(used), abs=0.01)
    assert sampler.waste <= 0.05


def test_every_window_comes_once_an_epoch() -> None:
    """Over many epochs, also from buckets that fill no batch, or not a whole number of them."""
    corpus = make_corpus((19, 103), (19, 7), (64, 3), (8, 251))
    sampler = WindowSampler(corpus, tokens_of=patches, batch_tokens=64 * 11 * 2, seed=3)
    counts, epochs = Counter[tuple[int, int]](), 40
    for draw in sampler.draws():
        counts.update(pairs(draw))
        if draw.after.epoch == epochs:
            break
    assert len(counts) == 103 + 7 + 3 + 251
    assert max(abs(count - epochs) for count in counts.values()) <= 1
    assert sum(counts.values()) * 11 > 0.98 * epochs * sampler.tokens_per_epoch / 20


def test_the_order_follows_from_seed_and_epoch() -> None:
    first, again, other = (
        [
            pairs(draw)
            for draw in islice(WindowSampler(MIXED, tokens_of=patches, batch_tokens=9000, seed=seed).draws(), 60)
        ]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    sampler = WindowSampler(make_corpus((19, 64)), tokens_of=patches, batch_tokens=19 * 11 * 8, seed=1)
    draws = list(islice(sampler.draws(), 16))
    assert draws[7].after == Position(1, 0)
    epochs = [[pair for draw in draws[part] for pair in pairs(draw)] for part in (slice(8), slice(8, 16))]
    assert sorted(epochs[0]) == sorted(epochs[1]) == [(0, at) for at in range(64)]
    assert epochs[0] != epochs[1]


def test_it_goes_on_from_any_position() -> None:
    whole = list(islice(WindowSampler(MIXED, tokens_of=patches, batch_tokens=52_800, seed=1).draws(), 300))
    assert whole[-1].after.epoch >= 2
    for at in (0, 1, 57, 279):
        start = whole[at - 1].after if at else START
        sampler = WindowSampler(MIXED, tokens_of=patches, batch_tokens=52_800, seed=1)
        rest = list(islice(sampler.draws(Position(*start)), 20))
        assert [pairs(draw) for draw in rest] == [pairs(draw) for draw in whole[at : at + 20]]
        assert [draw.after for draw in rest] == [draw.after for draw in whole[at : at + 20]]


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_the_rows_of_all_processes_are_the_whole_batch(world_size: int) -> None:
    sampler = WindowSampler(MIXED, tokens_of=patches, batch_tokens=52_800, seed=1)
    shards = [sampler.shard(rank, world_size) for rank in range(world_size)]
    for whole, *parts in islice(zip(sampler.draws(), *(shard.draws() for shard in shards), strict=True), 50):
        assert [pair for part in parts for pair in pairs(part)] == pairs(whole)
        assert sum(part.share for part in parts) == pytest.approx(1)
        assert [part.rows[0] for part in parts[1:]] == [part.rows[1] for part in parts[:-1]]
        assert {part.after for part in parts} == {whole.after}
    assert {shard.digest for shard in shards} == {sampler.digest}


def test_weights_give_datasets_their_share_of_the_tokens() -> None:
    corpus = make_corpus((19, 400), (64, 100), (19, 50), (306, 30))
    datasets, shares = ["a", "a", "b", "c"], {"a": 2, "b": 1, "c": 1}
    weights = dataset_weights(corpus, datasets=datasets, shares=shares, tokens_of=patches)
    sampler = WindowSampler(corpus, tokens_of=patches, batch_tokens=306 * 11, weights=weights, seed=1)
    assert sampler.tokens_per_epoch == pytest.approx(sum(len(windows) * patches(windows) for windows in corpus))
    tokens: Counter[str] = Counter()
    for draw in islice(sampler.draws(), 4000):
        for at in draw.recording_B:
            tokens[datasets[at]] += patches(corpus[at])
    found = {name: count / tokens.total() for name, count in tokens.items()}
    assert found == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25}, abs=0.01)


def test_the_digest_names_the_corpus() -> None:
    def digest(*shapes: tuple[int, int], seed: int = 1, batch_tokens: int = 9000) -> str:
        corpus = make_corpus(*shapes)
        return WindowSampler(corpus, tokens_of=patches, batch_tokens=batch_tokens, seed=seed).digest

    base = digest((19, 40), (32, 10))
    assert base == digest((19, 40), (32, 10))
    others = [
        digest((19, 41), (32, 10)),
        digest((19, 40), (32, 10), seed=2),
        digest((19, 40), (32, 10), batch_tokens=500),
    ]
    assert len({base, *others}) == 4


def test_what_cannot_be_sampled_is_said(caplog: pytest.LogCaptureFixture) -> None:
    corpus = make_corpus((19, 4))
    with pytest.raises(ConfigError, match=r"19 channels x 2000 samples has 209 tokens.*raise batch_tokens to 209"):
        WindowSampler(corpus, tokens_of=patches, batch_tokens=200, seed=1)
    with pytest.raises(ConfigError, match="raise batch_tokens to 627"):
        WindowSampler(corpus, tokens_of=patches, batch_tokens=420, seed=1).shard(0, 3)
    with pytest.raises(ConfigError, match="no window"):
        WindowSampler(make_corpus((19, 0)), tokens_of=patches, batch_tokens=420, seed=1)
    with pytest.raises(ConfigError, match="no window"):
        WindowSampler(corpus, tokens_of=patches, batch_tokens=420, weights=[0.0], seed=1)
    with pytest.raises(ConfigError, match="weight -1"):
        WindowSampler(corpus, tokens_of=patches, batch_tokens=420, weights=[-1.0], seed=1)
    with pytest.raises(ConfigError, match="one share"):
        dataset_weights(corpus, datasets=["a"], shares={"b": 1}, tokens_of=patches)
    WindowSampler(corpus, tokens_of=patches, batch_tokens=400, seed=1)
    assert "fill only 52 % of a batch" in caplog.text


def test_a_draw_is_described() -> None:
    sampler = WindowSampler(make_corpus((19, 2), (19, 2)), tokens_of=patches, batch_tokens=4 * 209, seed=1)
    assert sampler.describe(next(sampler.draws())) == "r0, r1"
