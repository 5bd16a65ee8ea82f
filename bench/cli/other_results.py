# SPDX-License-Identifier: Apache-2.0
"""Another result set than the one at hand: a folder, or what a revision of this one's repository held."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cli.stored import Stored
from bench.errors import UserError
from bench.processes import temporary_folder


@contextmanager
def other_results(name: str, results: Path) -> Iterator[Stored]:
    """The records of a folder, or of the results folder as a git revision had it. Raises UserError for neither."""
    if Path(name).is_dir():
        yield Stored(Path(name))
        return
    with temporary_folder() as folder:
        _extract(name, results, Path(folder))
        yield Stored(Path(folder), lasting=False)


def _extract(revision: str, results: Path, folder: Path) -> None:
    """Write the files of that revision below the folder, without the path of the results folder itself."""
    if revision.startswith("-"):
        raise UserError(f"no folder and no revision {revision!r}", "give a results folder, or a commit or tag")
    where = str(results)
    try:
        command = ["git", "-C", where, "archive", "--format=tar", revision]
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        raise UserError(f"no folder {revision}", "git is not installed: give a results folder") from None
    if done.returncode:
        raise UserError(f"no folder and no revision {revision!r} of {where}", "a results folder, or a commit or tag")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
