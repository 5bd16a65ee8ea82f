# SPDX-License-Identifier: Apache-2.0
"""What a repository of the Hub holds, through range requests: headers and configs, no weights."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.catalog import dimensions, gguf_file, gguf_folder, gguf_model
from bench.catalog.contents import BITS, Contents, Stored, label_of, of_gguf
from bench.catalog.gguf_file import BadGguf, CutShort, Gguf
from bench.catalog.local_model import Format, objective, told_by
from bench.catalog.model import Kind, Model
from bench.engines.weights.files import asking_the_hub
from bench.errors import UserError
from bench.records.parsing import parse_json
from bench.units import human_bytes, slug

if TYPE_CHECKING:
    from huggingface_hub.utils import SafetensorsRepoMetadata

TARGET = re.compile(r"(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^@]+?))?(/(?P<file>[^@]+\.gguf))?(@(?P<after>[^@]+))?")
"""ORG/NAME, a revision behind the name or the file, as the Hub's own paths have it, and a GGUF in it."""
SPLIT = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<parts>\d{5})\.gguf")
"""How llama.cpp names the parts of a split model."""
FIRST_BYTES, FACTOR, MOST_BYTES = 2 << 20, 4, 256 << 20
"""Of a header: what is asked for first, what each further request multiplies it by, and what none has. The tokenizer
makes 2 to 8 MB of it, so that one or two requests read nearly every header."""
SERVER_FAULT, PARTIAL = 500, 206
"""Of HTTP: the first status of a server that fails, and that of a part of a file."""
ONCE = 8
"""Parts of a split model that are asked for at once."""
SPLITTING = "split."
"""Fields that say which part a file is: of all parts together they say nothing."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A model of the Hub, seen by its headers."""

    model: Model
    contents: Contents
    lies: Format


def looked_up(target: str) -> Remote:
    """The model of `ORG/NAME[@REVISION][/FILE.gguf]`: its safetensors, or the one GGUF that it holds or that is named.

    Of a split model any part stands for all. Raises as `asking_the_hub`, and UserError with all files where several
    could be meant.
    """
    asked = TARGET.fullmatch(target.strip("/"))
    if asked is None:
        raise UserError(
            f"no repository hf://{target}", "hf://ORG/NAME, hf://ORG/NAME@REVISION or hf://ORG/NAME/FILE.gguf"
        )
    repo, revision = asked["repo"], asked["revision"] or asked["after"]
    try:
        import huggingface_hub  # noqa: F401 - said here, before anything is asked
    except ImportError:
        raise UserError("huggingface_hub is not installed", 'pip install "huggingface_hub"') from None
    with asking_the_hub(repo, revision), _reached(repo):
        if asked["file"]:
            return _of_gguf(repo, revision, asked["file"])
        return _of_safetensors(repo, revision) or _of_gguf(repo, revision, _only(repo, revision))


@contextmanager
def _reached(repo: str) -> Iterator[None]:
    """What keeps the Hub from answering, as one line; how it refuses is left to `asking_the_hub`.

    The library wraps what it meets on the way to a whole file, and nothing else.
    """
    import httpx2  # what huggingface_hub of the pinned version asks through
    from huggingface_hub.errors import HfHubHTTPError

    remedy = "try again later, or inspect a folder or a file of this machine"
    try:
        yield
    except (OSError, httpx2.TransportError) as error:
        cause = error if isinstance(error, HfHubHTTPError) else error.__cause__ or error
        if not isinstance(cause, HfHubHTTPError):
            raise UserError(f"the Hub cannot be asked for {repo} ({type(cause).__name__})", remedy) from None
        status = cause.response.status_code if cause.response is not None else SERVER_FAULT
        if status < SERVER_FAULT:
            raise
        raise UserError(f"the Hub answers for {repo} with status {status}", remedy) from None


def _of_safetensors(repo: str, revision: str | None) -> Remote | None:
    """By its config and its safetensors; None where it lacks either."""
    from huggingface_hub import get_safetensors_metadata, get_session, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, NotASafetensorsRepoError
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    damaged = UserError(f"{repo}: its config.json or a header is no JSON object", "name a repository that is whole")
    try:  # asked once: without a network the library would ask six times, within half a minute
        answer = get_session().get(hf_hub_url(repo, "config.json", revision=revision), headers=build_hf_headers())
        hf_raise_for_status(answer)
        config = parse_json(answer.content.decode())
        metadata = get_safetensors_metadata(repo, revision=revision) if isinstance(config, dict) else None
    except (EntryNotFoundError, NotASafetensorsRepoError):
        return None
    except ValueError:
        raise damaged from None
    if not isinstance(config, dict) or metadata is None:
        raise damaged
    dimensions.check(config, Path(repo) / "config.json")
    model = Model(
        name=slug(repo), display=repo, family="own", organisation="-", kind=Kind.OPEN, repo=repo,
        objective=objective(config), architecture=config,
    )  # fmt: skip
    contents = Contents(tensors=tuple(_tensors(metadata)), label=label_of(config))
    return Remote(model=model, contents=contents, lies=Format.HUB)


