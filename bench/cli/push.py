# SPDX-License-Identifier: Apache-2.0
"""`bench push`: a folder of results or exports goes to a data set of the Hub; without `--yes` nothing leaves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from bench.catalog import address
from bench.cli.console import err, out
from bench.errors import UserError
from bench.paths import RESULTS
from bench.units import human_bytes

PLACE = re.compile(
    r"hf://datasets/(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@(?P<revision>[\w.-]+))?(?:/(?P<path>[\w./-]+))?",
    re.ASCII,
)
NEVER = re.compile(r"\.part-|(^|/)(\.git|\.cache|\.env|__pycache__)(/|$)")
"""Half-written files, and folders that are nobody's results."""
REMEDIES = {
    401: "log in with `hf auth login`, or set HF_TOKEN to a token that may write",
    403: "use a token that may write to this data set",
    404: "create it first: `hf repos create ORG/NAME --repo-type dataset`, and use a token that may write to it",
}
"""By what the Hub answers."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What goes where."""

    to: Annotated[
        str, typer.Option("--to", help="hf://datasets/ORG/NAME[@BRANCH][/PATH].", show_default=False, metavar="PLACE")
    ] = ""
    folder: Annotated[
        Path, typer.Option("--folder", help="What to upload.", show_default="the results", metavar="FOLDER")
    ] = RESULTS
    yes: Annotated[bool, typer.Option("--yes", help="Upload; without it files are only listed.")] = False


def push(what: Pushed) -> None:
    """List what would be uploaded to a data set of the Hugging Face Hub; with --yes, upload it.

    Example: bench push --to hf://datasets/ORG/NAME --folder exported
    """
    place = PLACE.fullmatch(what.to)
    if place is None or ".." in (place["path"] or ""):
        raise UserError(f"--to {what.to} is no place to upload to" if what.to else "no place to upload to is said",
                        "write --to hf://datasets/ORG/NAME, with @BRANCH or /PATH if need be")  # fmt: skip
    if not what.folder.is_dir():
        raise UserError(f"no folder {what.folder}", "pass --folder FOLDER, or measure something first")
    names = _files(what.folder)
    if not names:
        raise UserError(f"{what.folder} holds no files", "`bench run` or `bench export` makes some")
    prefix = f"{place['path'].strip('/')}/" if place["path"] else ""
    sizes = [(what.folder / name).stat().st_size for name in names]
    total = f"{len(names)} file{'s' * (len(names) > 1)}, {human_bytes(sum(sizes))}, to {what.to}"
    for name, size in zip(names, sizes, strict=True):
        out.print(f"{human_bytes(size):>8}  {prefix}{name}", markup=False)
    if not what.yes:
        out.print(f"{total}: nothing was uploaded; --yes uploads them", markup=False)
        return
    where = _upload(what.folder, names, place["repo"], place["revision"], prefix)
    out.print(f"{total}: uploaded as {where}", markup=False)


def _files(folder: Path) -> list[str]:
    """Names below the folder in order; links are left out and named, for they may lead anywhere."""
    found = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            err.print(f"left out: {name} is a link", markup=False)
        elif path.is_file() and not NEVER.search(name):
            found.append(name)
    return found


def _upload(folder: Path, names: Sequence[str], repo: str, revision: str | None, prefix: str) -> str:
    """The commit that holds them. Raises UserError in our own words: the library's may quote a request's headers."""
    try:
        import httpx2  # what huggingface_hub of the pinned version asks through
        from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise UserError("bench push needs huggingface_hub", "pip install -e '.[publish]'") from None

    if wrong := address.fault(constants.ENDPOINT):
        raise UserError(f"HF_ENDPOINT, where your token goes: {wrong[0]}", wrong[1])
    token = get_token()
    if token is None:
        raise UserError("the Hub wants a token to upload", REMEDIES[401])
    operations = []
    for name in names:
        if token.encode() in (folder / name).read_bytes():
            raise UserError(f"{folder / name} holds your token", "remove it there; nothing was uploaded")
        operations.append(CommitOperationAdd(path_in_repo=f"{prefix}{name}", path_or_fileobj=str(folder / name)))
    try:
        commit = HfApi(token=token).create_commit(
            repo, operations, repo_type="dataset", revision=revision, commit_message="Add figures by bench push"
        )
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        remedy = REMEDIES.get(status, "try again later: what was there before is unchanged")
        raise UserError(f"the Hub refused {repo} with status {status}", remedy) from None
    except (httpx2.HTTPError, OSError) as error:
        raise UserError(f"the Hub cannot be reached: {type(error).__name__}", "try again with a network") from None
    return str(commit.oid)
