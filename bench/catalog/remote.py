# SPDX-License-Identifier: Apache-2.0
"""Models behind an API: their address, their name there, and the key. Nothing is sent from here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from bench.catalog import address
from bench.catalog.model import Kind, Model, Protocol, Remote
from bench.errors import UserError
from bench.units import slug

URL_VARIABLE = "BENCH_API_URL"


def addressed(model: Model, url: str | None = None) -> Model:
    """The model with the address to use: `url`, else `$BENCH_API_URL`, else the entry's own.

    An entry's key belongs to the host that the entry names: at another one it is asked with `$BENCH_API_KEY`, or
    without a key. With an address, an entry that names no API is asked there by its own name. Raises UserError for an
    address that is none, or that holds a secret.
    """
    given = url or os.environ.get(URL_VARIABLE) or None
    if given is None:
        return model
    found = checked(given)
    if model.remote is None:
        return model.model_copy(update={"remote": served(model.name, found).remote})
    own = {} if address.same_host(found, model.remote.url) else {"key_variable": address.OWN_KEY_VARIABLE}
    return model.model_copy(update={"remote": model.remote.model_copy(update={"url": found, **own})})


def named(names: Sequence[str], models: Sequence[Model], url: str) -> list[Model]:
    """Models at one address: entries by their catalogue names, anything else by the name its server knows."""
    if not names:
        raise UserError("--api-url needs a model", "name it as its server does: --model NAME")
    known = {model.name: model for model in models}
    return [addressed(known[name], url) if name in known else served(name, url) for name in names]


def served(name: str, url: str) -> Model:
    """An entry for a model that no catalogue names, at an OpenAI-compatible server."""
    own = address.OWN_KEY_VARIABLE
    remote = Remote(protocol=Protocol.OPENAI, model=name, url=checked(url), key_variable=own)
    return Model(name=slug(name), display=name, family="own", organisation="-", kind=Kind.API, remote=remote)


def checked(url: str) -> str:
    """The address without a slash at its end. Raises UserError if it is not an address, or contains a secret."""
    wrong = address.fault(url)
    if wrong:
        raise UserError(*wrong)
    return url.rstrip("/")


def host(remote: Remote) -> str:
    """Host and port."""
    return urlsplit(remote.url).netloc


def source(model: Model) -> str:
    """What a record says of where the answers come from."""
    assert model.remote is not None
    return f"{model.remote.model} at {host(model.remote)}"


def key(remote: Remote) -> str | None:
    """The key from its environment variable, None where none is needed and none is set.

    Raises UserError, which names the variable and never its value.
    """
    value = os.environ.get(remote.key_variable, "").strip()
    if not value:
        if remote.key_variable != address.OWN_KEY_VARIABLE:
            raise UserError(f"no key for {host(remote)}", f"set {remote.key_variable}")
        return None
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise UserError(f"{remote.key_variable} holds characters that no key has", "set it again without them")
    return value


def require_prices(model: Model) -> None:
    """Raise UserError unless the entry says what tokens cost: without prices no spending limit can be kept."""
    remote = model.remote
    if remote and (remote.input_usd_per_million is None or remote.output_usd_per_million is None):
        raise UserError(f"--max-cost needs the prices of {model.name}", "add them to its catalogue entry's `remote`")
