"""NeuroBOLT, forward and training step, against the published way of doing them.

    python benchmarks/neurobolt.py [--repeats 5] [--rounds 3] [--threads 2] [--curve]

The published way, in our own words: a loop over channels and lengths of windows, a small transform each, attention by
maps of tokens by tokens that are kept, scales multiplied into tokens, queries, keys and values of linear attention
one by one, dropout as layers, autocast off, AdamW group by group; with the allocator as it is and with kept memory.
Ours: as in `neuroloom.models`, with kept memory; in fp32 and in bf16. Both sides have the same weights and compute the
same numbers, which is checked in every run.

Rounds alternate between the variants, each in a process of its own; a figure is the median of all steps of all rounds.
Where others share the machine, CPU seconds (`_cpu`) of one thread say more. 26 channels x 16 s, 8 samples, random
weights and signals. `gap` is the largest difference over
the largest output. `parcels` is the number of outputs: whole-brain mode trains 64 of them in one model. With --curve,
100 steps are trained in fp32 and in bf16 from the same weights on the same batches, without dropout.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from measure import in_own_process, keep, peak_mb

BATCH, STEPS, MEANED = 8, 100, 10
VARIANTS = ("published", "published-kept", "fp32", "bf16")


def published_forward(model: Any, eeg: Any, training: bool) -> Any:
    """BOLD of the same weights, computed as the published code does."""
    from torch.nn import functional as F  # noqa: N812

    summed = published_spatial(model.spatial, eeg, training) + published_spectral(model.spectral, eeg, training)
    return model.head(F.gelu(summed))


def published_spatial(spatial: Any, eeg: Any, training: bool) -> Any:
    import torch
    from torch.nn import functional as F  # noqa: N812

    config = spatial.config
    x = eeg.unflatten(-1, (-1, config.patch_size))
    n_samples, n_channels, n_patches, _ = x.shape
    patch = spatial.patch
    x = x.flatten(1, 2).unsqueeze(1)
    for conv, norm in ((patch.conv1, patch.norm1), (patch.conv2, patch.norm2), (patch.conv3, patch.norm3)):
        x = F.gelu(norm(conv(x)))
    x = x.permute(0, 2, 3, 1).reshape(n_samples, n_channels * n_patches, -1)
    x = torch.cat([spatial.cls_D.expand(n_samples, 1, -1), x], dim=1)
    place = spatial.place_CD[place_rows(model_names())]
    place = place[None, :, None].expand(n_samples, -1, n_patches, -1).flatten(1, 2)
    x = x + torch.cat([spatial.place_CD[:1].expand(n_samples, 1, -1), place], dim=1)
    x[:, 1:] += spatial.time_ND[None, None, :n_patches].expand(n_samples, n_channels, -1, -1).flatten(1, 2)
    x = F.dropout(x, config.dropout, training)
    for block in spatial.blocks:
        y = block.qkv(block.attention_norm(x)).reshape(*x.shape[:2], 3, block.num_heads, -1).permute(2, 0, 3, 1, 4)
        queries, keys, values = block.query_norm(y[0]), block.key_norm(y[1]), y[2]
        weights = ((queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)).softmax(dim=-1)
        weights = F.dropout(weights, 0.0, training)
        y = (weights @ values).transpose(1, 2).reshape(x.shape)
        y = block.attention_scale_D * F.dropout(block.out(y), config.dropout, training)
        x = x + skipped(y, block.drop_path, training)
        mlp = block.mlp
        y = mlp.narrow(F.gelu(mlp.widen(mlp.norm(x))))
        x = x + skipped(block.mlp_scale_D * F.dropout(y, config.dropout, training), block.drop_path, training)
    return spatial.norm(x[:, 1:].mean(1))


def skipped(y: Any, rate: float, training: bool) -> Any:
    import torch

    if not training or not rate:
        return y
    kept = (1 - rate + torch.rand(len(y), 1, 1)).floor_()
    return y.div(1 - rate) * kept


def published_spectral(spectral: Any, eeg: Any, training: bool) -> Any:
    import torch
    from torch.nn import functional as F  # noqa: N812

    found = []
    for channel in range(eeg.shape[1]):
        made = []
        for at, size in enumerate(spectral.scales):
            one = torch.stft(
                eeg[:, channel], size, size, window=torch.ones(size), center=False, return_complex=True
            ).abs()
            y = spectral.frequencies[at](one.permute(0, 2, 1))
            made.append(spectral.mixes[at](y.permute(0, 2, 1)).permute(0, 2, 1))
        y = torch.stack(made).sum(dim=0)
        token = spectral.electrode(spectral.index_C[channel])[None, None].repeat(y.shape[0], y.shape[1], 1)
        found.append(F.dropout(y + token + spectral.time_ND, spectral.dropout, training))
    x = torch.cat(found, dim=1)
    for layer in spectral.layers:
        normed = layer.norm(x)
        queries, keys, values = (
            F.linear(normed, weight).reshape(*x.shape[:2], layer.num_heads, -1).transpose(1, 2)
            for weight in layer.qkv.weight.chunk(3)
        )
        queries, keys = queries.softmax(dim=-1) * queries.shape[-1] ** -0.5, keys.softmax(dim=-2)
        y = torch.einsum("bhnd,bhde->bhne", queries, torch.einsum("bhnd,bhne->bhde", keys, values))
        x = x + F.dropout(layer.out(y.transpose(1, 2).reshape(x.shape)), layer.dropout, training)
        x = x + layer.mlp.narrow(F.gelu(layer.mlp.widen(layer.mlp.norm(x))))
    return x.mean(dim=1)


def model_names() -> tuple[str, ...]:
    from neuroloom.models.config import NEUROBOLT_ELECTRODES

    return NEUROBOLT_ELECTRODES


def place_rows(names: tuple[str, ...]) -> list[int]:
    from neuroloom.models.labram import ELECTRODES, electrode_rows

    return [1 + row for row in electrode_rows(names, ELECTRODES)]


def times(work: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Wall and CPU seconds of some calls, after two that do not count."""
    wall, cpu = [], []
    for _ in range(repeats + 2):
        start = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return wall[2:], cpu[2:]


