# SPDX-License-Identifier: Apache-2.0
"""Servers that we launch: what they are asked, every way they fail in one line, and that nothing of them is left."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_server
import psutil
import pytest
import tiny_llama
from builders import make_cell, make_model, unlogged
from replay import openai, replay

from bench.catalog.launch import CLIENTS, CONTEXT, parsed, require_program
from bench.engines.abilities import RunsItsServer, ScoresTexts
from bench.engines.contract import DoesNotFit, LoadRequest, Stopped, TextEngine, Unsupported
from bench.engines.registry import backend
from bench.engines.served import memory, pool, server
from bench.engines.served.engine import LaunchedEngine
from bench.errors import UserError
from bench.judge.figures import figures
from bench.records.cell import Weights
from bench.records.record import Ending, Record
from bench.records.store import Store
from bench.suite import TextRun
from suites.served import throughput

ROOT = Path(__file__).resolve().parents[2]
FAKE = Path(fake_server.__file__)
MIB = 1 << 20


def line(*options: object) -> str:
    """A launch of the fake server."""
    return shlex.join([sys.executable, "-S", str(FAKE), "--port", "{port}", *map(str, options)])


def launched(tmp_path: Path, *options: object, launch: str = "", **changes: Any) -> LaunchedEngine:
    """An engine on it, its weights a small file."""
    weights = tmp_path / "own.gguf"
    weights.write_bytes(b"x" * 1000)
    request = LoadRequest(
        model=make_model(), weights=Weights.LOCAL, scheme=backend("served").schemes[-1], device="cpu",
        path=str(weights), launch=(launch or line(*options), str(tmp_path)), **changes,
    )  # fmt: skip
    return LaunchedEngine(request)


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Any]:
    """Launches servers, and stops them after the test."""
    made: list[LaunchedEngine] = []

    def launch(*options: object, **changes: Any) -> LaunchedEngine:
        made.append(launched(tmp_path, *options, **changes))
        return made[-1]

    yield launch
    for one in made:
        one.close()


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of the developer's, and no waiting between attempts."""
    for name in ("BENCH_API_KEY", "BENCH_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("bench.engines.http_api.transport.FIRST_WAIT_S", 0.0)


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


# The command line.


def test_a_launch_is_split_as_a_shell_splits_it_and_filled_in() -> None:
    """Environment first, quotes kept together, each place once."""
    found = parsed("VLLM_CPU_KVCACHE_SPACE=1 'my server' -m {path} --port={port} -c {pool} -n {clients} -l {context}")
    words, environment = found.filled(path="/w/a b.gguf", port=5, pool=8192, clients=4, context=2048)
    assert words == ["my server", "-m", "/w/a b.gguf", "--port=5", "-c", "8192", "-n", "4", "-l", "2048"]
    assert environment == {"VLLM_CPU_KVCACHE_SPACE": "1"}
    assert found.sizes_the_pool and not parsed("x --port {port}").sizes_the_pool


@pytest.mark.parametrize(
    ("launch", "named"),
    [
        ("llama-server -m {path} --port {port}", "llama-server"),
        ("/opt/bin/llama-server -m {path} --port {port}", "llama-server"),
        ("python3 -m llama_cpp.server --model {path} --port {port}", "llama-cpp-python"),
        ("X=1 vllm serve {path} --port {port}", "vllm"),
        ("python -m vllm.entrypoints.openai.api_server --model {path} --port {port}", "vllm"),
        ("python -m sglang.launch_server --model-path {path} --port {port}", "sglang"),
        ("text-generation-launcher --model-id {path} --port {port}", "tgi"),
        ("my-own --port {port}", "server"),
    ],
)
def test_a_server_is_known_by_its_command(launch: str, named: str) -> None:
    """Its scheme is named after it, so that rows of two servers are two rows."""
    assert parsed(launch).server == named
    assert backend("served").scheme(named) is not None


def test_a_record_holds_no_place_of_this_machine_and_no_secret() -> None:
    """Absolute and relative paths keep their last part; a key is stars; what is no path stays."""
    told = parsed(
        "HF_TOKEN=abc LIB=/x/y /opt/b/srv -m {path} --lora ./a/b.gguf --api-key k1 --api-key=k2 --max-tokens 5 "
        "--port {port}"
    ).told
    assert told == (
        "HF_TOKEN=*** LIB=y srv -m {path} --lora b.gguf --api-key *** --api-key=*** --max-tokens 5 --port {port}"
    )


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        ("", "names no program"),
        ("A=1", "names no program"),
        ("x 'y --port {port}", "is no command line"),
        ("x --port 8000", "does not say where its port goes"),
        ("x --port {port} -c {ctx}", "holds {ctx}, which nothing fills in"),
    ],
)
def test_a_launch_that_can_serve_nothing_is_refused_before_anything_starts(launch: str, says: str) -> None:
    """Each in one line with its remedy."""
    with pytest.raises(UserError, match=says.replace("{", r"\{")) as found:
        parsed(launch)
    assert found.value.remedy


