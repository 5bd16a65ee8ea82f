# SPDX-License-Identifier: Apache-2.0
"""Scores that share work are the scores of every row by itself: for any rows, architecture and precision."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines import token_tree  # noqa: E402
from bench.engines.contract import LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import (  # noqa: E402
    BACKEND,
    encoder_scoring,
    four_bit,
    likelihood,
    tree_attention,
    tree_scoring,
)
from bench.records.cell import Weights  # noqa: E402

FEW = tuple(range(2, 122))
"""A beginning that many rows share, long enough for a cache of its own."""


def words(rng, length):
    """Random tokens."""
    return tuple(rng.randrange(2, tiny.VOCABULARY) for _ in range(length))


def tries(rng):
    """Items whose continuations share a context, minimal pairs, duplicates and rows that contain each other."""
    rows = []
    for _ in range(8):
        context, stem = words(rng, rng.randrange(1, 20)), words(rng, 4)
        rows += [Row(context, stem[: rng.randrange(4)] + words(rng, rng.randrange(1, 9))) for _ in range(4)]
        rows += [Row(context + stem, words(rng, 1)), Row(context, stem), Row(context, stem)]
    rows += [Row(words(rng, 1), words(rng, 1)), Row(words(rng, 1), words(rng, 60))]
    return rng.sample(rows, len(rows))


def prefixed(rng):
    """Rows behind one long beginning, and some whose scored part lies within it."""
    rows = []
    for _ in range(6):
        question = words(rng, rng.randrange(1, 9))
        rows += [Row(FEW + question, words(rng, rng.randrange(1, 6))) for _ in range(4)]
    rows += [Row(FEW[:5], FEW[5:]), Row(FEW[:80], FEW[80:] + words(rng, 3)), Row(FEW, words(rng, 1))]
    rows += [Row(FEW, words(rng, 2)), Row(FEW, words(rng, 2)), Row(words(rng, 150), words(rng, 50))]
    return rng.sample(rows, len(rows))


def passages(rng):
    """Questions about long passages behind one longer beginning, a pair that shares one, and a row scored within it."""
    rows = []
    for _ in range(3):
        passage = FEW + words(rng, 80)
        rows += [Row(passage + words(rng, rng.randrange(1, 6)), words(rng, 3)) for _ in range(4)]
    stem = words(rng, 90)
    rows += [Row(stem, words(rng, 40)), Row(stem, words(rng, 40)), Row(FEW[:20], FEW[20:] + words(rng, 70))]
    return rng.sample(rows, len(rows))


CASES = {"tries": tries, "prefixed": prefixed, "passages": passages}


def rows_of(case, seed=0):
    """The rows of a case."""
    return CASES[case](random.Random(seed))


def sequence(row):
    """What the model reads."""
    return row.context + row.continuation[:-1]


# The plan.


@pytest.mark.parametrize("pack_tokens", [1, 16, 64, 512])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(5))
def test_every_row_reads_its_own_tokens_and_nothing_else(case, seed, pack_tokens):
    """What a row's last token sees, in order of depth, is that row's sequence, each token at its own position."""
    rows = rows_of(case, seed)
    found = []
    for group in token_tree.plan(rows, pack_tokens):
        for pack in group.packs:
            seen = pack.mask()
            for index, nodes in pack.rows:
                visible = np.flatnonzero(seen[nodes[-1]])
                assert tuple(pack.tokens[i] for i in visible) == sequence(rows[index])[len(group.prefix) :]
                assert [pack.depths[i] for i in visible] == list(range(len(group.prefix), len(sequence(rows[index]))))
                assert list(nodes) == list(visible[len(rows[index].context) - 1 - len(group.prefix) :])
                assert len(nodes) == len(rows[index].continuation)
                assert sequence(rows[index])[: len(group.prefix)] == group.prefix
                found.append(index)
            alone = len({sequence(rows[index]) for index, _ in pack.rows}) == 1
            assert len(pack.tokens) <= pack_tokens or alone
            assert pack.chain == bool((seen == np.tri(len(seen), dtype=bool)).all())
    assert sorted(found) == list(range(len(rows)))


def test_a_beginning_that_many_share_is_computed_once():
    """The few-shot rows form one group behind their common tokens; a row scored within those tokens stays outside."""
    rows = rows_of("prefixed")
    within = {index for index, row in enumerate(rows) if len(row.context) <= token_tree.PREFIX_TOKENS}
    groups = token_tree.plan(rows, 512)
    behind = next(group for group in groups if group.prefix)
    assert len(behind.prefix) == 79  # one token before the shortest context of the group, (FEW[:80], ...), ends
    inside = {index for pack in behind.packs for index, _ in pack.rows}
    assert len(inside) == 28 and not inside & within
    computed = sum(len(group.prefix) + sum(len(p.tokens) for p in group.packs) for group in groups)
    assert (computed, sum(len(sequence(row)) for row in rows)) == (525, 3870)


def computed(rows, pack_tokens):
    """Tokens that a plan reads: packs, and of each prefix what it does not share with the one before."""
    groups = token_tree.plan(rows, pack_tokens)
    before = [(), *(group.prefix for group in groups)]
    new = [len(group.prefix) - token_tree.shared(held, group.prefix) for held, group in zip(before, groups)]  # noqa: B905
    return sum(new) + sum(len(pack.tokens) for group in groups for pack in group.packs)


def test_a_passage_that_no_pack_holds_is_read_once_and_so_is_what_stands_before_all_passages():
    """Four questions about each of three passages behind 120 tokens: each passage of 80 once, the 120 once."""
    rng = random.Random(0)
    rows = [
        Row((*passage, question), words(rng, 3))
        for passage in [FEW + (own,) * 80 for own in (2, 3, 4)]
        for question in (5, 6, 7, 8)
    ]
    assert [len(group.prefix) for group in token_tree.plan(rows, 64)] == [200, 200, 200]
    assert computed(rows, 64) == 120 + 3 * (80 + 4 * 3)
    assert [len(group.prefix) for group in token_tree.plan(rows, 512)] == [120]
    assert computed(rows, 512) == computed(rows, 64)


def test_a_pair_longer_than_a_pack_shares_what_it_begins_with():
    """Two sentences that end differently behind 600 tokens: 600 and two endings are read, not 600 twice."""
    stem = tuple(range(2, 92)) * 7
    rows = [Row(stem[:600], (1, 1, 1, 1)), Row(stem[:600], (2, 2, 2, 2))]
    (group,) = token_tree.plan(rows, 512)
    assert (len(group.prefix), computed(rows, 512)) == (599, 599 + 1 + 3 + 3)


def test_packs_end_between_items():
    """Items of 30 tokens, 20 of them context: a pack of 115 holds three whole ones, not three and a row of the next."""
    rows = []
    for item in range(2, 10):
        context = (item,) * 20
        rows += [Row(context, (20, *range(5))), Row(context, (21, *range(5)))]
    (group,) = token_tree.plan(rows, 115)
    assert [len(pack.tokens) for pack in group.packs] == [90, 90, 60]


# The scores.


def apart(items, tokens):
    """Rows of items that share their first token alone, with two endings each."""
    return [
        Row((1, item) + (item,) * (tokens - 5), (ending, 3, 3)) for item in range(2, 2 + items) for ending in (5, 6)
    ]


def test_a_pack_is_cut_where_its_items_part():
    """Three items of 40 tokens behind one shared token: each attends to itself and that token; endings stay inside."""
    (group,) = token_tree.plan(apart(3, 40), 512)
    found = tree_attention.cuts(group.packs[0], 0)
    assert [(start, end, list(before)) for start, end, before in found] == [(0, 41, []), (41, 81, [0]), (81, 121, [0])]


def test_small_items_and_items_behind_a_long_cache_stay_together():
    """Parts of fewer than 32 tokens, or than a quarter of what is cached, would cost more than they save."""
    (group,) = token_tree.plan(apart(4, 12), 512)
    assert [end for _, end, _ in tree_attention.cuts(group.packs[0], 0)] == [len(group.packs[0].tokens)]
    (group,) = token_tree.plan(apart(3, 40), 512)
    assert len(tree_attention.cuts(group.packs[0], 400)) == 1


@pytest.mark.parametrize("kind", ["llama", "gptj"])
def test_attention_multiplies_an_item_s_own_tokens_where_the_class_allows(folders, kind, monkeypatch):
    """GPT-J has its own attention and keeps the mask over the pack of 121 tokens; both give each row's own scores."""
    made, rows, seen = engine(folders(kind), "fp32"), apart(3, 40), []
    product = torch.nn.functional.scaled_dot_product_attention

    def noted(query, key, *given, **named):
        seen.append(key.shape[-2])
        return product(query, key, *given, **named)

    wanted = [exact(made.model, row) for row in rows]
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", noted)
    scores = made.score(rows)
    assert set(seen) == ({41} if kind == "llama" else set())
    for (log_probs, greedy), score in zip(wanted, scores, strict=True):
        assert score.log_probs == pytest.approx(log_probs, abs=1e-5)
        assert score.greedy == greedy


