# SPDX-License-Identifier: Apache-2.0
"""Every architecture family of the catalogue at every precision: loaded, built from nothing, generated and scored."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402
from builders import make_cell  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines.contract import LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.instruments import Reading, machine  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.scoring.lm import EngineLM, Frame, evaluate  # noqa: E402
from bench.suite import Loading, SuiteRun  # noqa: E402
from suites import divergence, memory, probe, quality, throughput  # noqa: E402

SCHEMES = ("fp32", "bf16", "bnb-int8", "bnb-nf4")
OBJECTIVES = {"t5": Objective.SEQ2SEQ, "flan-t5": Objective.SEQ2SEQ, "bert": Objective.MASKED}
TEXT = "The lazy dog jumps over 42 quick foxes."


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints, made on first use."""
    base, made = tmp_path_factory.mktemp("families"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = tiny.checkpoint(base, kind)
        return made[kind]

    return folder


def entry(kind, **changes):
    """The catalogue entry of a tiny model."""
    facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "kind": "open weights"}
    own = {"repo": "local/tiny", "architecture": tiny.config(kind), "objective": OBJECTIVES.get(kind, "causal")}
    return Model(**facts | own | changes)


def asked(kind, scheme, folder=None):
    """A request for a local folder, or for random weights."""
    return LoadRequest(
        model=entry(kind),
        weights=Weights.LOCAL if folder else Weights.RANDOM,
        scheme=BACKEND.scheme(scheme),
        device="cpu",
        path=str(folder) if folder else None,
    )


@pytest.mark.parametrize("kind", ["llama", "openai-gpt", "t5", "bert"])
def test_a_model_with_a_broken_weight_says_that_its_logits_are_no_numbers(folders, kind):
    """After prefill and after a step; the same model in order says that they are."""
    for value, sound in ((0.0, True), (float("nan"), False)):
        engine = BACKEND.load(asked(kind, "fp32", folders(kind)))
        with torch.no_grad():
            engine.model.get_output_embeddings().weight[7, 3] = value
        generation = engine.prefill([engine.encode(TEXT)] * 2)
        if OBJECTIVES.get(kind) is not Objective.MASKED:
            generation.step()
        assert generation.finite is sound
        generation.close()


@pytest.mark.parametrize(
    ("kind", "scheme"),
    [*product(tiny.FAMILIES, SCHEMES), ("t5", "fp16"), ("flan-t5", "fp16")],  # T5 keeps fp32 weights in fp16 alone
)
def test_a_family_loads_proves_its_bytes_generates_and_scores(folders, kind, scheme):
    """From a checkpoint and from random values alike: the predicted bytes, finite scores, tokens of the vocabulary."""
    stored = BACKEND.adapt(BACKEND.scheme(scheme), machine.describe("cpu"))
    censuses = []
    for folder in (folders(kind), None):
        engine = BACKEND.load(asked(kind, scheme, folder))
        census = engine.census()
        censuses.append(census)
        assert census.total_bytes == predict.weights_bytes(tiny.config(kind), stored)
        assert census.contradiction(stored) is None
        prompt = engine.encode(TEXT)
        generation = engine.prefill([prompt, prompt])
        if OBJECTIVES.get(kind) is Objective.MASKED:
            with pytest.raises(Unsupported, match="do not generate"):
                generation.step()
        else:
            steps = [generation.step() for _ in range(3)]
            assert all(first == second and 0 <= first < tiny.VOCABULARY for first, second in steps)
        generation.close()
        log_probs = engine.log_probs(prompt)
        assert np.exp(log_probs).sum(-1) == pytest.approx(1.0, abs=1e-4)
        for score in engine.score([Row(tuple(prompt[:4]), tuple(prompt[4:9])), Row((prompt[0],), (prompt[1],))]):
            assert all(np.isfinite(value) and value <= 0 for value in score.log_probs)
    loaded, built = (replace(census, grid_share=None) for census in censuses)
    assert built == loaded


def test_random_weights_share_no_memory_and_are_sane(folders):
    """Equal shapes are quantized once, yet every layer has its own bytes; deviations are about 0.02."""
    engine = BACKEND.load(asked("llama", "bnb-nf4"))
    packed = [m.weight for m in engine.model.modules() if type(m).__name__ == "Linear4bit"]
    assert len({weight.data_ptr() for weight in packed}) == len(packed) == 14
    assert len({weight.quant_state.absmax.data_ptr() for weight in packed}) == 14
    plain = BACKEND.load(asked("llama", "fp32"))
    assert float(plain.model.model.embed_tokens.weight.detach().std()) == pytest.approx(0.02, rel=0.02)
    assert plain.provenance.random
    assert [caveat.kind for caveat in plain.caveats] == ["random_weights"]
    assert plain.encode("é") == [0xC3, 0xA9]


