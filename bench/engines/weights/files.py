# SPDX-License-Identifier: Apache-2.0
"""Folders with weights, downloaded from the Hub or given by the user, and what a record says about their files."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import processes
from bench.catalog.local_model import check_files
from bench.engines.contract import Unsupported
from bench.engines.weights.fingerprints import fingerprints
from bench.errors import UserError
from bench.records.record import Provenance

SMALL_FILES = ["*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py"]
HUB_FILES = ["*.safetensors", *SMALL_FILES]
PICKLE_FILES = ["pytorch_model*.bin", "adapter_model.bin", *SMALL_FILES]
UNAUTHORIZED = 401
REFUSED = 3
"""Exit code of a helper process that cannot use its input; its last line of output is the reason."""
SPOILED = 4
"""Exit code of one whose input the user can mend; its last two lines of output are what is wrong and the remedy."""


class Refused(Exception):
    """A helper process cannot use its input at all; the message is the reason in one line."""


@dataclass(frozen=True)
class Located:
    """A folder in Hub layout, and what a record says of it."""

    folder: Path | None
    """None for random weights, which are built and not read."""
    provenance: Provenance


def hub_folder(repo: str, revision: str | None) -> Path:
    """A snapshot from the Hub's cache, downloaded if necessary; pickles are taken only if there is nothing safer.

    Its name is the commit. Raises as `asking_the_hub`.
    """
    from huggingface_hub import snapshot_download

    with asking_the_hub(repo, revision):
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(repo, revision=revision, allow_patterns=PICKLE_FILES))
    return folder


@contextmanager
def asking_the_hub(repo: str, revision: str | None = None, local: str = "FOLDER") -> Iterator[None]:
    """Turn each kind of refusal by the Hub into a one-line error.

    Raises Unsupported for what no second try would change (gated, gone, disabled), UserError for the rest; `local` is
    what can be given instead.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise Unsupported(f"gated: accept the licence of {repo} on the Hub and run `hf auth login`") from None
    except errors.RepositoryNotFoundError:
        raise Unsupported(f"the Hub has no {repo}: gone, renamed, or private (`hf auth login`)") from None
    except errors.RevisionNotFoundError:
        raise UserError(
            f"{repo} has no revision {revision}", "correct `revision` in its catalogue entry, or leave it out"
        ) from None
    except OSError as error:
        if isinstance(error, errors.EntryNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError):
            raise  # a file that the repository lacks: the caller knows what that means
        cause = error.__cause__ or error  # what the client met before it looked in its cache
        if isinstance(error, errors.DisabledRepoError) or isinstance(cause, errors.DisabledRepoError):
            raise Unsupported(f"the Hub has disabled {repo}") from None
        if getattr(getattr(cause, "response", None), "status_code", None) == UNAUTHORIZED:
            raise UserError(
                f"the Hub refuses this machine's token for {repo}", "run `hf auth login` again, or unset HF_TOKEN"
            ) from None
        raise UserError(
            f"{repo} is not in the local cache and the Hub cannot be reached ({type(cause).__name__})",
            f"connect, or pass --weights local={local}",
        ) from None


def model_folder(path: str | Path) -> Path:
    """The user's folder, checked to be in Hub layout. Raises UserError if it is not."""
    folder = Path(path)
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is no model folder: it holds no config.json", "give a folder in Hub layout")
    return folder


def provenance(folder: Path, source: str, revision: str | None = None) -> Provenance:
    """What a record says of the weights in a folder. Raises UserError where its files are none that can be read."""
    check_files(folder)
    files = fingerprints(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stored = config.get("dtype") or config.get("torch_dtype")
    return Provenance(source=source, revision=revision, files=files, stored_as=stored)


class NotMade(subprocess.CalledProcessError):
    """The process that makes a folder ended without it: under a memory limit the limit may be why, and the user's."""

    def __str__(self) -> str:
        return f"{self.cmd} exited {self.returncode}: {str(self.stderr)[-2000:]}"


def made_once(
    folder: Path, module: str, arguments: Sequence[str | Path], within: str = "bench.engines.weights"
) -> Path:
    """`folder`, made by a separate process if it does not exist, so that no memory stays in use here.

    The process is `python -m WITHIN.MODULE ARGUMENTS PART`. It fills the new folder PART, which is renamed to `folder`
    only when it is complete. Raises Unsupported, UserError, NotMade.
    """
    if folder.is_dir() and processes.in_use(folder):
        return folder
    part = processes.unfinished(folder)
    try:
        part.mkdir(parents=True)
        command = processes.module(f"{within}.{module}", *arguments, part)
        done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode == REFUSED:
            raise Unsupported(done.stderr.strip().splitlines()[-1])
        if done.returncode == SPOILED:
            raise UserError(*done.stderr.strip().splitlines()[-2:])
        if done.returncode:
            raise NotMade(done.returncode, module, stderr=done.stderr)
        processes.put(part, folder)
    except OSError as error:
        raise UserError(f"cannot write {folder.parent}: {error.strerror}", "free space, or set BENCH_CACHE") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    processes.in_use(folder)
    return folder


def guarded(work: Callable[[], None]) -> int:
    """Run a helper's work and return its exit code: a refusal is one line on stderr, a bug keeps its traceback."""
    try:
        work()
    except (Refused, pickle.UnpicklingError) as error:
        pickled = "a weight file is a pickle that holds more than tensors: refused"
        reason = str(error) if isinstance(error, Refused) else pickled
        sys.stderr.write(f"\n{' '.join(reason.split())[:300]}\n")
        return REFUSED
    except UserError as error:
        sys.stderr.write("".join(f"\n{' '.join(part.split())}" for part in (error.message, error.remedy)) + "\n")
        return SPOILED
    return 0
