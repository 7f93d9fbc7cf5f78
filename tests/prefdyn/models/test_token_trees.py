"""Token trees against the model's own run, one sequence at a time, on five architectures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import rounding
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from prefdyn.errors import PrefdynError
from prefdyn.models import token_trees as packing
from prefdyn.models.token_trees import (
    ATTENTION,
    PackedTrees,
    Tree,
    last_hidden_states,
    pack,
    pack_sequences,
    shared_prefix,
)

SMALL = {
    "vocab_size": 61,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
ORDINARY = {
    **SMALL,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.2,
    "max_position_embeddings": 128,
}
WINDOW = 4
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**ORDINARY),
    "gpt2": GPT2Config(vocab_size=61, n_embd=32, n_layer=3, n_head=4, n_positions=128, initializer_range=0.2),
    "gpt_neox": GPTNeoXConfig(**SMALL, initializer_range=0.2),
    "gemma3": Gemma3TextConfig(
        **ORDINARY,
        query_pre_attn_scalar=3,  # attention scaled otherwise than by its width
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    ),
    "mistral": MistralConfig(**ORDINARY, sliding_window=WINDOW),
}
TREES: list[Tree] = [
    ([5, 6, 7, 8, 9, 10, 11], [[12, 13, 14, 15, 16, 17], [18, 19]]),
    ([20, 21], [[22], [23, 24, 25, 26, 27, 28], [23, 24, 29]]),
    ([], [[30, 31, 32, 33, 34, 35, 36, 37]]),
]


LAYOUTS = {
    "one by one": lambda trees: pack(trees),
    "a row under a mask": lambda trees: pack(trees, one_by_one=False),
    "padded blocks": lambda trees: replace(pack(trees, one_by_one=False), dense=False),
}
each_layout = pytest.mark.parametrize("lay", LAYOUTS.values(), ids=LAYOUTS)
Layout = Callable[[Sequence[Tree]], PackedTrees]


def make(name: str, attention: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        copy.deepcopy(CONFIGS[name]), attn_implementation=attention
    ).eval()


@pytest.fixture(scope="module", params=list(CONFIGS))
def twins(request: pytest.FixtureRequest) -> tuple[PreTrainedModel, PreTrainedModel]:
    """The same weights twice: with the attention of trees, and with transformers' plain ("eager") one."""
    return make(request.param, ATTENTION), make(request.param, "eager")


