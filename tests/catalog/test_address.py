# SPDX-License-Identifier: Apache-2.0
"""A key goes to the host that its entry names, over nothing that others can read, and to no other host."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import make_model

from bench.catalog import remote
from bench.catalog.address import fault, is_loopback, key_fault, same_host
from bench.catalog.entries import read_catalog
from bench.catalog.model import Kind, Protocol, Remote
from bench.errors import UserError

ENTRY = """\
family: test
organisation: Tests
models:
  - name: served
    display: Served
    kind: api only
    remote: {{protocol: openai, model: m, url: '{url}', key_variable: {key}{more}}}
"""


def read(folder: Path, url: str = "https://api.example.org/v1", key: str = "EXAMPLE_API_KEY", more: str = "") -> None:
    """Read a catalogue with one served entry."""
    (folder / "test.yaml").write_text(ENTRY.format(url=url, key=key, more=more))
    read_catalog(folder)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_is_known_by_name_or_number(host: str) -> None:
    """Without asking anybody for an address."""
    assert is_loopback(host)
    assert not is_loopback(f"{host}.example.org")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://192.168.0.4:8000/v1", "192.168.0.4 is not this machine, and plain http"),
        ("http://localhost.example.org", "localhost.example.org is not this machine"),
        ("http://0.0.0.0:8000", "0.0.0.0 is where a server listens"),
        ("ftp://example.org", "is none"),
        ("https://", "is none"),
        ("https://example.org:port", "is none"),
        ("https://example.org:99999", "is none"),
        ("https://user:secret@example.org", "more than a host and a path"),
        ("https://example.org/v1?key=secret", "more than a host and a path"),
        ("https://example.org/v1\r\nX-Header: 1", "characters that no address has"),
        ("https://exämple.org", "characters that no address has"),
    ],
)
def test_an_address_that_must_not_be_asked_is_one_line(url: str, words: str) -> None:
    """From an option, the environment or an entry, and whatever secret stands in it is not repeated."""
    with pytest.raises(UserError, match=words) as caught:
        remote.served("m", url)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://[::1]:8000", "http://localhost", "https://h/v1/"])
def test_https_and_this_machine_may_be_asked(url: str) -> None:
    """With or without a port and a path."""
    assert fault(url) is None
    assert remote.checked(url) == url.rstrip("/")


@pytest.mark.parametrize(
    ("variable", "url", "words"),
    [
        ("AWS_SECRET_ACCESS_KEY", "https://example.org", "is no variable of an API's key"),
        ("GITHUB_TOKEN", "https://example.org", "is no variable of an API's key"),
        ("HOME", "https://example.org", "is no variable of an API's key"),
        ("_API_KEY", "https://example.org", "is no variable of an API's key"),
        ("X_API_KEY_FILE", "https://example.org", "is no variable of an API's key"),
        ("OPENAI_API_KEY", "https://example.org", "belongs to openai.com and not to example.org"),
        ("OPENAI_API_KEY", "https://openai.com.example.org", "belongs to openai.com"),
        ("OPENAI_API_KEY", "https://notopenai.com", "belongs to openai.com"),
        ("OPENAI_API_KEY", "http://127.0.0.1:8000", "belongs to openai.com and not to 127.0.0.1"),
    ],
)
def test_an_entry_cannot_take_what_was_set_for_others(variable: str, url: str, words: str, tmp_path: Path) -> None:
    """Neither any variable of the environment nor a provider's own; the line says file, line, entry and field."""
    with pytest.raises(UserError, match=words) as caught:
        read(tmp_path, url, variable)
    assert str(caught.value).startswith(f"{tmp_path / 'test.yaml'}:7: entry 'served' field 'remote.key_variable': ")


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("OPENAI_API_KEY", "https://api.openai.com/v1"),
        ("OPENAI_API_KEY", "https://eu.api.openai.com"),
        ("AZURE_OPENAI_API_KEY", "https://mine.openai.azure.com/openai"),
        ("MY_OWN_2_API_KEY", "https://example.org"),
    ],
)
def test_a_key_of_its_own_goes_to_the_host_of_its_entry(variable: str, url: str) -> None:
    """A provider's to its domain and what lies under it; any other was set for the entry that names it."""
    assert key_fault(variable, url) is None


def test_no_entry_names_the_callers_own_key(tmp_path: Path) -> None:
    """It was set for what --api-url says."""
    with pytest.raises(UserError, match=r"field 'remote.key_variable': BENCH_API_KEY goes where its owner says"):
        read(tmp_path, key="BENCH_API_KEY")


@pytest.mark.parametrize("price", [".inf", ".nan", "-1.0"])
def test_a_price_is_a_number(price: str, tmp_path: Path) -> None:
    """A limit of spending counts with it."""
    with pytest.raises(UserError, match=r"field 'remote.input_usd_per_million'"):
        read(tmp_path, more=f", input_usd_per_million: {price}")


@pytest.mark.parametrize(
    ("url", "variable"),
    [
        ("https://api.example.org", "EXAMPLE_API_KEY"),
        ("https://api.example.org:443/v1/", "EXAMPLE_API_KEY"),
        ("https://API.example.org/other", "EXAMPLE_API_KEY"),
        ("https://api.example.org:8443/v1", "BENCH_API_KEY"),
        ("https://example.org/v1", "BENCH_API_KEY"),
        ("http://127.0.0.1:1/v1", "BENCH_API_KEY"),
    ],
)
@pytest.mark.parametrize("by", ["option", "environment"])
def test_an_entrys_key_does_not_follow_to_another_host(
    url: str, variable: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Host and port decide, whether --api-url or the environment names the address; the model's name there stays."""
    asked = Remote(
        protocol=Protocol.ANTHROPIC, model="m", url="https://api.example.org/v1", key_variable="EXAMPLE_API_KEY"
    )
    model = make_model(name="served", kind=Kind.API, repo=None, architecture=None, remote=asked)
    monkeypatch.delenv("BENCH_API_URL", raising=False)
    if by == "environment":
        monkeypatch.setenv("BENCH_API_URL", url)
    found = remote.addressed(model, url if by == "option" else None).remote
    assert found is not None
    assert (found.key_variable, found.url, found.model) == (variable, url.rstrip("/"), "m")
    assert same_host(url, asked.url) == (variable == "EXAMPLE_API_KEY")