def test_a_program_that_is_not_here_is_refused() -> None:
    """By its name."""
    with pytest.raises(UserError, match="no program 'nothing-like-it' to launch"):
        require_program(parsed("nothing-like-it --port {port}"))
    require_program(parsed(line()))


# One server.


def test_a_launched_server_is_asked_for_plain_completions(engines: Any, tmp_path: Path) -> None:
    """Its words come one by one, by its own count, and what it was given is in the provenance with its command."""
    asked = engines()
    reply = asked.reply("Say something of a river", max_tokens=5)
    assert reply.text == " the river runs along the"
    assert (reply.input_tokens, reply.output_tokens, len(reply.arrivals_s), reply.finish) == (5, 5, 5, "length")
    assert asked.remote.model == "the-model"
    assert isinstance(asked, TextEngine) and isinstance(asked, RunsItsServer) and isinstance(asked, ScoresTexts)
    assert asked.provenance.source == "own.gguf" and set(asked.provenance.files) == {"own.gguf", "launch line"}
    assert asked.provenance.revision == "server 1.2.3"
    assert asked.files_bytes == 1000
    assert asked.launched == asked.launch.told and str(tmp_path) not in asked.launched
    assert [caveat.kind for caveat in asked.caveats] == ["pool_not_set"]


def test_two_launches_of_one_file_are_two_rows(engines: Any) -> None:
    """What differs is the fingerprint of the command."""
    one, other = engines(), engines("--says", "hello")
    assert one.provenance.files["own.gguf"] == other.provenance.files["own.gguf"]
    assert one.provenance.files["launch line"] != other.provenance.files["launch line"]


def test_a_server_without_a_page_of_health_is_healthy_when_it_lists_its_model(engines: Any) -> None:
    """As llama_cpp.server is."""
    assert engines("--fault", "no-health").reply("a", max_tokens=1).text == " the"


@pytest.mark.parametrize("fault", ["late", "500-once"])
def test_a_server_that_is_late_or_fails_once_is_waited_for(engines: Any, fault: str) -> None:
    """It answers in the end."""
    assert engines("--fault", fault).reply("a", max_tokens=2).text == " the river"


def test_closing_leaves_nothing_even_of_what_went_its_own_way(tmp_path: Path) -> None:
    """A child in a session of its own is ended with its server."""
    told = tmp_path / "pids"
    asked = launched(tmp_path, "--child", told)
    pids = [*map(int, told.read_text().split()), asked.server.guard.pid]
    assert not any(map(gone, pids))
    place = Path(asked.server.place.name)
    asked.close()
    assert all(map(gone, pids))
    assert not place.exists() and server.running is None


