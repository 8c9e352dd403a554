"""The paper's BERT: its size, its sentences, what is hidden from it, and that it learns."""

import numpy as np
import pytest
import torch

from neuroloom.tokenizers.bert import END, IGNORED, MASK, N_SPECIAL, PAD, START, build_bert, mask_tokens, sentences


def test_has_the_parameters_of_the_paper() -> None:
    model = build_bert(64, 64)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_338_821


def test_first_weights_follow_from_the_generator_and_leave_the_global_one_alone() -> None:
    before = torch.random.get_rng_state()
    models = [build_bert(8, 16, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    first, same, other = (model.bert.embeddings.word_embeddings.weight for model in models)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_sentence_is_the_channels_of_one_step(rng: np.random.Generator) -> None:
    codes_BCNQ = rng.integers(0, 64, (2, 59, 3, 1))
    ids_NT = sentences(codes_BCNQ)
    assert ids_NT.shape == (6, 64)
    assert (ids_NT[:, 0] == START).all()
    assert (ids_NT[:, 60] == END).all()
    assert (ids_NT[:, 61:] == PAD).all()
    np.testing.assert_array_equal(ids_NT[4, 1:60] - N_SPECIAL, codes_BCNQ[1, :, 1, 0])


@pytest.mark.parametrize("shape", [(1, 63, 1, 1), (1, 4, 1, 2)])
def test_refuses_a_sentence_that_does_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at most 62 channels"):
        sentences(np.zeros(shape, int))


def test_masks_15_percent_of_the_codes_and_no_special_token(rng: np.random.Generator) -> None:
    ids_NT = sentences(rng.integers(0, 64, (2000, 59, 1, 1)))
    inputs_NT, labels_NT = mask_tokens(ids_NT, 64, generator=torch.Generator().manual_seed(3))
    drawn_NT, words_NT = labels_NT != IGNORED, ids_NT >= N_SPECIAL
    n_drawn = int(drawn_NT.sum())
    assert not (drawn_NT & ~words_NT).any()
    assert torch.equal(inputs_NT[~drawn_NT], ids_NT[~drawn_NT])
    assert torch.equal(labels_NT[drawn_NT], ids_NT[drawn_NT])
    # four standard errors of a share of 118,000 words, or of the 17,700 that are drawn
    assert n_drawn / int(words_NT.sum()) == pytest.approx(0.15, abs=4 * (0.15 * 0.85 / 118_000) ** 0.5)
    masked = (inputs_NT[drawn_NT] == MASK).float().mean().item()
    kept = (inputs_NT[drawn_NT] == ids_NT[drawn_NT]).float().mean().item()
    assert masked == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / n_drawn) ** 0.5)
    assert kept == pytest.approx(0.1 + 0.1 / 64, abs=4 * (0.1 * 0.9 / n_drawn) ** 0.5)
    assert inputs_NT.max() < 64 + N_SPECIAL


def test_masks_the_same_with_the_same_seed(rng: np.random.Generator) -> None:
    ids_NT = sentences(rng.integers(0, 64, (4, 10, 1, 1)), 16)
    first, same, other = (mask_tokens(ids_NT, 64, generator=torch.Generator().manual_seed(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_learns_that_the_channels_of_a_sentence_agree(rng: np.random.Generator) -> None:
    codes_BCNQ = np.repeat(rng.integers(0, 8, (24, 1, 1, 1)), 6, axis=1)
    ids_NT, generator = sentences(codes_BCNQ, 8), torch.Generator().manual_seed(0)
    model = build_bert(8, 8, generator=generator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    losses = []
    for _ in range(20):
        inputs_NT, labels_NT = mask_tokens(ids_NT, 8, generator=generator, p=0.3)
        loss = model(input_ids=inputs_NT, attention_mask=(inputs_NT != PAD).long(), labels=labels_NT).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # guessing one of 8 codes costs ln 8 = 2.08
    assert losses[0] > 2.0
    assert np.mean(losses[-3:]) < 0.5
