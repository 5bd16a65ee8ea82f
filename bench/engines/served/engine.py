# SPDX-License-Identifier: Apache-2.0
"""A server that we launch, as a TextEngine: asked for plain completions, watched, and stopped when it is closed."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import JsonValue

from bench.catalog import launch as launches
from bench.catalog.address import OWN_KEY_VARIABLE
from bench.catalog.launch import CLIENTS, CONTEXT, Launch
from bench.catalog.model import Protocol, Remote
from bench.engines.abilities import ScoredToken, TextNotShown
from bench.engines.contract import LoadRequest, Reply, Stopped, TextEngine, Unsupported
from bench.engines.http_api.engine import ApiEngine
from bench.engines.http_api.protocols import Anthropic, Completions, OpenAI
from bench.engines.http_api.transport import BadRequest, Client
from bench.engines.served import pool, prompt_log_probs
from bench.engines.served.prompt_log_probs import Form, NotShown
from bench.engines.served.server import Server
from bench.engines.weights.fingerprints import fingerprint, fingerprints, weight_files
from bench.engines.weights.locate import package_file
from bench.errors import UserError
from bench.records.cell import Weights, digest
from bench.records.record import Caveat, Provenance

ATTEMPTS = 2
"""A server on this machine has no network between: what fails twice fails."""
ONE_SEQUENCE = {"llama-cpp-python"}
"""Servers whose pool is what one sequence may have; others hold more than that, of a size that they alone know."""
SETTLE_S = 0.5
"""After a failure its end may not have been noticed yet."""
UNPROVEN = "the server's log-probabilities of prompts are not used"


class LaunchedEngine(ApiEngine):
    """One launched server. It is asked once at the start, after it says that it is healthy."""

    def __init__(self, request: LoadRequest) -> None:
        assert request.launch is not None
        self.launch: Launch = launches.parsed(request.launch[0])
        self.launched = self.launch.told
        self.entry = request.model
        path, self.found = located(request)
        if path is None and "path" in self.launch.places:
            raise UserError("{path} has no weights on this disk to stand for", "name them: --weights local=PATH")
        self.files_bytes = _bytes(path)
        self.owns = True
        """Whether closing this stops the server: not of another client of it."""
        self._proof: tuple[Form | None, str] | None = None
        self.server = Server(self.launch, path=str(path or ""), repo=request.model.repo or "", folder=request.launch[1])
        try:
            name = self.server.wait()
            url = f"http://127.0.0.1:{self.server.port}/v1"
            remote = Remote(protocol=Protocol.OPENAI, model=name, url=url, key_variable=OWN_KEY_VARIABLE)
            super().__init__(replace(request, model=request.model.model_copy(update={"remote": remote})))
        except BaseException:
            self.server.stop()
            raise
        self.source = self.found.source
        told = ", ".join(filter(None, (self.found.revision, self.server.version() or self.version)))
        self.found = self.found.model_copy(update={"revision": told or None})

    def asked_by(self) -> type[OpenAI | Anthropic]:
        """Plain completions: what other engines are asked, without a chat template around it."""
        return Completions

    def connected(self, sleep: object = time.sleep, attempts: int = ATTEMPTS) -> Client:
        """As every client of a server on this machine."""
        return super().connected(attempts=attempts)

    def greet(self) -> None:
        """Ask once. Raises UserError, with what the server said last where it has ended."""
        try:
            self.reply("Say hello.", max_tokens=8)
        except Stopped as error:
            raise UserError(f"the server is healthy and does not answer: {error}", "look at what it prints") from None

    def reply(self, prompt: str, *, max_tokens: int, stops: Sequence[str] = ()) -> Reply:
        """As any server's. Raises ServerEnded, DoesNotFit where no answer came because it is not there any more."""
        try:
            return super().reply(prompt, max_tokens=max_tokens, stops=stops)
        except Stopped:
            self.server.require_alive(SETTLE_S)
            raise

    def may_ask(self, bound: float) -> None:
        """Raises ServerEnded, DoesNotFit where the server is not there any more."""
        self.server.require_alive()

    @property
    def provenance(self) -> Provenance:
        """The weights that it was given, and its command among what decides an answer.

        `revision` is the server's version, behind that of weights from the Hub.
        """
        return self.found

    @property
    def caveats(self) -> tuple[Caveat, ...]:
        """That nothing bounds its pool, if so, beside what every server's answers may carry."""
        found = list(super().caveats)
        if not self.launch.sizes_the_pool:
            found.append(
                Caveat(
                    kind="pool_not_set", text="the launch leaves the size of the cache to the server",
                    advice="write {pool} or {context} where it takes one: memory is then that of a known cache",
                )
            )  # fmt: skip
        return tuple(found)

    @property
    def pool_bytes(self) -> tuple[int, int | None, str] | None:
        """As the server has printed it, else as the launch has sized it."""
        found = pool.told_by(self.server.whole_log())
        if found is None and "pool" in self.launch.places:
            found = pool.computed(self.entry, CONTEXT * CLIENTS)
        elif found is None and "context" in self.launch.places and self.launch.server in ONE_SEQUENCE:
            found = pool.computed(self.entry, CONTEXT)
        return None if found is None else (found.total_bytes, found.tokens, found.told)

    def another_client(self) -> TextEngine:
        """This server over a connection of its own."""
        other = copy.copy(self)
        other.client, other.owns = self.connected(), False
        return other

    # Log-probabilities of texts.

    def unproven(self) -> str:
        """Why its log-probabilities of prompts are not used, asked of the server once."""
        if self._proof is None:
            self._proof = self._proven()
        return self._proof[1]

    def _proven(self) -> tuple[Form | None, str]:
        reasons = []
        for form in prompt_log_probs.FORMS:
            try:
                reason = prompt_log_probs.refuted(self._completed, form)
            except (NotShown, BadRequest, Stopped):  # the last for one that fails where it should refuse
                self.server.require_alive(SETTLE_S)
                continue
            if not reason:
                return form, ""
            reasons.append(reason)
        return None, f"{UNPROVEN}: {reasons[0]}" if reasons else "the server shows no log-probabilities of prompts"

    def _completed(self, body: Mapping[str, JsonValue]) -> JsonValue:
        asked = {"model": self.remote.model, **body}
        return self.client.whole(self.protocol.path, asked, before=partial(self.may_ask, 0.0))

    def scored(self, text: str) -> list[ScoredToken]:
        """The tokens of a text. Raises Unsupported where they are not shown of this one."""
        reason = self.unproven()
        form = self._proof[0] if self._proof else None
        if form is None:
            raise Unsupported(reason)
        try:
            return prompt_log_probs.scored(self._completed, form, text)
        except (NotShown, Stopped):
            self.server.require_alive(SETTLE_S)
            raise TextNotShown("the server does not show the tokens of every text") from None
        except BadRequest as error:
            raise Unsupported(f"the server refuses a text: {error}") from None

    def close(self) -> None:
        """Close the connection, and stop the server with everything it started."""
        super().close()
        if self.owns:
            self.server.stop()


def located(request: LoadRequest) -> tuple[Path | None, Provenance]:
    """Where the weights lie on this disk, None where the server fetches them itself, and what a record says of them."""
    assert request.launch is not None
    line = launches.parsed(request.launch[0]).told
    mark = {"launch line": f"{len(line)}:{digest(line)}"}
    model = request.model
    if request.weights is Weights.LOCAL:
        path = Path(str(request.path))
        files = {path.name: fingerprint(path)} if path.is_file() else fingerprints(path)
        return path, Provenance(source=path.name, files=files | mark)
    if request.weights is Weights.PACKAGE:
        path, version = package_file(model)
        files = {path.name: fingerprint(path)}
        return path, Provenance(source=f"{model.package} {version}", files=files | mark)
    if model.repo is None:
        raise Unsupported(f"{model.name} has no repository to serve")
    return None, Provenance(source=model.repo, revision=model.revision, files=mark)


def _bytes(path: Path | None) -> int:
    if path is None:
        return 0
    return sum(file.stat().st_size for file in ([path] if path.is_file() else weight_files(path)))