def test_a_worker_that_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """By a signal that nobody can catch: the guard sees the pipe close, and the children are its own by then."""
    told = tmp_path / "pids"
    program = (
        "import sys; from pathlib import Path; from bench.catalog.launch import parsed\n"
        "from bench.engines.served.server import Server\n"
        "found = Server(parsed(sys.argv[1]), path='', repo='', folder='.'); found.wait()\n"
        "print(found.guard.pid, flush=True); sys.stdin.read()"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", program, line("--child", told)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    guard = psutil.Process(int(worker.stdout.readline()))
    pids = [*map(int, told.read_text().split())]
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    guard.wait(20)
    assert all(map(gone, pids))


# Faults: one line each, and nothing left.


FAULTS = {
    "dies": "the server exited 3: error: the weights are broken; run its command by hand to see more",
    "unhealthy": r"the server was not healthy within 1 s \(HTTP 503 at /health and /v1/models\): it said nothing",
    "deaf": r"the server was not healthy within 1 s \(no connection at /health",
    "rubbish": "the server is healthy and does not answer: .*: an event of the stream is no JSON, 2 times",
    "no-finish": "the server is healthy and does not answer: .*: the stream ended without a finish reason, 2 times",
    "hang": r"the server is healthy and does not answer: .*: the connection broke \(TimeoutError\), 2 times",
    "taken": "port [0-9]+ is held by a program that the command has not started; let it listen at {port} itself",
}


@pytest.mark.parametrize(("fault", "says"), FAULTS.items())
def test_what_is_wrong_with_a_server_is_one_line_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    """A server that dies, is never healthy, is silent, streams rubbish or no end, hangs, or has no port."""
    monkeypatch.setattr(server, "START_S", 1.0 if "within 1 s" in says else 60.0)
    monkeypatch.setattr("bench.engines.http_api.transport.READ_TIMEOUT_S", 0.2 if "TimeoutError" in says else 60.0)
    told = tmp_path / "pids"
    with pytest.raises(UserError, match=says) as found:
        launched(tmp_path, "--fault", fault, "--child", told)
    assert "\n" not in str(found.value)
    assert all(gone(int(pid)) for pid in told.read_text().split())
    assert server.running is None


def test_a_command_that_ends_at_once_says_how(tmp_path: Path) -> None:
    """Before anybody could look at its process."""
    with pytest.raises(UserError, match=r"the server exited 5: it said nothing"):
        launched(tmp_path, launch="sh -c 'exit 5' {port}")


def test_a_command_that_cannot_be_run_is_one_line(tmp_path: Path) -> None:
    """A program that vanished since the plan was made."""
    with pytest.raises(UserError, match="cannot launch nothing-like-it: No such file or directory"):
        launched(tmp_path, launch="nothing-like-it --port {port}")


def test_another_program_at_its_port_is_never_taken_for_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers as a server would, and belongs to none of ours."""
    with replay(openai(["Hello"])) as stranger:
        monkeypatch.setattr(server, "free_port", lambda: int(stranger.url.rpartition(":")[2]))
        monkeypatch.setattr(server.Server, "_asked", lambda self, path: (200, b"{}"))
        with pytest.raises(UserError, match="is held by a program that the command has not started"):
            launched(tmp_path, "--fault", "deaf")
    assert stranger.asked == []


def test_a_server_that_dies_between_two_answers_says_so_from_then_on(engines: Any) -> None:
    """Every later cell of its load gets the same line."""
    asked = engines("--fault", "dies-later")
    asked.reply("two", max_tokens=1)
    for _ in range(2):
        with pytest.raises(UserError, match="the server exited 7: error: the third answer was too much"):
            asked.reply("three", max_tokens=1)


def test_a_server_that_the_kernel_killed_for_memory_does_not_fit(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed by nine while the group's count of such kills rose; without that it was somebody."""
    asked = engines()
    assert asked.server.process is not None
    asked.server.process.kill()
    asked.server.guard.wait(20)
    with pytest.raises(UserError, match="the server died of SIGKILL"):
        asked.reply("a", max_tokens=1)
    monkeypatch.setattr(server.container, "oom_kills", lambda: 8)
    asked.server.kills = 7
    with pytest.raises(DoesNotFit, match="the server, which the kernel killed for memory"):
        asked.reply("a", max_tokens=1)


def test_weights_that_lie_nowhere_fill_no_path(tmp_path: Path) -> None:
    """A repository that the server would fetch has no path here."""
    request = LoadRequest(
        model=make_model(), weights=Weights.HUB, scheme=backend("served").schemes[-1], device="cpu",
        launch=(line("--says", "{path}"), str(tmp_path)),
    )  # fmt: skip
    with pytest.raises(UserError, match="has no weights on this disk"):
        LaunchedEngine(request)


# Memory.


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's counters are Linux's")
def test_memory_is_that_of_the_servers_whole_tree(engines: Any, tmp_path: Path) -> None:
    """Nothing before it, then what it holds with what its child holds, and nothing of this process."""
    counter = memory.counter("cpu")
    assert counter.read().total_bytes == 0 and counter.peak().total_bytes == 0
    engines("--hold", 64 * MIB)
    alone = counter.read().total_bytes
    assert 64 * MIB < alone < 110 * MIB
    assert counter.peak().total_bytes > 0.98 * alone  # the kernel adds its mark up in batches
    engines("--hold", 64 * MIB, "--child", tmp_path / "pids")
    assert counter.read().total_bytes > alone + 2 * MIB


def test_a_gpus_memory_is_summed_over_the_servers_processes(engines: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver's list of processes; others on the card do not count."""
    asked = engines()
    own = asked.server.process.pid

    class Nvml:
        NVMLError = RuntimeError

        def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's name
        def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802 - NVML's name
            return "card"

        def nvmlDeviceGetMemoryInfo(self, handle: object) -> Any:  # noqa: N802 - NVML's name
            return type("Told", (), {"used": 9 * MIB, "free": 5 * MIB})()

        def nvmlDeviceGetComputeRunningProcesses(self, handle: object) -> list[Any]:  # noqa: N802 - NVML's name
            made = [(own, 7 * MIB), (os.getpid(), 100 * MIB)]
            return [type("Process", (), {"pid": pid, "usedGpuMemory": used})() for pid, used in made]

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = memory.ServerGpuMemory(Nvml())  # type: ignore[arg-type]
    assert found.read().total_bytes == 7 * MIB
    assert found.name == "NVML processes"


@pytest.mark.parametrize(
    ("log", "total", "tokens"),
    [
        ("llama_context: n_ctx = 8192\nllama_kv_cache: CPU KV buffer size = 180.00 MiB\n", 180 * MIB, 8192),
        ("Available KV cache memory: 1.00 GiB\nGPU KV cache size: 46,592 tokens\n", 1024 * MIB, 46592),
        (
            "Explicitly set (1.0/23.5) GiB for KV cache on node 0.\nCPU KV cache size: 46,592 tokens, Max",
            1024 * MIB,
            46592,
        ),
        ("KV Cache is allocated. #tokens: 1000, K size: 0.25 GB, V size: 0.25 GB\n", 512 * MIB, 1000),
    ],
)
def test_a_pool_is_what_the_server_says_of_it(log: str, total: int, tokens: int) -> None:
    """Bytes and tokens, each server in its own words."""
    found = pool.told_by(log)
    assert found is not None and (found.total_bytes, found.tokens) == (total, tokens)
    assert found.told == "the server's log"


def test_a_pool_that_nobody_tells_is_computed_where_the_launch_sizes_it(engines: Any) -> None:
    """The tokens that were asked room for, at 16 bits; nothing where the size is the server's own."""
    assert engines().pool_bytes is None
    assert engines("--says", "{context}").pool_bytes is None, "a sequence's room is no pool of a server that has more"
    total, tokens, told = engines("--says", "{pool}").pool_bytes
    assert tokens == CONTEXT * CLIENTS and told == "the architecture, at 16 bits"
    assert total == CONTEXT * CLIENTS * 2 * 64 * 2  # one layer, keys and values of 64, two bytes


# Log-probabilities of prompts.


def test_log_probabilities_prove_themselves_by_what_was_generated(engines: Any) -> None:
    """Tokens that the server has generated get the same values in a prompt, and then those of any text are used."""
    asked = engines()
    assert asked.unproven() == ""
    found = asked.scored("A quiet lane")
    assert [token.text for token in found] == ["A", " quiet", " lane"]
    assert [token.start for token in found] == [0, 1, 7]
    assert found[0].log_prob is None
    assert found[1].log_prob == pytest.approx(fake_server.value(" quiet")) and found[1].likeliest


def test_a_token_that_the_server_puts_before_a_text_is_none_of_it(engines: Any) -> None:
    """Then the text's first token has a value of its own."""
    found = engines("--fault", "begins").scored("A quiet lane")
    assert [token.text for token in found] == ["A", " quiet", " lane"]
    assert found[0].log_prob == pytest.approx(fake_server.value("A"))


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("neighbour", "it gives each token of a prompt the log-probability of its neighbour"),
        ("no-logprobs", "the server shows no log-probabilities of prompts"),
    ],
)
def test_what_does_not_prove_itself_is_not_used(engines: Any, fault: str, says: str) -> None:
    """The reason stands beside the tasks that are left out."""
    asked = engines("--fault", fault)
    assert says in asked.unproven()
    with pytest.raises(Unsupported, match=says):
        asked.scored("A quiet lane")