def fed_to_unembedding(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """What the model's own run of one sequence hands to its unembedding, shape (length, d)."""
    seen: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(input_ids=torch.tensor([list(ids)]), use_cache=False)
    hook.remove()
    return seen[0][0]


def one_by_one(model: PreTrainedModel, trees: Sequence[Tree]) -> list[Tensor]:
    """Hidden states of every branch, each run behind its prompt by itself."""
    return [
        fed_to_unembedding(model, [*prompt, *tail])[len(prompt) :]
        for prompt, tails in trees
        for tail in tails
    ]


def branches(hidden: Tensor, packed: PackedTrees) -> list[Tensor]:
    return [
        hidden[slots[:length]]
        for slots, length in zip(packed.branch_slots, packed.branch_lengths.tolist(), strict=True)
    ]


def assert_same(model: PreTrainedModel, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> None:
    """Hidden states of the model, but for rounding."""
    assert len(ours) == len(theirs)
    share = rounding.of_states(model, length=16)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=share * float(other.abs().max()))


# Hidden states ------------------------------------------------------------------------------------


@each_layout
@torch.no_grad()
def test_hidden_states_are_what_each_sequence_alone_hands_to_the_unembedding(
    twins: tuple[PreTrainedModel, PreTrainedModel], lay: Layout
) -> None:
    ours, plain = twins
    packed = lay(TREES)
    assert_same(plain, branches(last_hidden_states(ours, packed), packed), one_by_one(plain, TREES))


@each_layout
@torch.no_grad()
def test_prompt_states_are_those_of_the_prompt_alone(
    twins: tuple[PreTrainedModel, PreTrainedModel], lay: Layout
) -> None:
    ours, plain = twins
    packed = lay(TREES)
    hidden = last_hidden_states(ours, packed)
    for (prompt, _), slots, length in zip(
        TREES[:2], packed.prompt_slots, packed.prompt_lengths.tolist(), strict=False
    ):
        assert_same(plain, [hidden[slots[:length]]], [fed_to_unembedding(plain, prompt)])


@torch.no_grad()
def test_sliding_window_matters_here() -> None:
    for name in ("gemma3", "mistral"):
        wide = copy.deepcopy(CONFIGS[name])
        wide.sliding_window = 64
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(wide, attn_implementation="eager").eval()
        ids = list(range(5, 18))
        apart = fed_to_unembedding(model, ids)[-1] - fed_to_unembedding(make(name, "eager"), ids)[-1]
        assert apart.abs().max() > 1e-2


@torch.no_grad()
def test_order_and_company_of_trees_do_not_matter(twins: tuple[PreTrainedModel, PreTrainedModel]) -> None:
    ours, _ = twins
    together = pack(TREES)
    all_states = branches(last_hidden_states(ours, together), together)
    alone = []
    for tree in TREES:
        packed = pack([tree])
        alone.extend(branches(last_hidden_states(ours, packed), packed))
    assert_same(ours, all_states, alone)
    turned = pack([(prompt, tails[::-1]) for prompt, tails in TREES[::-1]])
    assert_same(ours, branches(last_hidden_states(ours, turned), turned)[::-1], all_states)


IDS = st.integers(0, 60)
RANDOM_TREES = st.lists(
    st.tuples(
        st.lists(IDS, max_size=9), st.lists(st.lists(IDS, min_size=1, max_size=7), min_size=1, max_size=3)
    ),
    min_size=1,
    max_size=4,
)
RANDOM_TWINS = {name: (make(name, ATTENTION), make(name, "eager")) for name in ("llama", "mistral")}


@each_layout
@pytest.mark.parametrize("name", list(RANDOM_TWINS))
@given(trees=RANDOM_TREES)
@settings(max_examples=40)
@torch.no_grad()
def test_any_trees_give_the_states_of_their_sequences(name: str, lay: Layout, trees: list[Tree]) -> None:
    ours, plain = RANDOM_TWINS[name]
    packed = lay(trees)
    assert_same(plain, branches(last_hidden_states(ours, packed), packed), one_by_one(plain, trees))


# Gradients ----------------------------------------------------------------------------------------


@each_layout
def test_gradients_through_trees_are_those_of_the_sequences_one_by_one(
    twins: tuple[PreTrainedModel, PreTrainedModel], lay: Layout
) -> None:
    ours, plain = twins
    packed = lay(TREES)
    last = last_hidden_states(ours, packed)[packed.last_of_branch()]
    torch.manual_seed(1)
    directions = torch.randn_like(last)
    (last * directions).sum().backward()
    for states, direction in zip(one_by_one(plain, TREES), directions, strict=True):
        (states[-1] @ direction).backward()
    gradients = {name: weight.grad for name, weight in ours.named_parameters()}
    largest = max(float(weight.grad.abs().max()) for weight in plain.parameters() if weight.grad is not None)
    moved = 0
    for name, weight in plain.named_parameters():
        if weight.grad is None or name == "lm_head.weight":
            continue
        moved += bool(weight.grad.abs().max() > 1e-3 * largest)
        allowed = largest * rounding.of_gradients(plain, length=16)
        torch.testing.assert_close(gradients[name], weight.grad, rtol=0, atol=allowed)
    assert moved > 10
    for model in twins:
        model.zero_grad(set_to_none=True)


@each_layout
def test_backward_scatters_without_sorting(lay: Layout) -> None:
    """An `index_put_` that accumulates sorts its indices on a GPU, once a layer and tensor."""
    model, packed = make("llama", ATTENTION), lay(TREES)
    with torch.profiler.profile() as profile:
        hidden = last_hidden_states(model, packed)
        hidden.index_select(0, packed.last_of_branch()).sum().backward()
    ran = {event.key for event in profile.key_averages()}
    assert "aten::mm" in ran and not {name for name in ran if "index_put" in name or "sort" in name}


def test_a_row_under_a_mask_is_one_call_of_attention_a_layer() -> None:
    model = make("mistral", ATTENTION)
    for packed, calls in ((pack(TREES, one_by_one=False), 1), (pack(TREES), 2 * 2 + 1)):
        with torch.profiler.profile() as profile, torch.no_grad():
            last_hidden_states(model, packed)
        (counted,) = [
            event.count
            for event in profile.key_averages()
            if event.key == "aten::scaled_dot_product_attention"
        ]
        assert counted == calls * model.config.num_hidden_layers


@each_layout
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_attention_is_what_flex_attention_makes_of_a_block_mask(lay: Layout, window: int | None) -> None:
    """Its forward, which torch has on a CPU as well; who sees whom is read off the sequences."""
    flex = pytest.importorskip("torch.nn.attention.flex_attention", reason="torch has no FlexAttention")
    packed = lay(TREES)
    length = len(packed.input_ids)
    seen, start = torch.zeros(length, length, dtype=torch.bool), 0
    for prompt, tails in TREES:
        own = list(range(start, start + len(prompt)))
        start += len(prompt)
        for tail in tails:
            sequence = own + list(range(start, start + len(tail)))
            start += len(tail)
            for place, token in enumerate(sequence):
                seen[token, sequence[max(0, place + 1 - (window or place + 1)) : place + 1]] = True
    torch.manual_seed(3)
    query, key, value = (torch.randn(1, heads, length, 8) for heads in (4, 2, 2))
    mask = flex.create_block_mask(
        lambda _, __, row, column: seen[row, column], None, None, length, length, device="cpu"
    )
    theirs = flex.flex_attention(query, key, value, block_mask=mask, enable_gqa=True)
    with packing._attending((packed.parts or (packed,), {})):
        ours, _ = packing._tree_attention(torch.nn.Identity(), query, key, value, None, sliding_window=window)
    scores = (query @ key.repeat_interleave(2, dim=1).mT / 8**0.5).abs().max()
    # A score is a sum of 8, the softmax one of all tokens, and so is the mean of the values.
    allowed = rounding.rounding(float(scores * value.abs().max()), 8 + 2 * length)
    torch.testing.assert_close(ours.transpose(1, 2), theirs, rtol=0, atol=allowed)


# Layout -------------------------------------------------------------------------------------------


def test_row_holds_each_prompt_once_before_its_branches_with_the_positions_of_each_sequence() -> None:
    packed = pack([([1, 2], [[3], [4, 5]]), ([], [[6, 7]])])
    assert packed.input_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert packed.position_ids.tolist() == [0, 1, 2, 2, 3, 0, 1]
    assert packed.last_of_branch().tolist() == [2, 4, 6]
    assert packed.branch_tree.tolist() == [0, 0, 1]
    assert packed.prompt_lengths.tolist() == [2, 0]


def test_parts_are_the_trees_one_by_one_in_the_order_of_the_row() -> None:
    packed = pack(TREES)
    assert len(packed.parts) == len(TREES) and pack(TREES[:1]).parts == ()
    assert torch.cat([part.input_ids for part in packed.parts]).tolist() == packed.input_ids.tolist()
    for part, tree in zip(packed.parts, TREES, strict=True):
        assert part.input_ids.tolist() == pack([tree]).input_ids.tolist() and part.parts == ()


def test_all_at_once_a_short_row_is_under_a_mask_and_a_long_one_in_blocks() -> None:
    short, long = (
        [([5], [[6] * 7])] * (packing.ROW_TOKENS // 8),
        [([5], [[6] * 8])] * (packing.ROW_TOKENS // 8),
    )
    assert pack(short, one_by_one=False).dense and not pack(long, one_by_one=False).dense
    assert not pack(short).dense and pack(short, one_by_one=False).parts == ()


@torch.no_grad()
def test_narrow_trees_under_a_mask_and_in_padded_blocks_give_the_same(
    twins: tuple[PreTrainedModel, PreTrainedModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = pack(TREES)
    assert (
        all(part.narrow for part in packed.parts)
        and not pack([([5], [[6]] * (packing.FEW_BRANCHES + 1))]).narrow
    )
    masked = last_hidden_states(twins[0], packed)
    monkeypatch.setattr(packing, "FEW_BRANCHES", 0)
    assert not any(part.narrow for part in packed.parts)
    assert_same(twins[0], [last_hidden_states(twins[0], packed)], [masked])


SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=5)


@given(SEQUENCES)
def test_shared_prefix_is_the_longest_that_leaves_each_a_token(sequences: list[list[int]]) -> None:
    lengths = range(min(map(len, sequences)))
    assert shared_prefix(sequences) == max(
        n for n in lengths if all(ids[:n] == sequences[0][:n] for ids in sequences)
    )


@given(SEQUENCES)
def test_packed_sequences_keep_their_order_and_content(sequences: list[list[int]]) -> None:
    packed = pack_sequences(sequences)
    prompt = packed.input_ids[packed.prompt_slots[0, : packed.prompt_lengths[0]]].tolist()
    tails = [
        packed.input_ids[slots[:length]].tolist()
        for slots, length in zip(packed.branch_slots, packed.branch_lengths, strict=True)
    ]
    assert [prompt + tail for tail in tails] == sequences


# Without trees, and where trees would be wrong ----------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", list(CONFIGS))
def test_without_trees_the_attention_is_sdpa(name: str) -> None:
    ours, sdpa = make(name, ATTENTION), make(name, "sdpa")
    torch.manual_seed(2)
    ids = torch.randint(3, 61, (3, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    mask[2, :4] = 0
    got = ours(ids, attention_mask=mask).logits
    assert torch.equal(got, sdpa(ids, attention_mask=mask).logits)
    assert torch.equal(ours(ids).logits, sdpa(ids).logits)
    options = {"max_new_tokens": 6, "do_sample": False, "attention_mask": mask, "pad_token_id": 0}
    assert torch.equal(ours.generate(ids, **options), sdpa.generate(ids, **options))


@torch.no_grad()
def test_trees_are_forgotten_after_use_even_after_an_error() -> None:
    ours, plain = make("llama", ATTENTION), make("llama", "eager")
    ids = torch.tensor([[5, 6, 7]])
    last_hidden_states(ours, pack(TREES))
    broken = pack(TREES)
    broken.input_ids[0] = 999
    with pytest.raises(PrefdynError, match="no row for a token"):
        last_hidden_states(ours, broken)
    torch.testing.assert_close(
        ours(ids).logits, plain(ids).logits, rtol=0, atol=rounding.of_log_probs(plain, length=16)
    )


def test_model_with_another_attention_is_refused() -> None:
    with pytest.raises(PrefdynError, match=r"runs 'eager' attention: load it with prefdyn\.models\.load"):
        last_hidden_states(make("llama", "eager"), pack(TREES))


def test_model_that_caps_its_attention_scores_is_refused_with_and_without_trees() -> None:
    config = Gemma2Config(**ORDINARY, query_pre_attn_scalar=8, attn_logit_softcapping=2.0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=ATTENTION).eval()
    for run in (lambda: last_hidden_states(model, pack(TREES)), lambda: model(torch.tensor([[5, 6, 7]]))):
        with pytest.raises(PrefdynError, match="caps its attention scores"):
            run()