def test_fused_4_bit_layers_score_the_same_bits_without_their_casts(folders, monkeypatch):
    """NF4 on a CPU with AVX-512 BF16 (elsewhere there are no such layers): the float32 that is asked for is no more."""
    made, rows, types = engine(folders("llama"), "bnb-nf4"), rows_of("tries"), set()
    layer = made.model.model.layers[0].mlp.up_proj
    layer.register_forward_hook(lambda module, *_: types.add(module.compute_dtype))
    fused = bool(getattr(layer.weight.quant_state, "packing_format_for_cpu", False))
    assert len(four_bit.castable(made.model)) == 14 * fused
    scores = made.score(rows)
    assert types == {torch.bfloat16 if fused else torch.float32}
    assert layer.compute_dtype is torch.float32
    monkeypatch.setattr(four_bit, "castable", lambda _: [])
    assert made.score(rows) == scores


def test_a_model_attends_as_before_once_its_rows_are_scored(folders, monkeypatch):
    """Whatever happened meanwhile: generation and whole texts are read by transformers' own function."""
    made = engine(folders("llama"), "fp32")
    made.score(apart(3, 40))
    assert made.model.config._attn_implementation == "sdpa"
    monkeypatch.setattr(tree_scoring.TreeScorer, "_pack", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        made.score(apart(3, 40))
    assert made.model.config._attn_implementation == "sdpa"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints, made on first use."""
    base, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(kind):
        if kind not in made:
            wide = f"tree-{kind}"
            made[kind] = tiny.checkpoint(base, wide if wide in tiny.TREES else kind)
        return made[kind]

    return folder


def engine(folder, scheme, **changes):
    """A loaded tiny model."""
    model = Model(name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny")
    facts = {"model": model, "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu"}
    return BACKEND.load(LoadRequest(**(facts | {"path": str(folder)} | changes)))


def exact(model, row):
    """Log-probabilities and greediness of one row from one plain forward pass."""
    tokens = row.context + row.continuation
    with torch.inference_mode():
        logits = model(torch.tensor([tokens[:-1]]), use_cache=False).logits[0, len(row.context) - 1 :].float()
    wanted = torch.tensor(row.continuation)
    return torch.log_softmax(logits, -1)[range(len(wanted)), wanted].tolist(), bool((logits.argmax(-1) == wanted).all())


@pytest.mark.parametrize("kind", sorted(tree_scoring.TREES))
def test_every_architecture_in_the_list_scores_trees_as_it_scores_rows(folders, kind):
    """Float32: every log-probability of every row is that of a forward pass of its own, within 1e-5."""
    made = engine(folders(kind), "fp32")
    for case in CASES:
        rows = rows_of(case)
        for row, score in zip(rows, made.score(rows), strict=True):
            wanted, greedy = exact(made.model, row)
            assert score.log_probs == pytest.approx(wanted, abs=1e-5)
            assert score.greedy == greedy


@pytest.mark.parametrize("kind", sorted(tree_scoring.TREES))
def test_packs_that_share_a_cached_beginning_leave_it_as_they_found_it(folders, kind, monkeypatch):
    """Small packs, one after the other behind one cache: none sees the tokens of the one before."""
    made, rows = engine(folders(kind), "fp32"), [*rows_of("prefixed"), *rows_of("passages")]
    monkeypatch.setattr(tree_scoring, "PACK_TOKENS", {"cpu": 24})
    groups = token_tree.plan(rows, 24)
    assert max(len(group.packs) for group in groups if group.prefix) > 3
    assert {len(group.prefix) for group in groups} >= {79, 89, 200}
    for row, score in zip(rows, made.score(rows), strict=True):
        assert score.log_probs == pytest.approx(exact(made.model, row)[0], abs=1e-5)


def test_greedy_means_every_token_and_of_equals_the_first(folders):
    """A continuation that greedy decoding would leave at its first token and take again is not greedy."""
    made = engine(folders("llama"), "fp32")
    context = words(random.Random(0), 5)

    def likeliest(tokens):
        return int(made.log_probs([*tokens, 0])[-1].argmax())

    first = likeliest(context)
    wrong = first + 1
    rows = [Row(context, (first, likeliest((*context, first)))), Row(context, (wrong, likeliest((*context, wrong))))]
    assert [score.greedy for score in made.score(rows)] == [True, False]
    logits, places = torch.tensor([[0.5, 2.0, 2.0]]), torch.tensor([0, 0, 0])
    _, best = likelihood.log_probs(logits, places, torch.tensor([0, 1, 2]))
    assert best.tolist() == [False, True, False]


@pytest.mark.parametrize(("scheme", "tolerance"), [("bf16", 0.15), ("bnb-int8", 0.3), ("bnb-nf4", 0.15)])
@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3_text"])
def test_other_precisions_agree_within_their_own_rounding(folders, kind, scheme, tolerance):
    """Sharing moves a score no further than the precision's rounding moves it between batches."""
    made = engine(folders(kind), scheme)
    for case in CASES:
        rows = rows_of(case)
        moved = [
            abs(together - apart)
            for row, score in zip(rows, made.score(rows), strict=True)
            for together, apart in zip(score.log_probs, exact(made.model, row)[0], strict=True)
        ]
        assert max(moved) < tolerance and np.mean(moved) < tolerance / 10


@pytest.mark.parametrize("kind", sorted(tree_scoring.TREES))
def test_few_logits_at_a_time_change_nothing(folders, kind, monkeypatch):
    """Packs and long rows computed in stretches over their cache, so that a large vocabulary does not fill memory."""
    made = engine(folders(kind), "fp32")
    rows = [*rows_of("tries"), *rows_of("prefixed")]
    whole = made.score(rows)
    monkeypatch.setattr(tree_scoring, "LOGITS", 7 * tiny.VOCABULARY)
    for before, after in zip(whole, made.score(rows), strict=True):
        assert after.log_probs == pytest.approx(before.log_probs, abs=1e-5)


def test_a_long_row_of_a_plain_model_does_not_fill_memory_with_logits(folders, monkeypatch):
    """BLOOM's quarter of a million words: a row with more scored tokens than may be goes through its cache in parts."""
    made = engine(folders("bloom"), "fp32")
    rows = rows_of("prefixed")
    whole = made.score(rows)
    widest, head = [], made.model.lm_head
    head.register_forward_hook(lambda module, args, output: widest.append(output[..., 0].numel()))
    monkeypatch.setattr(tree_scoring, "LOGITS", 40 * tiny.VOCABULARY)
    for before, after in zip(whole, made.score(rows), strict=True):
        assert after.log_probs == pytest.approx(before.log_probs, abs=1e-5)
    assert max(widest) == 40


def test_rows_that_a_sliding_window_cuts_are_scored_by_the_models_own_masks(folders):
    """Beyond the window (160 tokens) a row stands alone; its early tokens are out of the last one's sight."""
    made = engine(folders("gemma3_text"), "fp32")
    row = Row(words(random.Random(0), 150), words(random.Random(1), 60))
    assert not tree_scoring.TreeScorer(made.forward, "cpu").takes(row)
    few = rows_of("prefixed")
    assert made.score([*few, row])[-1].log_probs == pytest.approx(exact(made.model, row)[0], abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "bloom", "gpt_neo"])
