# SPDX-License-Identifier: Apache-2.0
"""Scores that share work are the scores of every row by itself: for any rows, architecture and precision."""

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines.contract import LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import (  # noqa: E402
    BACKEND,
    encoder_scoring,
    token_tree,
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


CASES = {"tries": tries, "prefixed": prefixed}


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


def test_packs_end_between_items():
    """Items of 30 tokens, 20 of them context: a pack of 115 holds three whole ones, not three and a row of the next."""
    rows = []
    for item in range(2, 10):
        context = (item,) * 20
        rows += [Row(context, (20, *range(5))), Row(context, (21, *range(5)))]
    (group,) = token_tree.plan(rows, 115)
    assert [len(pack.tokens) for pack in group.packs] == [90, 90, 60]


# The scores.


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
    made, rows = engine(folders(kind), "fp32"), rows_of("prefixed")
    monkeypatch.setattr(tree_scoring, "PACK_TOKENS", {"cpu": 24})
    behind = next(group for group in token_tree.plan(rows, 24) if group.prefix)
    assert len(behind.packs) > 3
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
    _, best = tree_scoring._log_probs(logits, places, torch.tensor([0, 1, 2]))
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
