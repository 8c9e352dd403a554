"""Pretraining steps of REVE, small and base, against the published way of doing them.

    python benchmarks/reve.py [--repeats 5] [--rounds 2] [--curve]

The published way, in our own words: block masks segment by segment with a k-d tree, visible tokens in random order, the
code of a place for every segment, a single-precision buffer for the decoder that is filled by index, all tokens through
its last layer, an optimizer that asks for a number of each tensor, the allocator as it is. Ours: as in
`neuroloom.models`, with kept memory; in fp32 and in bf16.

Every variant runs in a process of its own, in turn, once the machine is quiet (`quiet`: fastest over slowest of equal
products); the fastest of its steps counts. Where others share the machine, CPU seconds say more: set OMP_WAIT_POLICY to
PASSIVE, so that waiting is not among them. Random weights and signals, electrodes of the 10-20 system. MFU is the share
of the matmul peak in the variant's precision, measured in the same process, of the operations that the variant does.
Memory per token holds all but the interpreter and its libraries. On a GPU, if there is one, batches are larger. With
--curve, 200 steps on signals like EEG are trained in fp32 and in bf16.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from typing import Any

from measure import in_own_process, keep, peak_mb

SFREQ, SECONDS = 200, 10
CASES = {"small": 8, "base": 4}  # segments of a batch
ON_GPU = 32  # times as many
QUIET, PATIENCE = 0.7, 60  # fastest product over slowest, and seconds that are waited for it
VARIANTS = ("published", "fp32", "bf16")  # and bf16-compiled where there is a GPU
NAMES = [
    *("Fp1", "Fp2", "F7", "F3", "Fz", "F4", "F8", "T7", "C3", "Cz"),
    *("C4", "T8", "P7", "P3", "Pz", "P4", "P8", "O1", "O2"),
]


def electrodes() -> Any:
    """Positions of 19 electrodes, m."""
    import mne
    import numpy as np

    places = mne.channels.make_standard_montage("colin27_1020").get_positions()["ch_pos"]
    return np.array([places[name] for name in NAMES], np.float32)


def published_masks(positions_BC3: Any, n_patches: int, config: Any, rng: Any) -> tuple[Any, Any]:
    """Block masks, segment by segment; hidden and visible indices in random order."""
    import numpy as np
    import torch
    from scipy.spatial import KDTree

    hidden, visible = [], []
    for place_C3 in positions_BC3.cpu().numpy():
        tree, n_channels = KDTree(place_C3), len(place_C3)
        mask_NC = np.zeros((n_patches, n_channels), bool)

        def grow(start: Any, count: int, radius: float, tree: Any = tree, place_C3: Any = place_C3) -> Any:
            found = start.copy()
            while found.sum() < count:
                found[tree.query_ball_point(place_C3[rng.choice(np.flatnonzero(~found))], radius)] = True
            kept = np.zeros_like(found)
            kept[np.flatnonzero(found)[:count]] = True
            return kept

        nothing, count = np.zeros(n_channels, bool), int(config.mask_ratio * n_channels)
        dropped = grow(nothing, int(config.dropout_ratio * n_channels), config.dropout_radius)
        whole = n_patches // config.mask_patches
        for block in range(whole):
            rows = slice(block * config.mask_patches, (block + 1) * config.mask_patches)
            mask_NC[rows] = grow(dropped, count, config.mask_radius)
        for patch in range(whole * config.mask_patches, n_patches):
            mask_NC[patch] = grow(nothing, count, config.mask_radius)
        hidden.append(rng.permutation(np.flatnonzero(mask_NC)))
        visible.append(rng.permutation(np.flatnonzero(~mask_NC)))
    device = positions_BC3.device
    return torch.as_tensor(np.stack(hidden), device=device), torch.as_tensor(np.stack(visible), device=device)


def published_loss(model: Any, eeg: Any, positions: Any, masked: Any, visible: Any) -> Any:
    """The loss of the same weights, computed as the published code does."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    encoder, config = model.encoder, model.encoder.config

    def norm(x: Any, weight: Any) -> Any:
        return (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * weight

    def layers(transformer: Any, x: Any) -> list[Any]:
        states = [x]
        for layer in transformer.layers:
            attention, wide = layer.attention, layer.feed_forward
            qkv = attention.qkv(norm(x, attention.norm.weight)).chunk(3, dim=-1)
            heads = [part.unflatten(-1, (attention.num_heads, -1)).transpose(1, 2) for part in qkv]
            x = x + attention.out(F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
            values, gates = wide.widen(norm(x, wide.norm.weight)).chunk(2, dim=-1)
            x = x + wide.narrow(F.gelu(gates) * values)
            states.append(x)
        return states

    patches = encoder.patches(eeg)
    n_samples, n_channels, n_patches, _ = patches.shape
    patches = patches.reshape(n_samples, n_channels * n_patches, -1)
    time_N = torch.arange(n_patches, device=eeg.device, dtype=torch.float32)
    place = torch.cat(
        [
            positions[:, :, None].expand(-1, -1, n_patches, -1),
            time_N[None, None, :, None].expand(n_samples, n_channels, -1, 1),
        ],
        dim=-1,
    ).flatten(1, 2)
    scaled = place * torch.tensor([1, 1, 1, 0.1], device=eeg.device) + 0.4
    turns = torch.cartesian_prod(*(torch.arange(config.n_frequencies, device=eeg.device),) * 4).float()
    phase = (scaled @ (turns.T * 2 * math.pi / 1.8))[..., : config.embed_dim // 2]
    drawn = encoder.place.inner(F.gelu(encoder.place.linear(place)))
    code = encoder.place.norm(torch.cat([phase.cos(), phase.sin()], dim=-1) + drawn)
    row = torch.arange(n_samples, device=eeg.device)[:, None]
    states = layers(encoder.transformer, encoder.patch(patches[row, visible]) + code[row, visible])
    buffer = torch.zeros(n_samples, n_channels * n_patches, config.decoder_embed_dim, device=eeg.device)
    buffer[row, visible] = states[-1].to(buffer.dtype) + code[row, visible]
    buffer[row, masked] = model.mask_token_D + code[row, masked]
    made = model.to_samples(layers(model.decoder, buffer)[-1][row, masked])
    tokens = torch.cat(states, dim=1)
    query = encoder.query_D.expand(n_samples, 1, -1)
    pooled = torch.softmax(query @ tokens.transpose(1, 2) / config.embed_dim**0.5, dim=-1) @ tokens
    from_query = model.from_query(pooled.expand(-1, masked.shape[1], -1) + code[row, masked])
    target = patches[row, masked]
    return F.l1_loss(made.float(), target) + config.token_average * F.l1_loss(from_query.float(), target)


class PublishedStableAdamW:
    """Tensor by tensor, with one number of each brought to the host."""

    def __init__(self, params: Any, lr: float) -> None:
        import torch

        self.params, self.lr, self.steps = list(params), lr, 0
        self.means = [torch.zeros_like(param) for param in self.params]
        self.squares = [torch.zeros_like(param) for param in self.params]

    def step(self, first: float = 0.92, second: float = 0.999, eps: float = 1e-9, decay: float = 0.01) -> None:
        import torch

        self.steps += 1
        share = [1 - (1 - beta) / (1 - beta**self.steps) for beta in (first, second)]
        with torch.no_grad():
            for param, mean, square in zip(self.params, self.means, self.squares, strict=True):
                mean.mul_(share[0]).add_(param.grad, alpha=1 - share[0])
                square.mul_(share[1]).addcmul_(param.grad, param.grad, value=1 - share[1])
                rms = param.grad.pow(2).div_(square.clamp(min=eps**2)).mean().sqrt().item()
                lr = self.lr / max(1.0, rms)
                param.mul_(1 - lr * decay)
                param.addcdiv_(mean, square.sqrt().add_(eps), value=-lr)

    def zero_grad(self) -> None:
        for param in self.params:
            param.grad = None


def wait_until_quiet(seconds: float) -> float:
    """Wait until products take equally long, which says that nothing else is running; fastest time over slowest."""
    import torch

    one, until = torch.randn(1024, 1024), time.monotonic() + seconds
    while True:
        times = []
        for _ in range(30):
            start = time.perf_counter()
            one @ one
            times.append(time.perf_counter() - start)
        quiet = min(times) / max(times[5:])
        if quiet > QUIET or time.monotonic() > until:
            return quiet
        time.sleep(1)


def matmul_peak(dtype: Any, device: Any) -> float:
    """FLOP/s of a product of two square matrices."""
    import torch

    size = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest(lambda: one @ other, 5, device)[0]


def fastest(work: Callable[[], Any], repeats: int, device: Any) -> tuple[float, float]:
    """Fewest wall and fewest CPU seconds of some calls, after two that do not count."""
    import torch

    wall, cpu = [], []
    for _ in range(repeats + 2):
        start = time.perf_counter(), time.process_time()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    return min(wall[2:]), min(cpu[2:])


def attention_flops(config: Any, masked: Any, visible: Any, *, whole: bool) -> int:
    """Operations of the attention products in both directions, which the counter does not see on a CPU."""
    (n_samples, n_masked), n_visible = masked.shape, visible.shape[1]
    n_tokens = n_masked + n_visible
    last = n_tokens if whole else n_masked
    encoder = config.depth * config.num_heads * config.head_dim * n_visible**2
    pairs = (config.decoder_depth - 1) * n_tokens**2 + last * n_tokens
    return 12 * n_samples * (encoder + config.decoder_num_heads * config.decoder_head_dim * pairs)


def run(case: str, variant: str, repeats: int) -> dict[str, Any]:
    import numpy as np
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from neuroloom.models.config import REVE_SIZES
    from neuroloom.models.masking import sample_masks
    from neuroloom.models.reve import REVE
    from neuroloom.models.reve_pretraining import MaskedPatches, REVEPretraining
    from neuroloom.training.data import Batch
    from neuroloom.training.optimizers import StableAdamW
    from neuroloom.training.processes import set_threads

    before = peak_mb()
    torch.set_num_threads(2)
    if variant != "published":
        set_threads(2)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if variant.startswith("bf16") else torch.float32
    torch.manual_seed(0)
    config = REVE_SIZES[case]
    model = REVEPretraining(REVE(config)).to(device).train()
    n_samples = CASES[case] * (ON_GPU if device.type == "cuda" else 1)
    signal = torch.randn(n_samples, len(NAMES), SECONDS * SFREQ).to(device)
    positions = torch.zeros(n_samples, len(NAMES), 6)
    positions[..., :3] = torch.from_numpy(electrodes())
    positions = positions.to(device)
    types = torch.zeros(n_samples, len(NAMES), dtype=torch.long, device=device)
    rows = (0, n_samples, n_samples)
    batch = Batch(signal, positions, types, ("r",) * n_samples, (0,) * n_samples, rows)
    n_patches = model.encoder.n_patches(signal.shape[-1])
    n_tokens = n_samples * len(NAMES) * n_patches
    task, generator, rng = MaskedPatches(), torch.Generator(device).manual_seed(0), np.random.default_rng(0)
    params = list(model.parameters())
    if variant == "published":
        optimizer: Any = PublishedStableAdamW(params, 1e-4)
    else:
        optimizer = StableAdamW(params, lr=1e-4)
    if variant.endswith("compiled"):
        model.compile()

    def draw() -> Any:
        if variant == "published":
            return published_masks(positions[..., :3], n_patches, config, rng)
        return sample_masks(positions[..., :3], n_patches, config=config, generator=generator)

    def loss() -> Any:
        if variant != "published":
            return task.loss(model, batch, generator)[0]
        noise = torch.from_numpy(rng.normal(0, config.position_noise, (len(NAMES), 3))).to(positions)
        return published_loss(model, signal, positions[..., :3] + noise, *draw())

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(params, 5.0)
        optimizer.step()
        optimizer.zero_grad()

    masks = sample_masks(positions[..., :3], n_patches, config=config, generator=generator)
    with torch.no_grad():
        found = published_loss(model, signal, positions[..., :3], *masks)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            ours = model.loss(signal, positions[..., :3], *masks)
    with FlopCounterMode(display=False) as counter:
        loss().backward()
    optimizer.zero_grad()
    quiet = wait_until_quiet(PATIENCE)
    peak = matmul_peak(dtype, device)
    best, cpu = fastest(step, repeats, device)
    peak, flops = max(peak, matmul_peak(dtype, device)), counter.get_total_flops()
    if device.type == "cpu":
        flops += attention_flops(config, *masks, whole=variant == "published")
    memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_mb()
    return {
        "seconds": best,
        "cpu_seconds": cpu,
        "quiet": quiet,
        "tokens_per_s": n_tokens / best,
        "gflop": flops / 1e9,
        "peak_gflops": peak / 1e9,
        "mfu": flops / best / peak,
        "mask_share": fastest(draw, repeats, device)[0] / best,
        "peak_mb": memory,
        "kb_per_token": (memory - (0 if device.type == "cuda" else before)) * 1024 / n_tokens,
        "loss": float(ours),
        "loss_against_published": float(ours / found - 1),
    }


def curve(precision: str) -> dict[str, Any]:
    """Losses of 200 steps on signals with a 1/f spectrum that neighbours share."""
    import numpy as np

    from neuroloom.models.config import ReveConfig
    from neuroloom.models.reve import REVE
    from neuroloom.models.reve_pretraining import pretrain_reve
    from neuroloom.training.processes import set_threads

    set_threads(2)
    widths = {"embed_dim": 128, "num_heads": 4, "head_dim": 32, "decoder_embed_dim": 128, "decoder_depth": 2}
    training = {"steps": 200, "batch_tokens": 1672, "lr": 1e-3, "optimizer": "stable_adamw", "betas": (0.92, 0.999)}
    schedule = {"schedule": "trapezoid", "clip_norm": 5.0, "eps": 1e-9, "log_every": 200, "precision": precision}
    config = ReveConfig(**widths, decoder_num_heads=4, decoder_head_dim=32, depth=4, training={**training, **schedule})
    model = REVE.create(config, sfreq=SFREQ, seed=0)
    losses: list[float] = []

    import pandas as pd

    from neuroloom.models import reve_pretraining

    original = reve_pretraining.train

    def recorded(**given: Any) -> Any:
        result = original(**given)
        losses.extend(pd.Series(result.metrics["loss"]).tolist())
        return result

    reve_pretraining.train = recorded
    pretrain_reve(model, [LikeEeg(1)], rng=np.random.default_rng(0))
    reve_pretraining.train = original
    return {"losses": losses}


class LikeEeg:
    """Segments of noise with a 1/f spectrum and a rhythm of 10 Hz, shared between neighbours."""

    def __init__(self, seed: int, n_segments: int = 128) -> None:
        import numpy as np

        rng = np.random.default_rng(seed)
        place_C3 = electrodes()
        self.positions_C6 = np.concatenate([place_C3, np.zeros_like(place_C3)], axis=1)
        self.sensor_type_C = np.zeros(len(place_C3), np.int64)
        self.recording, self.n_channels, self.n_times = "sub-01", len(place_C3), SFREQ * SECONDS
        spectrum = np.fft.rfft(rng.standard_normal((n_segments, len(place_C3), self.n_times)))
        frequency_F = np.fft.rfftfreq(self.n_times, 1 / SFREQ)
        spectrum[..., 1:] *= frequency_F[1:] ** -0.7 + 0.6 * np.exp(-((frequency_F[1:] - 10) ** 2))
        spectrum[..., 0] = 0
        near_CC = np.exp(-((np.linalg.norm(place_C3[:, None] - place_C3[None], axis=2) / 0.07) ** 2))
        signal = near_CC @ np.fft.irfft(spectrum, self.n_times)
        self.signal_NCT = (signal / signal.std(axis=(0, 2), keepdims=True)).astype(np.float32)

    def __len__(self) -> int:
        return len(self.signal_NCT)

    def read(self, first: int, count: int = 1) -> Any:
        return self.signal_NCT[first : first + count]


def compare_curves() -> list[dict[str, Any]]:
    """Means of 20 losses in fp32 and in bf16."""
    import numpy as np

    found = {name: in_own_process(__file__, "--precision", name)["losses"] for name in ("32-true", "bf16-mixed")}
    means = {name: np.reshape(losses, (-1, 20)).mean(axis=1) for name, losses in found.items()}
    pairs = zip(means["32-true"], means["bf16-mixed"], strict=True)
    return [
        {"last_step": 20 * (at + 1), "fp32": one, "bf16": other, "difference": other / one - 1}
        for at, (one, other) in enumerate(pairs)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--curve", action="store_true")
    parser.add_argument("--case")
    parser.add_argument("--variant")
    parser.add_argument("--precision")
    given = parser.parse_args()
    if given.precision:
        print(json.dumps(curve(given.precision)))
        return
    if given.variant:
        print(json.dumps(run(given.case, given.variant, given.repeats)))
        return
    import torch

    variants = (*VARIANTS, "bf16-compiled") if torch.cuda.is_available() else VARIANTS
    rows = []
    for case in (given.case,) if given.case else CASES:
        one = ("--case", case, "--repeats", str(given.repeats), "--variant")
        rounds = [
            {variant: in_own_process(__file__, *one, variant) for variant in variants} for _ in range(given.rounds)
        ]
        best = {
            variant: min((found[variant] for found in rounds), key=lambda row: row["seconds"]) for variant in variants
        }
        for variant, values in best.items():
            base = best["published"]
            ratios = {"speedup": base["seconds"] / values["seconds"], "memory": values["peak_mb"] / base["peak_mb"]}
            rows.append({"case": case, "variant": variant, **ratios, **values})
    keep(rows, "reve")
    if given.curve:
        keep(compare_curves(), "reve_bf16")


if __name__ == "__main__":
    main()