def matmul_peak(dtype: Any) -> float:
    import torch

    one, other = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
    return 2 * 2048**3 / min(times(lambda: one @ other, 5)[0])


def run(variant: str, parcels: int, repeats: int, threads: int) -> dict[str, Any]:
    import torch

    from neuroloom.models.config import NeuroBOLTConfig
    from neuroloom.models.neurobolt import NeuroBOLT, parameter_groups
    from neuroloom.training.processes import set_threads

    torch.set_num_threads(threads)
    if variant != "published":
        set_threads(threads)
    dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    model = NeuroBOLT.create(NeuroBOLTConfig(n_outputs=parcels), seed=0)
    with torch.no_grad():
        model.head.weight.normal_()  # so that outputs can be compared
    names, generator = model_names(), torch.Generator().manual_seed(1)
    eeg = torch.randn(BATCH, len(names), model.config.n_times, generator=generator)
    bold = torch.randn(BATCH, parcels, generator=generator)
    optimizer = torch.optim.AdamW(parameter_groups(model), fused=not variant.startswith("published"))

    def forward(training: bool) -> Any:
        if variant.startswith("published"):
            return published_forward(model, eeg, training)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=variant == "bf16"):
            return model(eeg, names)

    def infer() -> None:
        with torch.no_grad():
            forward(False)

    def step() -> None:
        (forward(True).float() - bold).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    model.eval()
    with torch.no_grad():
        expected = published_forward(model, eeg, False)
        gap = float((forward(False).float() - expected).abs().max() / expected.abs().max())
    peak = matmul_peak(dtype)
    found: dict[str, Any] = {"gap": gap}
    found["forward"], found["forward_cpu"] = times(infer, repeats)
    model.train()
    found["step"], found["step_cpu"] = times(step, repeats)
    return {**found, "peak_gflops": max(peak, matmul_peak(dtype)) / 1e9, "peak_mb": peak_mb()}