def test_likelihood_tasks_are_answered_where_that_is_proven(engines: Any) -> None:
    """Each choice has the sum of its tokens' values, from the blank before it on; a perplexity has no first token."""
    from lm_eval.api.instance import Instance

    from bench.scoring.lm_text import TextLM, evaluate_text

    asked = engines()
    request = Instance("loglikelihood", {}, ("The mill stands ", "by the river"), 0, ("task", 0, 1))
    ((total, greedy),) = TextLM(asked, lambda done, of: None).loglikelihood([request])
    assert total == pytest.approx(sum(map(fake_server.value, (" by", " the", " river")))) and greedy
    found = evaluate_text(asked, tasks=["bench_facts_en", "bench_arithmetic_answer"], items=4)
    assert [(one.result.task, len(one.replies)) for one in found.answered] == [
        ("bench_facts_en", 0), ("bench_arithmetic_answer", 4),
    ]  # fmt: skip
    assert found.answered[0].result.choices is not None
    refused = evaluate_text(engines("--fault", "neighbour"), tasks=["bench_facts_en"], items=4)
    assert (
        list(refused.not_applicable) == ["bench_facts_en"] and "neighbour" in refused.not_applicable["bench_facts_en"]
    )


def test_what_was_answered_before_a_server_died_is_kept(engines: Any) -> None:
    """Of tasks the items that were asked, of speeds the repeats that were timed."""
    from bench.scoring.lm_text import evaluate_text

    found = evaluate_text(engines("--fault", "dies-later"), tasks=["bench_arithmetic_answer"], items=4)
    assert len(found.answered[0].replies) == 1
    assert "the server exited 7" in found.stopped
    assert "(1 of 4 items of bench_arithmetic_answer answered)" in found.stopped
    settings = throughput.LAUNCHED["smoke"] | {"warmups": 0, "repeats": 3}
    run = TextRun(cell=make_cell("throughput", settings=settings), engine=engines("--fault", "dies-later"))
    with pytest.raises(Stopped, match=r"the server exited 7.*1 of 3 repeats") as kept:
        throughput.measure(run)
    assert next(m for m in kept.value.kept if m.name == "pieces").values == (16,)