def test_a_model_without_a_cache_generates_what_its_plain_forward_passes_give(folders):
    """GPT-1 reads the whole text for each token; it holds no cache and says so with zeros."""
    engine = BACKEND.load(asked("openai-gpt", "fp32", folders("openai-gpt")))
    tokens = engine.encode(TEXT)
    generation = engine.prefill([tokens])
    for _ in range(4):
        wanted = int(engine.model(torch.tensor([tokens])).logits[0, -1].argmax())
        assert generation.step() == [wanted]
        tokens.append(wanted)
    assert (generation.cache_bytes, generation.cache_tokens) == (0, 0)


def test_t5_generates_what_transformers_generates_and_counts_both_caches(folders):
    """Greedy tokens as `generate` gives them; encoder and decoder positions take the predicted bytes."""
    engine = BACKEND.load(asked("flan-t5", "fp32", folders("flan-t5")))
    prompt = engine.encode(TEXT)
    wanted = engine.model.generate(
        torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=None, suppress_tokens=[1]
    )
    generation = engine.prefill([prompt], suppress={1})
    assert [generation.step()[0] for _ in range(6)] == wanted[0, 1:].tolist()
    held = len(prompt) + 6
    assert generation.cache_tokens == held
    scheme = BACKEND.scheme("fp32")
    assert generation.cache_bytes == predict.cache_bytes(tiny.config("flan-t5"), scheme, held)


