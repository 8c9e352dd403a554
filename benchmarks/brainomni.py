"""A pretraining step of BrainOmni of the published sizes, against the published way of making one.

    python benchmarks/brainomni.py [--repeats 5] [--cases tiny-1 base-1 ...] [--threads 2] [--curve 200]

The published way, in our own words and on our weights: the tokenizer runs in every step with its losses, attention by
PyTorch's kernel with dropout inside, each piece of a block as an operation of its own, logits of all tokens, plain
AdamW, single precision, the allocator as it is. Ours: codes that were kept, attention and dropout of `crisscross.py`,
logits of hidden tokens, fused AdamW, kept memory; in fp32 and in bf16. A case is a size and a number of segments of
30 s of 19 electrodes, 2,560 tokens each; dropout is 0.1, as published. Every variant runs in a process of its own, in
turn; the fastest of its repeats counts. `cpu_speedup` compares the time of all processors, which hardly depends on what
else runs on the machine. MFU is the share of the matmul peak in the variant's precision, measured in the
same process. Memory per token is what a step adds to the peak of the process. `loss` is of equal weights and masks,
without dropout. With `--curve`, the loss of a small model over that many steps in bf16, beside fp32. Runs on a GPU
where there is one.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

from braintokenizer import fastest, published
from measure import in_own_process, keep, peak_mb

SFREQ, SECONDS, N_CHANNELS = 256, 30, 19
CASES = ("tiny-1", "tiny-4", "base-1", "base-4")
VARIANTS = ("published", "fp32", "bf16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--curve", type=int, default=0)
    parser.add_argument("--variant")
    given = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # for all variants: spinning would measure the neighbours
    if given.variant:
        print(json.dumps(run(given.cases[0], given.variant, given.repeats, given.threads)))
        return
    rows = []
    for case in given.cases:
        one = ("--cases", case, "--repeats", str(given.repeats), "--threads", str(given.threads), "--variant")
        found = {variant: in_own_process(__file__, *one, variant) for variant in VARIANTS}
        base = found["published"]
        for variant, values in found.items():
            speedup = {"speedup": base["seconds"] / values["seconds"]}
            speedup["loss_off"] = values["loss"] / base["loss"] - 1
            speedup["cpu_speedup"] = base["cpu_seconds"] / values["cpu_seconds"]
            rows.append({"case": case, "variant": variant, **values, **speedup})
    if rows:
        keep(rows, "brainomni")
    if given.curve:
        keep(curve(given.curve), "brainomni_bf16")


def run(case: str, variant: str, repeats: int, threads: int) -> dict[str, Any]:
    """Facts about one variant of one case."""
    import torch

    from neuroloom.training.processes import set_threads

    if variant == "published":
        torch.set_num_threads(threads)
    else:
        set_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if variant == "bf16" else torch.float32
    work = Step(case, variant, device, dtype)
    before = allocated_mb(device)
    seconds, cpu_seconds = timed(waiting(work, device), repeats)
    used = peak_of(device) - before
    flops = work.flops()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "tokens_per_s": work.n_tokens / seconds,
        "kb_per_token": 1024 * used / work.n_tokens,
        "gflop": flops / 1e9,
        "mfu": flops / seconds / matmul_peak(device, dtype),
        "loss": work.plain_loss(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
    }


class Step:
    """A pretraining step, to be called."""

    def __init__(self, case: str, variant: str, device: Any, dtype: Any) -> None:
        import torch

        from neuroloom.models.brainomni import BrainOmni
        from neuroloom.models.brainomni_pretraining import CodeBatch, MaskedPrediction, Nulls
        from neuroloom.models.config import BRAINOMNI_SIZES, BrainOmniConfig
        from neuroloom.tokenizers.braintokenizer import BrainTokenizer
        from neuroloom.tokenizers.config import BrainTokenizerConfig

        size, n_segments = case.split("-")
        torch.manual_seed(0)
        tokenizer = BrainTokenizer(BrainTokenizerConfig(overlap=0.25))
        config = BrainOmniConfig(**BRAINOMNI_SIZES[size])
        self.model = BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer).to(device).train()
        n, self.variant, self.device, self.dtype = int(n_segments), variant, device, dtype
        signal = torch.randn(n, N_CHANNELS, SECONDS * SFREQ)
        places = torch.randn(n, N_CHANNELS, 6), torch.zeros(n, N_CHANNELS, dtype=torch.long)
        self.given = [one.to(device) for one in (signal, *places)]
        with torch.no_grad():
            codes = self.model.tokenizer.encode(*self.given, 0.25).codes.clone()
        self.batch = CodeBatch(codes, ("r",) * n, (0, n, n))
        self.task = MaskedPrediction(Nulls(torch.ones(16, 4, 512).numpy()))
        self.generator = torch.Generator(device).manual_seed(0)
        self.n_tokens = codes[..., 0].numel()
        groups = self.task.parameter_groups(self.model)
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=variant != "published")

    def __call__(self) -> None:
        import torch

        loss = self.loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def loss(self) -> Any:
        import torch

        if self.variant == "published":
            with published():
                return published_loss(self.model, *self.given, self.generator)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.dtype == torch.bfloat16):
            return self.task.loss(self.model, self.batch, self.generator)[0]

    def plain_loss(self) -> float:
        """Of weights as they start, and of one mask; without dropout."""
        import torch

        again = self.model.restarted(0).to(self.device).eval()
        trained, self.model = self.model, again
        self.generator = torch.Generator(self.device).manual_seed(1)
        loss = self.loss().item()
        self.model = trained
        return loss

    def flops(self) -> float:
        """Of the step, as it is made by this variant."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.loss().backward()
        self.optimizer.zero_grad()
        # the counter does not see into the fused LSTM: 8 products a frame and layer
        windows = self.n_tokens // 2560 * N_CHANNELS * 20 if self.variant == "published" else 0
        return counter.get_total_flops() + windows * 8 * 2 * 2 * 256 * 2048


