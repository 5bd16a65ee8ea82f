# SPDX-License-Identifier: Apache-2.0
"""Answers generated side by side are those of each prompt by itself, token for token, in float32."""

import random
from collections import defaultdict

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines import abilities  # noqa: E402
from bench.engines.abilities import Asked, GeneratesTogether  # noqa: E402
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND, columns, onednn, side_by_side  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

FEW = tuple(range(2, 92))
"""A beginning that many prompts share, long enough to be read apart."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Tiny checkpoints, made on first use."""
    base, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(kind):
        if kind not in made:
            made[kind] = tiny.checkpoint(base, kind)
        return made[kind]

    return folder


def engine(folder, scheme="fp32", objective=Objective.CAUSAL, **changes):
    """A loaded tiny model."""
    model = Model(
        name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny",
        objective=objective,
    )  # fmt: skip
    facts = {"model": model, "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu"}
    return BACKEND.load(LoadRequest(**(facts | {"path": str(folder)} | changes)))


def questions(count=12, seed=0, *, shared=()):
    """Prompts of 1 to 60 tokens with limits of 1 to 30, two of them the same."""
    rng = random.Random(seed)
    made = []
    for _ in range(count):
        prompt = tuple(rng.randrange(2, tiny.VOCABULARY) for _ in range(rng.randrange(1, 61)))
        made.append(Asked(shared + prompt, rng.randrange(1, 31)))
    return [*made, made[0]]


def together(model, asked):
    """Every answer's tokens, each up to its limit or an end token."""
    assert isinstance(model, GeneratesTogether) and model.generates_together > 1
    found = defaultdict(list)

    def take(index, token):
        found[index].append(token)
        return token not in model.end_tokens and token is not None and len(found[index]) < asked[index].limit

    model.generate(asked, take)
    return [found[index] for index in range(len(asked))]


def alone(model, asked):
    """The same by `prefill` and `step`, prompt after prompt."""
    answers = []
    for one in asked:
        generation, tokens = model.prefill([one.tokens]), []
        while len(tokens) < one.limit and not model.end_tokens & set(tokens[-1:]):
            tokens.append(generation.step()[0])
        generation.close()
        answers.append(tokens)
    return answers


FAMILIES = [
    "llama", "gpt2", "gptj", "gpt_neo", "gpt_neox", "bloom", "opt", "opt-350m", "mistral", "gemma3_text", "phi3",
    "olmo2", "qwen2", "qwen3", "smollm3",
]  # fmt: skip


