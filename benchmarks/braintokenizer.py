"""BrainTokenizer of the published size: encoding and training, against the published way of doing it.

    python benchmarks/braintokenizer.py [--repeats 3] [--study results/demo]

The published way, in our own words: all windows at once, weights normalised in every call, torch's padding, a table of
ones for the counts of codes, losses also when only codes are wanted, single precision, the allocator as it is. Ours:
blocks of windows, folded weights, kept memory; in fp32 and in bf16. Every variant runs in a process of its own, in
turn; the fastest of its repeats counts. Random weights and signals. MFU is the share of the matmul peak in the
variant's precision, which is measured in the same process. With a study, its fitted tokenizer says how many codes are
the same in bf16: random weights have no margin between codes.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import in_own_process, keep, peak_mb

SFREQ, SECONDS, OVERLAP = 256, 30, 0.25
CASES = {"encode-19": (8, 19, SECONDS), "encode-306": (1, 306, SECONDS), "train-19": (8, 19, 10)}
VARIANTS = ("published", "fp32", "bf16")


@contextmanager
def published() -> Iterator[None]:
    """Convolutions, padding, counts and normalisation as the published code has them."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from neuroloom.tokenizers import quantize, seanet

    def reflect(x: torch.Tensor, left: int, right: int) -> torch.Tensor:
        return F.pad(x.mT, (left, right), mode="reflect").mT

    def convolve(x: torch.Tensor, *weights: Any, transposed: bool = False) -> torch.Tensor:
        return (F.conv_transpose1d if transposed else F.conv1d)(x.mT, *weights).mT

    def gather(self: Any, x: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ones = F.one_hot(codes, len(self.embed_KD)).to(x.dtype)
        return ones.t() @ x, ones.sum(0)

    kept = seanet._reflect, seanet._convolve, quantize.Codebook._gather
    seanet._reflect, seanet._convolve, quantize.Codebook._gather = reflect, convolve, gather
    try:
        yield
    finally:
        seanet._reflect, seanet._convolve, quantize.Codebook._gather = kept


def matmul_peak(dtype: Any) -> float:
    """FLOP/s of a product of two matrices of 2048."""
    import torch

    one, other = torch.randn(2048, 2048).to(dtype), torch.randn(2048, 2048).to(dtype)
    return 2 * 2048**3 / fastest(lambda: one @ other, 5)


def fastest(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some calls, after one that does not count."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def run(case: str, variant: str, repeats: int) -> dict[str, float]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from neuroloom.tokenizers.braintokenizer import BrainTokenizer
    from neuroloom.tokenizers.config import BrainTokenizerConfig
    from neuroloom.training.processes import set_threads

    if variant == "published":
        torch.set_num_threads(2)
    else:
        set_threads(2)
    torch.manual_seed(0)
    model = BrainTokenizer(BrainTokenizerConfig())
    n_samples, n_channels, seconds = CASES[case]
    signal = torch.randn(n_samples, n_channels, seconds * SFREQ)
    positions, types = torch.randn(n_samples, n_channels, 6), torch.zeros(n_samples, n_channels, dtype=torch.long)
    dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    make = training_step if case.startswith("train") else encoding
    work = make(model, signal, positions, types, variant, dtype)
    if variant == "published":
        with published():
            best = fastest(work, repeats)
    else:
        best = fastest(work, repeats)
    facts = {"seconds": best, "x_real_time": n_samples * seconds / best, "peak_mb": peak_mb()}
    with FlopCounterMode(display=False) as counter:
        make(model, signal, positions, types, "fp32", torch.float32)()
    # the counter does not see into the fused LSTM: 8 products a frame, layer and direction of the gradient
    windows = n_channels * n_samples * (20 if case.startswith("encode") else seconds * SFREQ // 512)
    lstm = windows * 8 * 2 * 2 * 256 * 2048 * (1 if case.startswith("encode") else 2 * 3)
    facts["flops"] = counter.get_total_flops() + lstm
    return {**facts, "mfu": facts["flops"] / best / matmul_peak(dtype)}


def encoding(model: Any, signal: Any, positions: Any, types: Any, variant: str, dtype: Any) -> Callable[[], Any]:
    import torch

    model.eval()

    def all_at_once() -> Any:
        with torch.no_grad():
            windows = model.windows(signal, OVERLAP)
            n_windows = windows.shape[2]
            sensors = model.sensors(positions, types).repeat_interleave(n_windows, 0)
            return model.quantizer(model.to_latents(windows.transpose(1, 2).flatten(0, 1), sensors))

    if variant == "published":
        return all_at_once
    return lambda: model.encode(signal, positions, types, OVERLAP, precision=dtype)


def training_step(model: Any, signal: Any, positions: Any, types: Any, variant: str, dtype: Any) -> Callable[[], Any]:
    import torch

    from neuroloom.tokenizers.reconstruction import Reconstruction
    from neuroloom.training.data import Batch

    names = tuple("r" for _ in signal)
    batch = Batch(signal, positions, types, names, tuple(range(len(names))), (0, len(names), len(names)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=variant != "published")
    task, generator = Reconstruction(), torch.Generator().manual_seed(0)
    model.train()
    for level in model.quantizer.codebooks:
        level.started.fill_(1)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            loss, _ = task.loss(model, batch, generator)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def agreement(study: Path) -> list[dict[str, Any]]:
    """Share of codes of each level that bf16 does not change, by recording of the test."""
    import torch

    from neuroloom.artifacts import open_artifact
    from neuroloom.tokenizers.base import load_tokenizer
    from neuroloom.tokenizers.segments import Segments

    model: Any = load_tokenizer(study / "tokenize/braintokenizer/fold-0")
    rows = []
    for name in json.loads((study / "splits/fold-0.json").read_text())["test"]:
        if name.endswith("bold"):
            continue
        segments = Segments(open_artifact(study / f"preprocess/{name}.manifest.json"), sfreq=model.sfreq, limit=4)
        signal, n = segments.read(0, len(segments)), len(segments)
        sensors = (
            torch.tensor(segments.positions_C6).repeat(n, 1, 1),
            torch.tensor(segments.sensor_type_C).repeat(n, 1),
        )
        one, other = (model.encode(signal, *sensors, precision=p).codes for p in (torch.float32, torch.bfloat16))
        same = (one == other).float().mean(dim=(0, 1, 2)).tolist()
        rows.append({"recording": name, **{f"level_{level}": share for level, share in enumerate(same)}})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--study", type=Path)
    parser.add_argument("--case")
    parser.add_argument("--variant")
    given = parser.parse_args()
    if given.case:
        print(json.dumps(run(given.case, given.variant, given.repeats)))
        return
    rows = []
    for case in CASES:
        one = ("--case", case, "--repeats", str(given.repeats), "--variant")
        found = {variant: in_own_process(__file__, *one, variant) for variant in VARIANTS}
        base = found["published"]
        for variant, values in found.items():
            ratios = {"speedup": base["seconds"] / values["seconds"], "memory": values["peak_mb"] / base["peak_mb"]}
            rows.append({"case": case, "variant": variant, **values, **ratios})
    keep(rows, "braintokenizer")
    if given.study:
        keep(agreement(given.study), "braintokenizer_bf16")


if __name__ == "__main__":
    main()
