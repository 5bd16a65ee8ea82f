# SPDX-License-Identifier: Apache-2.0
"""Home's end of the link (`bench.fleet.link`): a client that refuses, dies or hangs is one line, or a new client."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.errors import UserError
from bench.fleet import link
from bench.fleet.link import APART, START, Boxes, Event, Gone, Lost, Over, RayLink, Said
from bench.fleet.wire import Box, Look, Needs

HERE = Box(id="aa", host="here", cpus=1.0)
LONG_S = 30.0


@pytest.fixture
def reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RayLink]]:
    """Links whose client is a program of these tests."""
    made: list[RayLink] = []

    def opened(address: str, **limits: Any) -> RayLink:
        made.append(RayLink(address, **limits))
        return made[-1]

    monkeypatch.setattr(link, "module", lambda _, address: [sys.executable, "-m", "tests.fleet.client", address])
    monkeypatch.setattr(link, "is_here", lambda: True)
    yield opened
    for each in made:
        each.close()


def heard(made: RayLink, count: int) -> list[Event]:
    """So many events."""
    found = [made.hear(LONG_S) for _ in range(count)]
    assert None not in found
    return [event for event in found if event is not None]


def test_what_boxes_say_comes_as_events(reach: Callable[..., RayLink]) -> None:
    """In the order in which it was said; signs of life are none."""
    made = reach("answers")
    assert heard(made, 1) == [Boxes((HERE,))]
    made.ask("one", HERE, Look(backends=("fake",)), Needs(cpus=1.0))
    said, lost, over = heard(made, 3)
    assert isinstance(said, Said) and Look.model_validate_json(said.line) == Look(backends=("fake",))
    assert (lost, over) == (Lost("another", "NodeDiedError: gone"), Over("one"))
    assert made.hear(0.01) is None


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("refuses", "ConnectionError: nobody listens"),
        ("breaks", "Segmentation fault"),
        ("mute", "no sign of life for 1 s"),
    ],
)
def test_a_cluster_that_does_not_answer_is_one_line(
    reach: Callable[..., RayLink], monkeypatch: pytest.MonkeyPatch, address: str, why: str
) -> None:
    """With its remedy, in limited time."""
    monkeypatch.setattr(link, "CONNECT_S", 1.0 if address == "mute" else LONG_S)
    with pytest.raises(UserError) as refused:
        reach(address).hear(LONG_S)
    assert (refused.value.message, refused.value.remedy) == (f"no Ray cluster answers at {address}: {why}", START)


def test_a_ray_that_cannot_be_imported_is_no_cluster_that_does_not_answer(reach: Callable[..., RayLink]) -> None:
    """Starting one would not help."""
    with pytest.raises(UserError) as refused:
        reach("broken").hear(LONG_S)
    assert refused.value.message == "Ray is installed here and cannot be imported: KeyError: 'libamd_smi.so'"
    assert refused.value.remedy == APART


def test_a_client_that_dies_is_replaced(reach: Callable[..., RayLink]) -> None:
    """What was asked is lost, and the boxes are told anew."""
    made = reach("dies")
    assert heard(made, 1) == [Boxes((HERE,))]
    made.ask("one", HERE, Look(backends=()), Needs())
    assert heard(made, 2) == [Gone("the head has gone"), Boxes((HERE,))]


def test_a_client_that_hangs_is_replaced_until_patience_ends(reach: Callable[..., RayLink]) -> None:
    """A head that does not come back ends the call in one line."""
    made = reach("hangs", silent_s=0.5, patience_s=0.2, again_s=0.01)
    assert heard(made, 2) == [Boxes((HERE,)), Gone("no sign of life for 0 s")]
    made.address = "refuses"  # the client after the next finds nobody
    with pytest.raises(UserError) as refused:
        heard(made, 1000)
    why = "has not answered for 0 s: ConnectionError: nobody listens"
    assert refused.value.message == f"the Ray cluster at refuses {why}"
    assert refused.value.remedy == "start it; the same command goes on"


def test_closing_ends_the_client(reach: Callable[..., RayLink]) -> None:
    """And with it all that boxes do for it."""
    made = reach("answers")
    heard(made, 1)
    made.close()
    assert made._client.poll() is not None