def published_loss(model: Any, signal: Any, positions: Any, types: Any, generator: Any) -> Any:
    """The loss in the published order of operations, by the same weights and the same draw of masks."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    from neuroloom.models.brainomni_pretraining import Hiding

    tokenizer, config = model.tokenizer, model.config
    with torch.no_grad():
        windows = tokenizer.windows(signal, model.overlap)
        n, _, n_windows, _ = windows.shape
        sensors = tokenizer.sensors(positions, types).repeat_interleave(n_windows, 0)
        latents = tokenizer.to_latents(windows.transpose(1, 2).flatten(0, 1), sensors)
        found, codes, _ = tokenizer.quantizer(latents)
        for level in range(codes.shape[-1]):
            F.one_hot(codes[..., level], tokenizer.codebook_sizes[level]).to(found.dtype)
        x, codes = (one.unflatten(0, (n, n_windows)).transpose(1, 2).flatten(2, 3) for one in (found, codes))
    ratios = {"mask_ratio": config.mask_ratio, "random_ratio": config.random_ratio}
    hiding = Hiding.draw(codes.shape[1:3], (0, n, n), generator, **ratios)
    x = hiding.shown(x, model.mask_D) + tokenizer.gather.latents_LD.detach().view(1, x.shape[1], 1, -1)
    x = model.project(x)
    for block in model.blocks:
        x = x + published_attention(block, norm(x, block.mix_norm.weight))
        wide = F.selu(block.widen(norm(x, block.feed_norm.weight)))
        x = x + F.dropout(block.narrow(wide), block.dropout, model.training)
    logits = model.head(x).unflatten(-1, (codes.shape[-1], -1))[hiding.hidden_BLS].flatten(0, 1)
    wanted = codes[hiding.hidden_BLS].flatten()
    loss = F.cross_entropy(logits.float(), wanted)
    (logits.argmax(-1) == wanted).float().mean()
    return loss


def norm(x: Any, weight: Any) -> Any:
    return weight * (x * (x.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt())


def published_attention(block: Any, x: Any) -> Any:
    import torch

    n, n_latents, n_steps, dim = x.shape
    over_space = x[..., dim // 2 :].transpose(1, 2).reshape(n * n_steps, n_latents, -1)
    over_time = x[..., : dim // 2].reshape(n * n_latents, n_steps, -1)
    over_space = published_heads(block.space, over_space, turned=False, training=block.training)
    over_time = published_heads(block.time, over_time, turned=True, training=block.training)
    over_space = over_space.unflatten(0, (n, n_steps)).transpose(1, 2)
    return torch.cat([over_space, over_time.unflatten(0, (n, n_latents))], dim=-1)


def published_heads(part: Any, x: Any, *, turned: bool, training: bool) -> Any:
    import torch
    from torch.nn import functional as F  # noqa: N812

    from neuroloom.models.crisscross import rotation

    q, k, v = (one.unflatten(-1, (part.num_heads, -1)) for one in part.qkv(x).chunk(3, dim=-1))
    if turned:
        turn = rotation(q.shape[1], q.shape[2], q.shape[3], device=x.device)
        pairs = (torch.view_as_complex(one.float().reshape(*one.shape[:-1], -1, 2)) * turn for one in (q, k))
        q, k = (torch.view_as_real(one).flatten(3).type_as(x) for one in pairs)
    q, k, v = (one.transpose(1, 2) for one in (q, k, v))
    made = F.scaled_dot_product_attention(q, k, v, dropout_p=part.dropout if training else 0.0)
    return part.out(made.transpose(1, 2).contiguous().flatten(2))


def curve(n_steps: int) -> list[dict[str, Any]]:
    """Loss of a small model in both precisions, in equal batches and masks, by 20 steps."""
    import numpy as np
    import torch

    from neuroloom.models.brainomni import BrainOmni
    from neuroloom.models.brainomni_pretraining import CodeBatch, MaskedPrediction, Nulls
    from neuroloom.models.config import BrainOmniConfig
    from neuroloom.tokenizers.braintokenizer import BrainTokenizer
    from neuroloom.tokenizers.config import BrainTokenizerConfig
    from neuroloom.training.processes import set_threads

    set_threads(2)
    torch.manual_seed(0)
    small = {"window_length": 64, "n_filters": 4, "ratios": (4, 2), "embed_dim": 32, "num_heads": 2}
    tokenizer = BrainTokenizer(BrainTokenizerConfig(**small, codebook_size=32, num_quantizers=2))
    config = BrainOmniConfig(embed_dim=64, depth=4, num_heads=4)
    losses: dict[Any, list[float]] = {}
    for precision in (torch.float32, torch.bfloat16):
        model = BrainOmni.create(config, sfreq=SFREQ, tokenizer=tokenizer).train()
        task, data = MaskedPrediction(Nulls(torch.ones(16, 2, 32).numpy())), torch.Generator().manual_seed(0)
        optimizer = torch.optim.AdamW(task.parameter_groups(model), lr=2e-3, fused=True)
        losses[precision] = []
        for step in range(n_steps):
            torch.manual_seed(step)
            batch = CodeBatch(staying_codes((2, 16, 40, 2), data), ("r",) * 2, (0, 2, 2))
            with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
                loss, _ = task.loss(model, batch, torch.Generator().manual_seed(step))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[precision].append(loss.item())
    full, half = (np.array(losses[precision]) for precision in (torch.float32, torch.bfloat16))
    parts = [slice(at, at + 20) for at in range(0, n_steps, 20)]
    off = np.abs(half / full - 1)
    means = {"fp32": [full[part].mean() for part in parts], "bf16": [half[part].mean() for part in parts]}
    rows = {"steps_from": [part.start for part in parts], **means, "largest_off": [off[part].max() for part in parts]}
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


def staying_codes(shape: tuple[int, ...], generator: Any) -> Any:
    """Of 32, some more often than others, each for five steps on average."""
    import torch

    codes = (32 * torch.rand(shape, generator=generator) ** 3).long()
    fresh = torch.rand((*shape[:3], 1), generator=generator) < 0.2
    first = torch.where(fresh, torch.arange(shape[2])[:, None], 0).cummax(dim=2).values
    return codes.gather(2, first.expand(shape))


def matmul_peak(device: Any, dtype: Any) -> float:
    """FLOP/s of a product of two large matrices."""
    import torch

    size = 8192 if device.type == "cuda" else 2048
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return 2 * size**3 / fastest(waiting(lambda: one @ other, device), 8)


def timed(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Seconds, and seconds of all processors, of the fastest of some calls, after one that does not count."""
    work()
    found = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        found.append((time.perf_counter() - wall, time.process_time() - cpu))
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def waiting(work: Callable[[], Any], device: Any) -> Callable[[], None]:
    """The work, and a GPU's end of it."""
    import torch

    def done() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return done


def allocated_mb(device: Any) -> float:
    import torch

    return torch.cuda.memory_allocated() / 2**20 if device.type == "cuda" else peak_mb()


def peak_of(device: Any) -> float:
    import torch

    return torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_mb()


if __name__ == "__main__":
    main()
