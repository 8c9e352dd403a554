"""The masked language model of the LiPCoT paper: a segment is a sentence, a channel is a word.

Source: Anjum 2024, arXiv 2408.07292. Changed against its code: codes are the vocabulary themselves, not English words
that stand for them; masking is done here, on single tokens, where its whole-word collator came to the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from transformers import BertForMaskedLM

PAD, UNKNOWN, START, END, MASK = range(5)
N_SPECIAL = 5
IGNORED = -100  # label of a token that the loss leaves out, in PyTorch's and transformers' losses


def build_bert(vocabulary: int, max_tokens: int = 64, *, generator: torch.Generator | None = None) -> BertForMaskedLM:
    """The paper's BERT: 6 layers, 256 wide, one head, relative positions.

    Parameters
    ----------
    vocabulary : int
        Codes of the tokenizer; 5 special tokens are added. 64 with 64 tokens makes 11,338,821 parameters.
    max_tokens : int
        Longest sentence, its two special tokens included.
    generator : torch.Generator, optional
        Of the first weights; by default one of seed 0.
    """
    import torch
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        vocab_size=vocabulary + N_SPECIAL,
        hidden_size=256,
        num_hidden_layers=6,
        num_attention_heads=1,
        max_position_embeddings=max_tokens,
        position_embedding_type="relative_key",
        pad_token_id=PAD,
        attn_implementation="eager",
    )
    generator = generator or torch.Generator().manual_seed(0)
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # transformers draws weights from the global generator
        torch.manual_seed(seed)
        return BertForMaskedLM(config)


def sentences(codes_BCNQ: Any, max_tokens: int = 64) -> torch.Tensor:
    """Codes as sentences, one for each step: start, a token for each channel, end, padding.

    Parameters
    ----------
    codes_BCNQ : int array or tensor
        Of LiPCoT, that is with one quantizer. A negative code is unknown.
    max_tokens : int
        Length of the sentences.

    Returns
    -------
    int64 tensor (B x N, max_tokens)
        Windows in order, the steps of a window next to each other.

    Raises
    ------
    ValueError
        If there is more than one quantizer, or a sentence would be too long.
    """
    import torch

    codes_BCNQ = torch.as_tensor(np.asarray(codes_BCNQ)).long()
    n_batch, n_channels, n_steps, n_quantizers = codes_BCNQ.shape
    if n_quantizers != 1 or n_channels + 2 > max_tokens:
        raise ValueError(
            f"codes of shape {tuple(codes_BCNQ.shape)}: a sentence is one code for each of at most {max_tokens - 2}"
            " channels; raise max_tokens, or take LiPCoT's codes"
        )
    words_NC = codes_BCNQ[..., 0].permute(0, 2, 1).reshape(n_batch * n_steps, n_channels)
    ids_NT = torch.full((n_batch * n_steps, max_tokens), PAD)
    ids_NT[:, 0], ids_NT[:, n_channels + 1] = START, END
    ids_NT[:, 1 : n_channels + 1] = torch.where(words_NC < 0, UNKNOWN, words_NC + N_SPECIAL)
    return ids_NT


def mask_tokens(
    ids_NT: torch.Tensor, vocabulary: int, *, generator: torch.Generator, p: float = 0.15
) -> tuple[torch.Tensor, torch.Tensor]:
    """Hide tokens for the model to find (Devlin et al. 2018): of those drawn, 80 % masked, 10 % replaced, 10 % kept.

    Parameters
    ----------
    ids_NT : int64 tensor
        Sentences. Special tokens are never drawn.
    vocabulary : int
        Codes of the tokenizer; a replacement is one of them.
    generator : torch.Generator
        On the device of the sentences.
    p : float
        Probability that a token is drawn.

    Returns
    -------
    inputs_NT, labels_NT : int64 tensors
        Labels are the tokens where drawn, else `IGNORED`.
    """
    import torch

    def random() -> torch.Tensor:
        return torch.rand(ids_NT.shape, generator=generator, device=ids_NT.device)

    drawn_NT = (random() < p) & (ids_NT >= N_SPECIAL)
    fate_NT = random()
    others_NT = torch.randint(vocabulary, ids_NT.shape, generator=generator, device=ids_NT.device) + N_SPECIAL
    hidden_NT = torch.where(fate_NT < 0.8, MASK, torch.where(fate_NT < 0.9, others_NT, ids_NT))
    return torch.where(drawn_NT, hidden_NT, ids_NT), torch.where(drawn_NT, ids_NT, IGNORED)
