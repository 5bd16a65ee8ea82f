# SPDX-License-Identifier: Apache-2.0
"""Which class reads a model for its objective, and the one line that says why none does."""

import json

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402
from tokenizers import processors  # noqa: E402
from transformers import AutoConfig  # noqa: E402

from bench.catalog.local_model import own_model  # noqa: E402
from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines.contract import LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND, classes  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

TEXT = "The lazy dog jumps over 42 quick foxes."
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}


def load(folder):
    """A folder of the user's own, as `--weights local=FOLDER` loads it."""
    facts = {"weights": Weights.LOCAL, "scheme": BACKEND.scheme("fp32"), "device": "cpu", "path": str(folder)}
    return BACKEND.load(LoadRequest(model=own_model(folder), **facts))


def saved(folder, name, **sizes):
    """A tiny random model of that class with the tests' tokenizer."""
    found = getattr(transformers, name)
    torch.manual_seed(0)
    special = {"vocab_size": tiny.VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 3}
    return tiny.save(found(found.config_class(**special | sizes)).eval(), folder)


@pytest.mark.parametrize(
    ("name", "positions"), [("Roberta", 64), ("Camembert", 64), ("XLMRoberta", 64), ("MPNet", 66), ("Electra", 68)]
)
def test_an_encoder_s_last_position_is_read_and_none_beyond_it(tmp_path, name, positions):
    """Kin of RoBERTa number positions from behind the padding's: of 70 rows (padding 3) two frame 64 tokens."""
    folder = saved(tmp_path / name, f"{name}ForMaskedLM", max_position_embeddings=70, **SIZES)
    engine = load(folder)
    assert engine.context_length == positions
    tokens = (engine.encode(TEXT) * 9)[: engine.context_length]
    blanked = [0, *tokens[:-1], 2, 1]
    logits = engine.model(torch.tensor([blanked])).logits[0, -2]
    (score,) = engine.score([Row(tuple(tokens[:-1]), (tokens[-1],))])
    assert score.log_probs == pytest.approx([float(torch.log_softmax(logits, -1)[tokens[-1]])], abs=1e-4)


def test_an_encoder_that_does_not_say_what_it_is_says_what_to_write(tmp_path):
    """Saved without its head, or without a word: refused before weights are read, whatever it is called."""
    folder = saved(tmp_path / "m", "ElectraForMaskedLM", max_position_embeddings=70, **SIZES)
    path = folder / "config.json"
    described = json.loads(path.read_text())
    del described["architectures"]
    path.write_text(json.dumps(described))
    words = "electra is a masked model: say `objective: masked` in its catalogue entry, or ElectraForMaskedLM under"
    with pytest.raises(Unsupported, match=words):
        load(folder)


def asked(objective, weights=Weights.RANDOM):
    """A request for a model of that objective."""
    facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "kind": "open weights"}
    model = Model(objective=objective, repo="local/tiny", **facts)
    return LoadRequest(model=model, weights=weights, scheme=BACKEND.scheme("fp32"), device="cpu")


@pytest.mark.parametrize(
    ("kind", "objective", "words"),
    [
        ("deberta-v2", "causal", "deberta-v2 is a masked model: say `objective: masked` in its catalogue entry"),
        ("modernbert", "causal", "modernbert is a masked model"),
        ("llava", "causal", "llava reads pictures as well as text, and only models of text alone are measured here"),
        ("qwen2_vl", "causal", "qwen2_vl reads pictures as well as text"),
        ("whisper", "seq2seq", "whisper reads sound, and only models of text alone are measured here"),
        ("llama", "masked", r"has no masked model 'llama', only causal ones$"),
        ("t5", "causal", r"has no causal model 't5', only seq2seq ones$"),
        ("bart", "masked", None),
        ("bart", "seq2seq", None),
        ("gemma3_text", "causal", None),
    ],
)
def test_the_reason_is_what_the_model_is(kind, objective, words):
    """Not that something is missing, and never more than one line."""
    request = asked(objective)
    if words is None:
        assert classes.model_class(AutoConfig.for_model(kind), request).main_input_name == "input_ids"
        return
    with pytest.raises(Unsupported, match=words) as raised:
        classes.model_class(AutoConfig.for_model(kind), request)
    assert len(str(raised.value)) < 200 and "\n" not in str(raised.value)


def test_of_a_model_that_reads_pictures_too_the_text_s_own_class_is_made_from_the_text_s_config():
    """As transformers' own loader does it: Qwen3.5 has a class for text alone, Gemma 3 one for both."""
    both = AutoConfig.for_model("qwen3_5")
    found = classes.model_class(both, asked("causal"))
    assert (found.__name__, classes.own_config(both, found).model_type) == ("Qwen3_5ForCausalLM", "qwen3_5_text")
    both = AutoConfig.for_model("gemma3")
    found = classes.model_class(both, asked("causal"))
    assert (found.__name__, classes.own_config(both, found).model_type) == ("Gemma3ForConditionalGeneration", "gemma3")


def framed(before, after, **options):
    """The tests' tokenizer with these tokens around a text."""
    made = tiny.tokenizer(TEXT)
    numbers = [(token, made.convert_tokens_to_ids(token)) for token in {*before, *after}]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join([*before, "$A", *after]), special_tokens=numbers
    )
    return made


@pytest.mark.parametrize(
    ("before", "after", "first"),
    [([], [], None), ([], ["</s>"], None), (["<s>"], ["</s>"], "<s>"), ([], ["</s>", "<mask>"], "<mask>")],
)
def test_an_encoder_decoder_is_measured_where_its_answers_begin_at_once(before, after, first):
    """T5's, Pegasus' and Marian's do; BART's begin with a token, and those of models of many languages with one."""
    config = AutoConfig.for_model("m2m_100")
    if first is None:
        classes.check_answers(config, framed(before, after))
        return
    with pytest.raises(Unsupported, match=f"m2m_100: its answers begin with '{first}' after the decoder's start token"):
        classes.check_answers(config, framed(before, after))


def test_an_encoder_decoder_of_few_positions_is_not_read_beyond_them(tmp_path):
    """Pegasus has 40 on each side here: what fits is scored as a plain pass scores it, what does not is refused."""
    sides = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (
        ("layers", 2), ("attention_heads", 4), ("ffn_dim", 128))}  # fmt: skip
    folder = saved(
        tmp_path / "p", "PegasusForConditionalGeneration", d_model=64, max_position_embeddings=40,
        decoder_start_token_id=3, **sides,
    )  # fmt: skip
    engine = load(folder)
    assert own_model(folder).objective is Objective.SEQ2SEQ
    assert engine.context_length == 40
    tokens = tuple(range(5, 85))
    (score,) = engine.score([Row(tokens[:40], tokens[40:])])
    logits = engine.model(
        input_ids=torch.tensor([tokens[:40]]), decoder_input_ids=torch.tensor([(3, *tokens[40:79])])
    ).logits[0]
    wanted = torch.log_softmax(logits, -1)[torch.arange(40), torch.tensor(tokens[40:])]
    assert score.log_probs == pytest.approx(wanted.tolist(), abs=1e-4)
    with pytest.raises(Unsupported, match="41 tokens are more than this model's context of 40"):
        engine.score([Row((tokens[:41]), (5,))])
    with pytest.raises(Unsupported, match="41 tokens are more"):
        engine.prefill([tokens[:41]])
    generation = engine.prefill([tokens[:3]])
    for _ in range(40):
        generation.step()
    with pytest.raises(Unsupported, match="41 tokens are more"):
        generation.step()