def curve(precision: str) -> dict[str, Any]:
    """Losses of steps on noise of a few rhythms, whose power is what is to be predicted."""
    import torch

    from neuroloom.models.config import NeuroBOLTConfig
    from neuroloom.models.neurobolt import NeuroBOLT, parameter_groups
    from neuroloom.training.processes import set_threads

    set_threads(2)
    none = {"dropout": 0.0, "drop_path": 0.0, "spectral_dropout": 0.0, "position_dropout": 0.0}
    config = NeuroBOLTConfig(n_outputs=4, depth=4, electrodes=model_names()[:8], **none)
    model = NeuroBOLT.create(config, seed=0).train()
    optimizer = torch.optim.AdamW(parameter_groups(model, lr=1e-3), fused=True)
    generator, losses = torch.Generator().manual_seed(2), []
    time_T = torch.arange(config.n_times) / config.sfreq
    waves_PT = torch.stack([torch.sin(2 * torch.pi * rate * time_T) for rate in (3.0, 7.0, 11.0, 23.0)])
    for _ in range(STEPS):
        power_BP = torch.rand(BATCH, 4, generator=generator)
        place_BCP = torch.rand(BATCH, 8, 4, generator=generator)
        eeg = (place_BCP * power_BP[:, None]) @ waves_PT
        eeg = eeg + 0.3 * torch.randn(BATCH, 8, config.n_times, generator=generator)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            found = model(eeg, model_names()[:8])
        loss = (found.float() - 4 * (power_BP - 0.5)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return {"losses": losses}


def compare_curves() -> list[dict[str, Any]]:
    """Means of 10 losses in fp32 and in bf16."""
    import numpy as np

    found = {name: in_own_process(__file__, "--precision", name)["losses"] for name in ("fp32", "bf16")}
    means = {name: np.reshape(losses, (-1, MEANED)).mean(axis=1) for name, losses in found.items()}
    pairs = zip(means["fp32"], means["bf16"], strict=True)
    return [
        {"last_step": MEANED * (at + 1), "fp32": one, "bf16": other, "difference": other / one - 1}
        for at, (one, other) in enumerate(pairs)
    ]


def compare(parcels: dict[str, int], repeats: int, rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row for each variant, with its ratios to the first."""
    import numpy as np

    rows: list[dict[str, Any]] = []
    cases = [(variant, outputs) for variant, outputs in parcels.items()]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in cases}
    for _ in range(rounds):
        for name, outputs in cases:
            one = (
                "--variant",
                name.split(" ")[0],
                "--parcels",
                str(outputs),
                "--repeats",
                str(repeats),
                "--threads",
                str(threads),
            )
            found[name].append(in_own_process(__file__, *one))
    for name, outputs in cases:
        row: dict[str, Any] = {"variant": name, "parcels": outputs}
        for what in ("forward", "forward_cpu", "step", "step_cpu"):
            row[what] = float(np.median(np.concatenate([one[what] for one in found[name]])))
            row[f"{what}_ratio"] = rows[0][what] / row[what] if rows else 1.0
        gap = max(one["gap"] for one in found[name])
        peak = max(one["peak_gflops"] for one in found[name])
        rows.append({**row, "gap": gap, "peak_gflops": peak, "peak_mb": max(one["peak_mb"] for one in found[name])})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--parcels", type=int, default=1)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--variant")
    parser.add_argument("--precision")
    given = parser.parse_args()
    if given.precision:
        print(json.dumps(curve(given.precision)))
        return
    if given.variant:
        print(json.dumps(run(given.variant, given.parcels, given.repeats, given.threads)))
        return
    cases = {**dict.fromkeys(VARIANTS, 1), "fp32 whole-brain": 64, "bf16 whole-brain": 64}
    keep(compare(cases, given.repeats, given.rounds, given.threads), "neurobolt")
    if given.curve:
        keep(compare_curves(), "neurobolt_bf16")


if __name__ == "__main__":
    main()