def test_t5_is_scored_as_lm_eval_scores_it(folders):
    """The context goes to the encoder, the target is scored from its first token: lm-eval's own figures."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    folder = folders("t5")
    theirs = HFLM(pretrained=str(folder), backend="seq2seq", dtype="float32", device="cpu", batch_size=4)
    engine = BACKEND.load(asked("t5", "fp32", folder))
    ours = EngineLM(engine, 256, lambda done, total: None, Frame(Objective.SEQ2SEQ))
    pairs = [("The quick brown", " fox jumps"), ("over the lazy dog. ", "01234"), ("fox", " over")]
    requests = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=0) for pair in pairs]
    wanted = theirs.loglikelihood(requests, disable_tqdm=True)
    for (total, greedy), (their_total, their_greedy) in zip(ours.loglikelihood(requests), wanted, strict=True):
        assert total == pytest.approx(float(their_total), abs=1e-4)
        assert greedy == their_greedy


def test_a_masked_model_s_score_blanks_one_token_at_a_time(folders):
    """Each log-probability is that of a plain forward pass with that token alone blanked."""
    engine = BACKEND.load(asked("bert", "fp32", folders("bert")))
    tokens = engine.encode(TEXT)
    (score,) = engine.score([Row(tuple(tokens[:5]), tuple(tokens[5:9]))])
    for offset, log_prob in enumerate(score.log_probs):
        framed = [0, *tokens[:9], 1]
        framed[6 + offset] = 2
        logits = engine.model(torch.tensor([framed])).logits[0, 6 + offset]
        assert log_prob == pytest.approx(float(torch.log_softmax(logits, -1)[tokens[5 + offset]]), abs=1e-4)
    assert engine.context_length == 254


def test_a_masked_model_s_distributions_blank_every_eighth_token(folders):
    """Row i predicts tokens[i + 1], blanked together with its eighth neighbours."""
    engine = BACKEND.load(asked("bert", "fp32", folders("bert")))
    tokens = engine.encode(TEXT + TEXT)[:20]
    found = engine.log_probs(tokens)
    assert found.shape == (19, tiny.VOCABULARY)
    framed = [0, *tokens, 1]
    for place in (5, 13):  # tokens[4] and tokens[12] share a pass with nothing else
        framed[place] = 2
    logits = engine.model(torch.tensor([framed])).logits[0]
    assert found[3] == pytest.approx(torch.log_softmax(logits[5], -1).detach().numpy(), abs=1e-4)


def run_of(engine, suite, objective, tmp_path, **settings):
    """One cell of a tiny engine, to be answered by a real suite."""
    cell = make_cell(suite)
    cell = cell.model_copy(update={"settings": {**cell.settings, **settings, "objective": objective}})
    zero = Reading(total_bytes=0)
    loading = Loading(seconds=1.0, baseline=zero, peak=zero, ready=zero, loaded=zero)
    return SuiteRun(
        cell=cell, engine=engine, instruments=BACKEND.instruments("cpu"), loading=loading, cache=tmp_path,
        reference=tmp_path / "reference", is_reference=True,
    )  # fmt: skip


def test_every_suite_answers_for_a_masked_model(folders, tmp_path):
    """Forward passes for memory and prefill, blanked tokens for divergence, pseudo-log-likelihoods for quality."""
    engine = BACKEND.load(asked("bert", "bf16", folders("bert")))
    tokens = {"prompt_tokens": 500, "decode_tokens": 8}
    run = run_of(engine, "memory", "masked", tmp_path, **tokens)
    found = {m.name: m for m in memory.measure(run)}
    assert (found["kv_bytes"].values, found["kv_bytes"].labels["tokens"]) == ((0.0,), 0)
    assert [caveat.text for caveat in run.caveats] == ["the model has 254 positions: the prompt is 254 tokens, not 500"]
    times = {"batch": 1, "repeats": 2, "repeats_max": 2, "warmup_min": 1, "warmup_max": 1, "points": [[4, 128]]}
    times |= {"point_decode_tokens": 8, "point_repeats": 1, "point_repeats_max": 1}
    run = run_of(engine, "throughput", "masked", tmp_path, **tokens, **times)
    found = {m.name: m for m in throughput.measure(run)}
    assert {name for name in found if not name.endswith("_j")} == {"prefill_s", "warmup_prefill_s"}
    assert (len(found["prefill_s"].values), found["prefill_s"].labels["prompt_tokens"]) == (2, 254)
    run = run_of(engine, "divergence", "masked", tmp_path, windows=2, window_tokens=32)
    assert [len(m.values) for m in divergence.measure(run)] == [2, 2]
    run = run_of(engine, "quality", "masked", tmp_path, tasks=["bench_facts_en"], items=2, max_length=2048)
    assert {m.name for m in quality.measure(run)} >= {"acc"}


def test_every_suite_answers_for_a_sequence_to_sequence_model(folders, tmp_path):
    """It generates, its reference is the second half of each window, and it compares with itself at no distance."""
    engine = BACKEND.load(asked("flan-t5", "fp32", folders("flan-t5")))
    run = run_of(engine, "memory", "seq2seq", tmp_path, prompt_tokens=40, decode_tokens=4)
    found = {m.name: m for m in memory.measure(run)}
    assert found["kv_bytes"].labels["tokens"] == 44
    times = {"batch": 1, "repeats": 2, "repeats_max": 2, "warmup_min": 1, "warmup_max": 1, "points": []}
    run = run_of(engine, "throughput", "seq2seq", tmp_path, prompt_tokens=40, decode_tokens=4, **times)
    names = {m.name for m in throughput.measure(run)}
    assert "itl_s" in names and not names & {"read_bytes_per_step", "operations_per_token"}
    run = run_of(engine, "divergence", "seq2seq", tmp_path, windows=2, window_tokens=33)
    written = divergence.measure(run)
    assert written[0].labels["window_tokens"] == 16
    found = {m.name: m for m in divergence.measure(replace(run, is_reference=False))}
    assert len(found["kld_nat"].values) == 32
    assert max(found["kld_nat"].values) < 1e-4
    run = run_of(engine, "quality", "seq2seq", tmp_path, tasks=["bench_facts_en"], items=2, max_length=2048)
    assert {m.name for m in quality.measure(run)} >= {"acc"}


@pytest.mark.parametrize(
    ("kind", "output_type", "reason"),
    [
        ("bert", "generate_until", "masked models fill blanks, they do not generate"),
        ("bert", "loglikelihood_rolling", "pseudo-log-likelihoods make no perplexity"),
        ("t5", "loglikelihood_rolling", "an encoder reads the text that rolling perplexity would predict"),
    ],
)
def test_tasks_that_mean_nothing_for_an_objective_are_left_out_with_the_reason(
    folders, monkeypatch, kind, output_type, reason
):
    """A task of another kind is left out; alone, it is the reason why the cell is unsupported."""
    from bench.scoring import tasks

    offline = tasks.offline_tasks()
    other = {**offline["bench_facts_en"], "task": "other", "output_type": output_type}
    other = {key: value for key, value in other.items() if key not in {"doc_to_choice", "metric_list"}}
    monkeypatch.setattr(tasks, "offline_tasks", lambda: {**offline, "other": other})
    engine = BACKEND.load(asked(kind, "fp32", folders(kind)))
    frame = Frame(OBJECTIVES[kind])
    with pytest.raises(Unsupported, match=reason):
        evaluate(engine, tasks=["other"], items=1, max_length=128, frame=frame)
    heard = []
    results = evaluate(
        engine, tasks=["other", "bench_facts_en"], items=1, max_length=128, frame=frame,
        left_out=lambda task, why: heard.append((task, why)),
    )  # fmt: skip
    assert [result.task for result in results] == ["bench_facts_en"]
    assert heard == [("other", reason)]


def test_a_short_context_shortens_the_prompt_of_a_model_that_generates(folders, tmp_path):
    """256 positions hold a prompt of 248 and eight tokens, and the record says so."""
    engine = BACKEND.load(asked("openai-gpt", "fp32", folders("openai-gpt")))
    run = run_of(engine, "memory", "causal", tmp_path, prompt_tokens=512, decode_tokens=8)
    memory.measure(run)
    assert [caveat.kind for caveat in run.caveats] == ["short_prompt"]
    assert len(probe.prompt(engine.encode, probe.room(run, 8))) == 248