@pytest.mark.parametrize("shared", [(), FEW], ids=["apart", "prefixed"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_answers_are_those_of_each_prompt_alone(folders, kind, shared, monkeypatch):
    """Windows of eight tokens, biases by distance, learned positions: rows come and go, three at a time."""
    monkeypatch.setitem(abilities.ROWS, "cpu", 3)
    monkeypatch.setattr(columns, "COLUMNS", 8)
    model = engine(folders(kind))
    asked = questions(shared=shared)
    wanted = alone(model, asked)
    assert len({tuple(answer) for answer in wanted}) > 6, "answers that are all the same would prove nothing"
    assert together(model, asked) == wanted


@pytest.mark.parametrize("kind", ["t5", "flan-t5"])
def test_an_encoder_decoder_answers_as_it_does_alone(folders, kind, monkeypatch):
    """Contexts of different lengths are encoded together, and ended answers leave."""
    monkeypatch.setitem(abilities.ROWS, "cpu", 5)
    model = engine(folders(kind), objective=Objective.SEQ2SEQ)
    asked = questions()
    assert together(model, asked) == alone(model, asked)


def test_a_common_beginning_is_read_once(folders, monkeypatch):
    """Of 13 prompts behind 90 shared tokens, those tokens are read once and the prompts' own ones in one pass."""
    model, lengths = engine(folders("llama")), []
    asked = [Asked((*FEW, 100 + index, 7), 1) for index in range(13)]
    model.generates_together  # noqa: B018 - its proof is not what is counted
    read = model.forward.__class__.__call__

    def counted(self, tokens, **options):
        lengths.append(tokens.shape[1])
        return read(self, tokens, **options)

    monkeypatch.setattr(model.forward.__class__, "__call__", counted)
    together(model, asked)
    assert lengths == [90, 2 * 13]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_batch_that_does_not_fit_is_halved_and_recorded(folders, kind, monkeypatch):
    """No answer is lost or begun anew; the next call does not try the large batch again."""
    objective = Objective.SEQ2SEQ if kind == "t5" else Objective.CAUSAL
    model = engine(folders(kind), objective=objective)
    asked = questions()
    wanted, plain = alone(model, asked), model.model.forward
    model.generates_together  # noqa: B018

    def little(*read, **options):
        tokens = read[0] if read else options["decoder_input_ids"]
        if tokens.shape[0] > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 999 bytes.")
        return plain(*read, **options)

    monkeypatch.setattr(model.model, "forward", little)
    assert together(model, asked) == wanted
    assert model.generates_together <= 4
    (caveat,) = [caveat for caveat in model.caveats if caveat.kind == "smaller_batches"]
    assert f"at most {model.generates_together} answers" in caveat.text
    monkeypatch.setattr(model.model, "forward", lambda *read, **options: little(torch.zeros(9, 1)))
    with pytest.raises(DoesNotFit):
        together(model, asked)


def test_a_row_that_turns_nan_leaves_the_others_alone(folders, monkeypatch):
    """Its index hears None at that token; its keys and values, NaN too, spoil no row that takes its place."""
    monkeypatch.setitem(abilities.ROWS, "cpu", 3)
    model = engine(folders("llama"))
    asked = [Asked((*one.tokens, 9), 20) for one in questions()]
    asked[4] = Asked((50, *[319] * 60), 20)
    with torch.no_grad():
        model.model.get_input_embeddings().weight[319] = float("nan")
    others = [one for index, one in enumerate(asked) if index != 4 and 319 not in one.tokens]
    wanted = alone(model, others)
    found = together(model, asked)
    assert found[4] == [None]
    kept = [found[index] for index, one in enumerate(asked) if index != 4 and 319 not in one.tokens]
    assert kept == [answer if 319 not in answer else found_ for answer, found_ in zip(wanted, kept, strict=True)]


def test_no_more_stand_side_by_side_than_memory_is_meant_for(folders, monkeypatch):
    """512 bytes a position of the tiny Llama: room for two answers of 40 positions, whatever their type would take."""
    for scheme in ("fp32", "bf16"):
        monkeypatch.setattr(side_by_side, "CACHE_BYTES", 2 * (40 + columns.COLUMNS) * 512)
        model, widths = engine(folders("llama"), scheme), []
        step = columns.Batch.step

        def counted(batch, read, step=step, widths=widths):
            widths.append(len(read))
            return step(batch, read)

        monkeypatch.setattr(columns.Batch, "step", counted)
        asked = [Asked((5, 6, 7 + index), 37) for index in range(5)]
        together(model, asked)
        assert max(widths) == 2


def test_a_prompt_longer_than_the_context_is_refused(folders):
    """Among short ones too: whoever asks cuts it first."""
    model = engine(folders("llama"))
    with pytest.raises(Unsupported, match="257 tokens are more than this model's context of 256"):
        together(model, [Asked((5,), 2), Asked((5,) * 257, 2)])


def test_one_at_a_time_where_it_must_be(folders):
    """Asked plainly, a class that carries nothing, and a scheme whose arithmetic looks at the whole pass."""
    assert engine(folders("llama"), plain_scoring=True).generates_together == 1
    assert engine(folders("t5"), objective=Objective.SEQ2SEQ, plain_scoring=True).generates_together == 1
    assert engine(folders("openai-gpt")).generates_together == 1
    assert engine(folders("llama"), "bnb-int8").generates_together == 1


def test_a_step_waits_once_for_the_device_and_sends_nothing(folders, monkeypatch):
    """Six answers of 20 tokens: prompts and rows that change are sent, each pass is fetched from."""
    model, sent, fetched, steps = engine(folders("llama")), [], [], []
    model.generates_together  # noqa: B018 - its proof is not what is counted
    send, fetch, step = columns.send, columns.fetch, columns.Batch.step
    monkeypatch.setattr(columns, "send", lambda values, device: sent.append(values) or send(values, device))
    monkeypatch.setattr(side_by_side, "send", lambda values, device: sent.append(values) or send(values, device))
    monkeypatch.setattr(columns, "fetch", lambda tensor: fetched.append(tensor.shape[0]) or fetch(tensor))
    monkeypatch.setattr(columns.Batch, "step", lambda batch, read: steps.append(len(read)) or step(batch, read))
    asked = [Asked((5, 6, 7 + index), 20) for index in range(6)]
    model.generate(
        asked, lambda index, token, heard=[0] * 6: heard.__setitem__(index, heard[index] + 1) or heard[index] < 20
    )
    assert steps == [6] * 19
    assert fetched == [6] + [6] * 19
    assert len(sent) == 2 + 4 + 2  # an empty batch, one pass of prompts, the filled batch


def test_what_is_sent_to_a_gpu_is_pinned_and_nobody_waits_for_it(monkeypatch):
    """A substituted tensor tells what was asked of it."""
    asked = []

    class Told:
        def pin_memory(self):
            asked.append("pinned")
            return self

        def to(self, device, **options):
            asked.append((device.type, options))
            return self

    monkeypatch.setattr(torch, "tensor", lambda values, dtype: Told())
    columns.send([1], torch.device("cuda"))
    columns.send([1], torch.device("cpu"))
    assert asked == ["pinned", ("cuda", {"non_blocking": True}), ("cpu", {})]


def test_a_finished_mask_goes_to_classes_that_take_one(folders):
    """A window's mask is its class's own, which asks the device whether anything is masked."""
    ready = {kind: columns.Batch(engine(folders(kind)).forward).ready_mask for kind in ("llama", "mistral", "bloom")}
    assert ready == {"llama": True, "mistral": False, "bloom": False}


def test_memory_that_is_short_makes_the_batch_smaller_and_is_recorded(folders, monkeypatch):
    """Half of what is left holds three answers in their own type; what can be tried is not tried."""
    asked = questions()
    for scheme, each in (("fp32", 512), ("bf16", 256)):
        model = engine(folders("llama"), scheme)
        wanted, widths, step = alone(model, asked), [], columns.Batch.step
        positions = max(len(one.tokens) + one.limit for one in asked) + columns.COLUMNS
        monkeypatch.setattr(side_by_side, "left_bytes", lambda device, room=2 * 3 * positions * each: room)
        monkeypatch.setattr(
            columns.Batch,
            "step",
            lambda batch, read, step=step, widths=widths: widths.append(len(read)) or step(batch, read),
        )
        found = together(model, asked)
        monkeypatch.setattr(columns.Batch, "step", step)
        assert found == wanted or scheme == "bf16"
        assert 3 <= max(widths) < len(asked)
        (caveat,) = [caveat for caveat in model.caveats if caveat.kind == "smaller_batches"]
        assert f"at most {max(widths)} answers" in caveat.text


def test_float32_products_are_onednns_and_all_is_left_as_it_was(folders):
    """With and without a bias, few rows and many; no other type's."""
    for kind in ("llama", "opt"):
        model = engine(folders(kind)).model
        layers = [layer for layer in model.modules() if type(layer) is torch.nn.Linear]
        for rows in (1, 4, 100):
            read = torch.rand(rows, 1, layers[0].weight.shape[1])
            plain = layers[0](read)
            with torch.inference_mode(), onednn.through_onednn(model), torch.profiler.profile() as seen:
                assert all("forward" in vars(layer) for layer in layers)
                found = layers[0](read)
            assert torch.allclose(found, plain, atol=1e-6)
            assert ("mkldnn::_linear_pointwise" in {event.key for event in seen.key_averages()}) == (rows != 4)
        assert not any("forward" in vars(layer) for layer in layers)
    half = engine(folders("llama"), "bf16").model
    with onednn.through_onednn(half):
        assert not any("forward" in vars(layer) for layer in half.modules())


def test_an_interrupted_task_goes_on_from_the_answers_it_has_whatever_the_batch_was(folders, monkeypatch, tmp_path):
    """Interrupted at the sixth of 13 answers, three side by side; then five, and one at a time."""
    pytest.importorskip("lm_eval")
    from lm_eval.api.instance import Instance

    from bench.scoring.journal import Journal
    from bench.scoring.lm import EngineLM

    words = ["quick", "lazy", "brown", "fox", "over", "the", "jumps", "a", "b", "c", "d", "e", ""]
    options = [{"until": ["zz"], "max_gen_toks": 5 + at} for at in range(len(words))]
    asked = [
        Instance("generate_until", {}, (f"The {word} dog {word}", options[at]), 0, metadata=("task", at, 1))
        for at, word in enumerate(words)
    ]

    def answered(rows, folder, done=lambda finished, total: None):
        monkeypatch.setitem(abilities.ROWS, "cpu", rows)
        return EngineLM(engine(folders("llama")), 100, done, journal=Journal(folder)).generate_until(asked)

    def interrupting(finished, total):
        if finished == 6:
            raise KeyboardInterrupt

    wanted = answered(1, tmp_path / "whole")
    for rows in (5, 1):
        with pytest.raises(KeyboardInterrupt):
            answered(3, tmp_path / str(rows), interrupting)
        assert len(list((tmp_path / str(rows)).iterdir())) == 6
        heard = []
        assert (
            answered(rows, tmp_path / str(rows), lambda finished, total, heard=heard: heard.append(finished)) == wanted
        )
        assert heard == list(range(6, 14))


def test_rows_share_the_keys_of_their_common_beginning(folders, monkeypatch):
    """Room for 3 answers of 60 own positions behind 90 shared ones, which count once; two beginnings take turns."""
    model, asked = engine(folders("llama")), []
    for begin in (FEW, FEW[::-1]):
        asked += [Asked((*begin, 100 + index, 7), 26) for index in range(6)]
    wanted, widths, step = alone(model, asked), [], columns.Batch.step
    model.generates_together  # noqa: B018 - its proof is not what is counted
    monkeypatch.setattr(side_by_side, "CACHE_BYTES", (90 + 3 * (28 + columns.COLUMNS)) * 512)

    def counted(batch, read):
        widths.append((len(batch.begins), len(read), batch.columns))
        return step(batch, read)

    monkeypatch.setattr(columns.Batch, "step", counted)
    assert together(model, asked) == wanted
    assert {begins for begins, _, _ in widths} == {90}
    assert max(rows for _, rows, _ in widths) == 3
    assert max(held for _, _, held in widths) < 90