def test_plain_scoring_shares_nothing_and_agrees(folders, kind, monkeypatch):
    """The flag, and architectures outside the list: padded rows, no tree, the same scores."""
    rows = rows_of("prefixed")
    shared = engine(folders(kind), "fp32").score(rows)
    plain = engine(folders(kind), "fp32", plain_scoring=True)
    monkeypatch.setattr(token_tree, "plan", lambda *_: pytest.fail("a tree was planned"))
    for together, apart in zip(shared, plain.score(rows), strict=True):
        assert together.log_probs == pytest.approx(apart.log_probs, abs=2e-5)
        assert together.greedy == apart.greedy


def test_progress_counts_rows_and_ends_with_all_of_them(folders):
    """`done` hears a growing number, the last one that of the rows."""
    heard = []
    rows = rows_of("prefixed")
    engine(folders("llama"), "fp32").score(rows, heard.append)
    assert heard == sorted(heard) and heard[-1] == len(rows)


@pytest.mark.parametrize("plain", [False, True])
def test_a_row_longer_than_the_context_is_refused(folders, plain):
    """257 tokens do not fit a context of 256, shared or not."""
    made = engine(folders("llama"), "fp32", plain_scoring=plain)
    rows = [Row(words(random.Random(0), 200), words(random.Random(1), 57))]
    assert len(made.score(rows)[0].log_probs) == 57
    with pytest.raises(Unsupported, match="257 tokens are more than this model's context of 256"):
        made.score([Row(words(random.Random(0), 200), words(random.Random(1), 58))])