def test_an_answer_that_failed_at_first_makes_no_rate_of_several_clients(engines: Any) -> None:
    """Its second attempt is no part of the round: what one client got is kept, and a warning says what is missing."""
    settings = throughput.LAUNCHED["smoke"] | {"warmups": 0}
    run = TextRun(cell=make_cell("throughput", settings=settings), engine=engines("--fault", "fails-eighth"))
    found = {m.name for m in throughput.measure(run)}
    assert "pieces" in found and "clients_round_s" not in found
    (told,) = [caveat.text for caveat in run.caveats if caveat.kind == "not_measured"]
    assert told == "4 clients at once: 1 of 4 answers failed at first and were asked for again"


# Through the command.


def bench(tmp_path: Path, launch: str, *options: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`bench run --backend served` with the fake server, the smoke profile and weights that are a small file."""
    weights = tiny_llama.write_gguf(tmp_path / "own.gguf")
    command = [sys.executable, "-m", "bench", "run", "--backend", "served", "--launch", launch, "--profile", "smoke",
               "--weights", f"local={weights}", "--results", tmp_path / "results", *options]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(tmp_path / "cache")} | environment
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def records(tmp_path: Path) -> dict[str, Record]:
    """By suite."""
    return {record.cell.suite: record for record in Store(tmp_path / "results").records()}


def test_a_launched_server_is_measured_by_every_suite(tmp_path: Path) -> None:
    """Memory with its pool named, speeds of one client and four, answers and choices; its command in every cell."""
    pytest.importorskip("gguf")
    told = tmp_path / "pids"
    launch = line("--child", told, "--hold", 32 * MIB, "--says", "{pool}")
    done = bench(tmp_path, launch, "--task", "bench_facts_en,bench_arithmetic_answer")
    found = records(tmp_path)
    assert set(found) == {"memory", "throughput", "divergence", "quality"}, done.stderr
    assert {r.cell.settings["launch"] for r in found.values()} == {parsed(launch).told}
    assert all(str(tmp_path) not in record.model_dump_json() for record in found.values())
    memory, speed, quality = found["memory"], found["throughput"], found["quality"]
    assert {r.outcome.ending for r in (memory, speed, quality)} == {Ending.OK}
    seen = figures(memory)
    assert seen["peak_bytes"].value > 32 * MIB and seen["baseline_bytes"].value == 0
    assert seen["needed_bytes"].value == seen["peak_bytes"].value - (seen["pool_bytes"].value - seen["kv_bytes"].value)
    assert {"whole_server", "preallocated_pool"} <= {caveat.kind for caveat in memory.warnings}
    rates = figures(speed)
    assert rates["clients_tokens_per_s:4"].value > 0 and rates["decode_tokens_per_s"].value > 0
    clients = speed.measurement("clients_tokens")
    assert clients is not None and clients.values == (64, 64)
    tasks = {str(m.labels["task"]) for m in quality.measurements if "task" in m.labels}
    assert tasks == {"bench_facts_en", "bench_arithmetic_answer"}
    assert quality.measurement("choice_loglikelihood") is not None
    assert "no fp32 row of this model on this machine" in found["divergence"].outcome.reason
    assert all(gone(int(pid)) for pid in told.read_text().split())


def test_a_server_that_fails_costs_its_cells_one_line(tmp_path: Path) -> None:
    """The same for all of its load, and the exit code says that a cell failed."""
    pytest.importorskip("gguf")
    done = bench(tmp_path, line("--fault", "dies"), "--suite", "memory,throughput")
    reasons = {record.outcome.reason for record in records(tmp_path).values()}
    assert done.returncode == 1 and len(reasons) == 1
    assert reasons.pop().startswith("the server exited 3: error: the weights are broken")
    assert len([one for one in unlogged(done.stderr).splitlines() if "the weights are broken" in one]) == 1


def test_a_server_that_hangs_is_ended_with_its_worker(tmp_path: Path) -> None:
    """The runner's limit breaks the load, and nothing goes on."""
    pytest.importorskip("gguf")
    told = tmp_path / "pids"
    bench(tmp_path, line("--fault", "unhealthy", "--child", told), "--suite", "memory", "--timeout", "6")
    (record,) = records(tmp_path).values()
    assert record.outcome.ending is Ending.TIMED_OUT
    for pid in map(int, told.read_text().split()):
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
        assert gone(pid)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--backend", "served"], "backend served launches a server and was not told which"),
        (["--launch", "x --port {port}"], "--launch is for backend served alone"),
        (["--backend", "served", "--launch", "nothing-like-it --port {port}"], "no program 'nothing-like-it'"),
        (["--backend", "served", "--launch", line(), "--precision", "int8"], "it has no --precision"),
        (["--backend", "served", "--launch", line(), "--threads", "2"], "--threads says nothing to a server"),
    ],
)
def test_what_cannot_be_launched_is_refused_before_anything_starts(
    tmp_path: Path, options: list[str], says: str
) -> None:
    """Exit code 2 and one line."""
    command = [sys.executable, "-m", "bench", "run", *options, "--results", str(tmp_path / "results")]
    env = os.environ | {"PYTHONPATH": str(ROOT), "BENCH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and says in " ".join(done.stderr.split())
