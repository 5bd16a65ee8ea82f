# SPDX-License-Identifier: Apache-2.0
"""Tokens without a row in the model are refused with both counts before anything is measured, never indexed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402

from bench.catalog.model import Model, Objective  # noqa: E402
from bench.engines.contract import LoadRequest  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.engines.transformers.token_rows import check_tokenizer, check_tokens  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

TOKENS = len(tiny.tokenizer(tiny.TEXT))
OBJECTIVES = {"llama": Objective.CAUSAL, "t5": Objective.SEQ2SEQ, "bert": Objective.MASKED}


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., LoadRequest]:
    """A tiny model of so many rows with a tokenizer that has tokens added to it."""

    def made(kind: str, rows: int, *, words: tuple[str, ...] = (), special: tuple[str, ...] = ()) -> LoadRequest:
        tokenizer = tiny.tokenizer(tiny.TEXT)
        tokenizer.add_tokens(list(words))
        tokenizer.add_tokens(list(special), special_tokens=True)
        tiny.model(kind, vocab_size=rows).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "kind": "open weights"}
        scheme = BACKEND.scheme("fp32")
        assert scheme is not None
        return LoadRequest(
            model=Model.model_validate(facts | {"objective": OBJECTIVES[kind], "repo": "local/tiny"}),
            weights=Weights.LOCAL, scheme=scheme, device="cpu", path=str(tmp_path),
        )  # fmt: skip

    return made


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_tokenizer_of_another_model_is_refused_before_anything_is_measured(
    model: Callable[..., LoadRequest], kind: str
) -> None:
    """Both counts in one line, whatever the objective."""
    line = f"^its tokenizer has {TOKENS} tokens, the model {TOKENS - 1} rows for them; give it the tokenizer of these"
    with pytest.raises(UserError, match=line):
        BACKEND.load(model(kind, TOKENS - 1))


def test_words_that_were_added_without_rows_are_refused(model: Callable[..., LoadRequest]) -> None:
    """Any text may hold them; as many rows as tokens, or more, are right."""
    with pytest.raises(UserError, match=f"its tokenizer has {TOKENS + 2} tokens, the model {TOKENS + 1} rows"):
        BACKEND.load(model("llama", TOKENS + 1, words=("dog", "cat")))
    assert BACKEND.load(model("llama", TOKENS + 2, words=("dog", "cat"))).encode("dog") == [TOKENS]


def test_a_special_token_without_a_row_harms_no_text_but_the_one_that_names_it(
    model: Callable[..., LoadRequest],
) -> None:
    """As the picture token of a text model: ordinary text is read, the other is refused with both counts."""
    engine = BACKEND.load(model("llama", TOKENS, special=("<picture>",)))
    assert max(engine.encode("The dog")) < TOKENS
    line = f"a text holds token {TOKENS}; its tokenizer has {TOKENS + 1} tokens, the model {TOKENS} rows"
    with pytest.raises(UserError, match=line):
        engine.encode("The <picture> dog")


def test_a_special_token_that_the_engine_itself_writes_needs_a_row() -> None:
    """A beginning of text stands before every item."""
    tokenizer = tiny.tokenizer(tiny.TEXT)
    tokenizer.add_special_tokens({"bos_token": "<begin>"})
    with pytest.raises(UserError, match="rows for them"):
        check_tokenizer(tokenizer, TOKENS)
    check_tokenizer(tokenizer, TOKENS + 1)
    check_tokens([], tokenizer, 0)
    check_tokens([TOKENS], tokenizer, TOKENS + 1)
