# SPDX-License-Identifier: Apache-2.0
"""A journal gives back what was written whole, forgets the rest, and changes no figure."""

import os
from types import SimpleNamespace

import pytest

from bench.engines.contract import Row, Score
from bench.scoring import journal as journals
from bench.scoring.journal import Journal, chunks


class Counting:
    """An engine that counts the rows it scores; a row's score is its tokens, halved."""

    def __init__(self):
        self.rows = []

    def score(self, rows, done=lambda finished: None):
        """Scores from the tokens alone."""
        self.rows += rows
        done(len(rows))
        return [Score(tuple(token / 3 for token in row.continuation), row.continuation[0] % 2 == 0) for row in rows]


ROWS = [Row((item,) * 3000, (item, choice)) for item in range(1, 8) for choice in (1, 2)]
"""Items of 3,000 tokens: three of them fill a chunk."""


def test_chunks_end_where_the_context_changes_and_depend_on_the_rows_alone():
    """Three items of two choices each and 3,000 tokens of their own make a chunk; none is torn."""
    made = list(chunks(ROWS))
    assert [len(chunk) for chunk in made] == [6, 6, 2]
    assert [row for chunk in made for row in chunk] == ROWS
    assert list(chunks([])) == []


def test_what_neighbours_share_does_not_fill_a_chunk():
    """A thousand rows behind one long beginning cost what is theirs: one chunk."""
    rows = [Row((1,) * 500 + (item,), (2,)) for item in range(2, 1002)]
    assert len(list(chunks(rows))) == 1


def test_scores_come_back_exactly_and_are_not_computed_again(tmp_path):
    """The second engine is asked for nothing, and float by float the same comes back."""
    first, second, heard = Counting(), Counting(), []
    scores = journals.score(first, ROWS, Journal(tmp_path / "cell"))
    again = journals.score(second, ROWS, Journal(tmp_path / "cell"), heard.append)
    assert again == scores == Counting().score(ROWS)
    assert (first.rows, second.rows, heard) == (ROWS, [], [6, 12, 14])


def test_other_continuations_of_the_same_contexts_are_other_questions(tmp_path):
    """Nothing is answered from rows that only begin alike."""
    others = [Row(row.context, (row.continuation[0], 9)) for row in ROWS]
    journals.score(Counting(), ROWS, Journal(tmp_path / "cell"))
    engine = Counting()
    assert journals.score(engine, others, Journal(tmp_path / "cell")) == Counting().score(others)
    assert engine.rows == others


def test_an_entry_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    """A disk that refuses to keep a file leaves none under its name."""

    def refuse(file):
        raise OSError("no space")

    monkeypatch.setattr(os, "fsync", refuse)
    assert Journal(tmp_path / "cell").remember("question", lambda: 1) == 1
    assert list((tmp_path / "cell").glob("*.json")) == []


def test_what_was_not_finished_is_all_that_is_scored(tmp_path):
    """An engine that dies in its second chunk leaves the first; the next one scores the other two."""

    class Dying(Counting):
        def score(self, rows, done=lambda finished: None):
            if self.rows:
                raise KeyboardInterrupt
            return super().score(rows, done)

    with pytest.raises(KeyboardInterrupt):
        journals.score(Dying(), ROWS, Journal(tmp_path / "cell"))
    engine = Counting()
    assert journals.score(engine, ROWS, Journal(tmp_path / "cell")) == Counting().score(ROWS)
    assert engine.rows == ROWS[6:]


@pytest.mark.parametrize("damage", [b"", b'{"sha256": "0", "answer": [', b'{"answer": 1}', b"[]", b"\xff\xfe", b"null"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    """Torn, changed or foreign files are as good as none, and are replaced."""
    journals.score(Counting(), ROWS, Journal(tmp_path / "cell"))
    for path in (tmp_path / "cell").iterdir():
        path.write_bytes(damage)
    engine = Counting()
    assert journals.score(engine, ROWS, Journal(tmp_path / "cell")) == Counting().score(ROWS)
    assert engine.rows == ROWS


def test_a_changed_number_is_noticed(tmp_path):
    """An answer that is not the one its hash was taken of is computed again."""
    journal = Journal(tmp_path / "cell")
    journal.remember("question", lambda: [1.5])
    (path,) = (tmp_path / "cell").iterdir()
    path.write_text(path.read_text().replace("1.5", "2.5"))
    assert journal.remember("question", lambda: [3.5]) == [3.5]


def test_infinite_scores_are_not_kept(tmp_path):
    """They fail their cell; the next attempt computes them anew."""
    journal = Journal(tmp_path / "cell")
    assert journal.remember("question", lambda: [float("inf")]) == [float("inf")]
    assert journal.remember("question", lambda: [1.0]) == [1.0]


def test_a_folder_that_refuses_costs_the_resume_and_nothing_else(tmp_path):
    """Where no file can be written scores are what they are."""
    (tmp_path / "cell").write_text("a file stands here")
    assert journals.score(Counting(), ROWS, Journal(tmp_path / "cell")) == Counting().score(ROWS)


def test_forgetting_a_cell_leaves_the_others(tmp_path, monkeypatch):
    """All journals of one key go, whatever their weights and versions."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    for name in ("aaaaaaaaaaaa-1", "aaaaaaaaaaaa-2", "bbbbbbbbbbbb-1"):
        Journal(journals.journal_folder() / name).remember("question", lambda: 1)
    journals.forget("aaaaaaaaaaaa")
    assert [path.name for path in journals.journal_folder().iterdir()] == ["bbbbbbbbbbbb-1"]


def test_journals_are_never_shared_between_precisions_weights_versions_or_threads(monkeypatch):
    """The worker's name for a journal changes with each of them."""
    from builders import make_cell, make_versions

    from bench.records.record import Provenance
    from bench.run import worker

    def name(precision="fp16", weights="w", threads=1, **packages):
        monkeypatch.setattr(worker, "versions", lambda suite, names: make_versions(**packages))
        engine = SimpleNamespace(provenance=Provenance(source=weights, files={}), threads=threads)
        maker = SimpleNamespace(backend=SimpleNamespace(requires=(), versions=()))
        return worker.Worker._journal(maker, make_cell("quality", precision), engine).folder.name

    names = [name(), name(precision="int8"), name(weights="v"), name(threads=2), name(torch="2.13.0")]
    assert len(set(names)) == len(names)
    assert name() == names[0]


@pytest.mark.parametrize("shared", [True, False])
def test_the_flag_reaches_the_engine(tmp_path, shared):
    """A quality cell that shares nothing has its model loaded to score every row by itself."""
    from dataclasses import replace

    from builders import make_cell, make_condition, make_machine, make_model, make_scheme

    from bench.records.record import Prediction
    from bench.run.request import Asked, Request
    from bench.run.worker import Worker

    cell = make_cell("quality")
    cell = cell if shared else cell.model_copy(update={"settings": {**cell.settings, "shared": False}})
    read, write = os.pipe()
    request = Request(
        run="run", results=tmp_path, cache=tmp_path, events=write, model=make_model(), weights="random", path=None,
        backend="fake", scheme=make_scheme(), threads=None, machine=make_machine(), before=make_condition(),
        cells=(Asked(cell=make_cell(), predicted=Prediction()), Asked(cell=cell, predicted=Prediction())),
    )  # fmt: skip
    worker, loads = Worker(request), []
    load = worker.backend.load
    worker.backend = replace(worker.backend, load=lambda asked: loads.append(asked) or load(asked))
    worker._load()[0].close()
    os.close(read)
    os.close(write)
    assert [asked.plain_scoring for asked in loads] == [not shared]