def _tensors(metadata: SafetensorsRepoMetadata) -> list[Stored]:
    found = []
    for file in metadata.files_metadata.values():
        for name, info in file.tensors.items():
            start, end = info.data_offsets
            elements = (end - start) * 8 // BITS.get(info.dtype, 8) if not info.shape else info.parameter_count
            found.append(Stored(name, info.dtype, elements, end - start))
    return found


def _only(repo: str, revision: str | None) -> str:
    """The one GGUF of a repository, of a split one its first part. Raises UserError that lists them otherwise."""
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    tree = HfApi().list_repo_tree(repo, recursive=True, revision=revision)
    sizes = {one.path: one.size for one in tree if isinstance(one, RepoFile) and one.path.endswith(".gguf")}
    found = _together(sizes)
    if not found:
        raise UserError(
            f"{repo} holds neither a config.json with safetensors nor a .gguf file", "name a repository that does"
        )
    if len(found) > 1:
        listed = ", ".join(f"{name} ({human_bytes(size)})" for name, size in found.items())
        at = f"@{revision}" if revision else ""
        raise UserError(
            f"{repo} holds {len(found)} GGUF files: {listed}",
            f"name the one that is meant: bench inspect hf://{repo}{at}/{next(iter(found))}",
        )
    return next(iter(found))


def _together(sizes: Mapping[str, int]) -> dict[str, int]:
    """Bytes by file, the parts of a split model together under the first one's name."""
    found: dict[str, int] = {}
    for name in sorted(sizes):
        first = _parts(name)[0]
        found[first] = found.get(first, 0) + sizes[name]
    return found


def _parts(name: str) -> list[str]:
    """Every part of the model that a file is a part of: itself alone where it is whole."""
    split = SPLIT.fullmatch(name)
    if split is None:
        return [name]
    return [f"{split['stem']}-{part:05}-of-{split['parts']}.gguf" for part in range(1, int(split["parts"]) + 1)]


def _of_gguf(repo: str, revision: str | None, name: str) -> Remote:
    """By the header of a GGUF, or of all parts of a split one."""
    from huggingface_hub.errors import EntryNotFoundError

    parts = _parts(name)
    try:
        with ThreadPoolExecutor(ONCE) as pool:
            header = _joined(list(pool.map(lambda part: _header(repo, revision, part), parts)))
    except EntryNotFoundError:
        whole = f" or not all of its {len(parts)} parts" if len(parts) > 1 else ""
        raise UserError(f"{repo} holds no {name}{whole}", f"what it holds: bench inspect hf://{repo}") from None
    if reason := gguf_folder.no_model(header):
        raise UserError(f"{name} is {reason}", "name the model's own file")
    config = told_by([header], Path(name))
    held = gguf_model.header_in(config)
    model = Model(
        name=slug(Path(name).stem), display=f"{repo}/{name}", family="own", organisation="-", kind=Kind.OPEN, repo=repo,
        architecture=config, gguf_repo=repo, gguf_file=name, parameters=held.elements if held else None,
    )  # fmt: skip
    return Remote(model=model, contents=of_gguf(header), lies=Format.GGUF)


def _joined(headers: Sequence[Gguf]) -> Gguf:
    """The header that the whole file would have."""
    first = headers[0]
    if len(headers) == 1:
        return first
    metadata = {key: value for key, value in first.metadata.items() if not key.startswith(SPLITTING)}
    return Gguf(metadata, tuple(tensor for header in headers for tensor in header.tensors))


def _header(repo: str, revision: str | None, name: str) -> Gguf:
    """The header of one file, read from its beginning as far as it goes. Raises UserError for one that is damaged."""
    from huggingface_hub import hf_hub_url

    url, data, wanted = hf_hub_url(repo, name, revision=revision), b"", FIRST_BYTES
    while True:
        more, size = _range(url, len(data), wanted, name)
        data += more
        try:
            return gguf_file.parse(data, size)
        except BadGguf as error:
            if not isinstance(error, CutShort) or not more or len(data) >= min(size, MOST_BYTES):
                raise UserError(f"{repo}: {name}: {error}", "name another file") from None
        wanted = min(FACTOR * wanted, MOST_BYTES)


def _range(url: str, start: int, stop: int, name: str) -> tuple[bytes, int]:
    """The bytes of a file from `start` until before `stop`, and the bytes of all of it."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

    asked = {**build_hf_headers(), "Range": f"bytes={start}-{stop - 1}"}
    with get_session().stream("GET", url, headers=asked) as answer:
        if answer.is_error:
            answer.read()
            hf_raise_for_status(answer)
        size = answer.headers.get("Content-Range", "").rpartition("/")[2]
        if answer.status_code != PARTIAL or not size.isdigit():  # all of it would come, which may be many GB
            raise UserError(f"the server of {name} sends no part of a file", "download it and inspect the file")
        return answer.read(), int(size)