# Encoder-decoder models.


@pytest.mark.parametrize("tokens", [16, 10_000])
def test_an_encoder_decoder_model_reads_each_context_once(tokens):
    """T5 with relative positions: scores are those of each row by itself, and no batch encodes a context twice."""
    from transformers import AutoConfig, AutoModelForSeq2SeqLM

    torch.manual_seed(0)
    sizes = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 4}
    config = AutoConfig.for_model("t5", vocab_size=tiny.VOCABULARY, decoder_start_token_id=0, **sizes)
    model = AutoModelForSeq2SeqLM.from_config(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    rows, read = rows_of("tries"), []
    encoder = model.get_encoder()
    encoder.register_forward_pre_hook(lambda _, args, given: read.append(len(given["input_ids"])), with_kwargs=True)
    heard = []
    with torch.inference_mode():
        found = encoder_scoring.score_by_context(model, rows, start=0, fill=1, tokens=tokens, done=heard.append)
        times = sum(read)
        for row, score in zip(rows, found, strict=True):
            given = torch.tensor([[0, *row.continuation[:-1]]])
            logits = model(input_ids=torch.tensor([row.context]), decoder_input_ids=given).logits[0]
            wanted = torch.tensor(row.continuation)
            exactly = torch.log_softmax(logits, -1)[range(len(wanted)), wanted].tolist()
            assert score.log_probs == pytest.approx(exactly, abs=1e-5)
            assert score.greedy == bool((logits.argmax(-1) == wanted).all())
    assert heard == sorted(heard) and heard[-1] == len(rows)
    different = len({row.context for row in rows})
    assert times == different if tokens > 16 else different < times <= len(rows)


# Schemes that look at the whole pass.


@pytest.mark.parametrize("kind", ["llama", "bloom", "t5", "bert"])
def test_llm_int8_reads_one_sequence_a_pass_whatever_the_objective(folders, kind, monkeypatch):
    """Decoder, encoder-decoder and masked: no pass holds two sequences or filling, and company changes no bit."""
    objective = {"t5": Objective.SEQ2SEQ, "bert": Objective.MASKED}.get(kind, Objective.CAUSAL)
    model = Model(
        name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny",
        objective=objective,
    )  # fmt: skip
    made = engine(folders(kind), "bnb-int8", model=model)
    for module in made.model.modules():
        if hasattr(module, "state"):
            module.state.threshold = 0.5  # random weights are quiet: this makes outliers of many columns
    rows = rows_of("prefixed")[:12]
    given = []
    made.model.register_forward_pre_hook(lambda module, args, asked: given.append((args, asked)), with_kwargs=True)
    together = made.score(rows)
    read = [value for args, asked in given for value in (*args, *asked.values()) if isinstance(value, torch.Tensor)]
    assert read and all(len(value) == 1 for value in read if value.dim() == 2)
    masks = [asked["attention_mask"] for _, asked in given if asked.get("attention_mask") is not None]
    assert all(bool(mask.all()) for mask in masks)
    assert together == [made.score([row])[0] for row in rows]
    given.clear()
    made.log_probs(list(rows[0].context + rows[0].continuation))
    assert all(len(asked["input_ids"]) == 1 for _, asked in given if "input_ids" in asked)


def test_one_whole_sequence_a_pass_even_where_its_logits_come_in_parts(folders, monkeypatch):
    """A large vocabulary: the sequence is read again for each part of its logits, never cut in two."""
    made = engine(folders("llama"), "bnb-int8")
    rows = [*rows_of("tries"), *rows_of("prefixed")]
    whole = made.score(rows)
    lengths = []
    made.model.register_forward_pre_hook(lambda module, args, asked: lengths.append(args[0].shape[1]), with_kwargs=True)
    monkeypatch.setattr(tree_scoring, "LOGITS", 7 * tiny.VOCABULARY)
    parts = made.score(rows)
    assert set(lengths) == {len(sequence(row)) for row in rows}
    for before, after in zip(whole, parts, strict=True):
        assert after.log_probs == pytest.approx(before.log_probs, abs=0.02)  # the 16-bit head's rounding


def test_rows_of_the_same_tokens_share_their_pass(folders):
    """Choices of one token behind one question, and the same text cut elsewhere."""
    made = engine(folders("llama"), "bnb-int8")
    context = words(random.Random(0), 20)
    rows = [Row(context, (token,)) for token in (5, 6, 7)] + [Row(context[:9], (*context[9:], 8))]
    passes = []
    made.model.register_forward_pre_hook(lambda module, args: passes.append(args))
    heard = []
    scores = made.score(rows, heard.append)
    assert len(passes) == 1 and heard == [4]
    assert scores[3].log_probs[:-1] == made.score([Row(context[:9], context[9:])])[0].log_probs


@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "openai-gpt", "t5", "flan-t5"])
def test_token_by_token_is_one_pass_at_float32(folders, kind):
    """Behind a cache, behind a sliding one, without one, and by a decoder: what generating reads, within 1e-4."""
    model = Model(
        name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny",
        objective=Objective.SEQ2SEQ if "t5" in kind else Objective.CAUSAL,
    )  # fmt: skip
    made = engine(folders(kind), "fp32", model=model)
    tokens = list(words(random.Random(0), 40))
    once, steps = made.log_probs(tokens), made.log_probs_stepwise(tokens)
    assert steps.shape == once.shape
    assert np.abs(steps - once).max() < 1e-4
