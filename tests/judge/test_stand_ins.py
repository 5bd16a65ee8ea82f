# SPDX-License-Identifier: Apache-2.0
"""Memory and speed of the same architecture, where an entry has no measurement of its own."""

from __future__ import annotations

import pytest
from builders import make_cell, make_model, make_record, memory_samples, quality_samples, speed_samples

from bench.catalog.architecture import same_architecture
from bench.judge.rows import newest
from bench.judge.stand_ins import stand_ins
from bench.plan.needs import Need
from bench.records.cell import Precision
from bench.views.overview import listing, standing_in
from bench.views.publish import base_models

TINY = make_model()
CONFIG = dict(TINY.architecture or {})
TUNE = make_model(name="tune", display="Tune", architecture=CONFIG | {"max_position_embeddings": 4096})
ADAPTER = make_model(name="adapter", display="Adapter", architecture=None, base_model="tiny")
OTHER = make_model(name="other", display="Other", architecture=CONFIG | {"hidden_size": 128})
MODELS = [TINY, TUNE, ADAPTER, OTHER]
ROWS = newest(
    [
        make_record(make_cell("memory", "int4"), measurements=memory_samples()),
        make_record(make_cell("throughput", "int4"), measurements=speed_samples()),
        make_record(make_cell("quality", "int4"), measurements=quality_samples({"a": [1.0]})),
        make_record(make_cell("memory", "int8", settings={"memory_limit_bytes": 10}), measurements=memory_samples()),
    ]
)
UNKNOWN = Need(precision=Precision.INT4, scheme=None, weights_bytes=None, peak_bytes=None, whole_bytes=None, fits=None)


def test_every_size_alike_is_the_same_architecture() -> None:
    """A row more of a large vocabulary is no other architecture; a tenth more is."""
    base = {"model_type": "llama"}
    assert same_architecture(base, base | {"vocab_size": 32001})
    assert not same_architecture(base, base | {"vocab_size": 49953})
    assert not same_architecture(base, base | {"num_hidden_layers": 40})
    assert not same_architecture(base, None)
    assert not same_architecture({"model_type": "mpt"}, {"model_type": "mpt"})


def test_an_entry_without_figures_has_those_of_its_architecture() -> None:
    """A tune's own config, an adapter's base; what has figures, or other sizes, has no stand-in."""
    found = stand_ins(MODELS, ROWS)
    assert {name: each.model.name for name, each in found.items()} == {"tune": "tiny", "adapter": "tiny"}
    assert [row.limit for row in found["tune"].rows] == [None]


def test_quality_never_stands_in() -> None:
    """Peak and decode alone."""
    assert standing_in(stand_ins(MODELS, ROWS)["tune"]) == "fake-int4 640 B, 7.5 tokens/s"


@pytest.mark.parametrize("name", ["tune", "adapter"])
def test_lists_mark_and_link_it(name: str) -> None:
    """`bench catalog` names the entry; the catalogue's page links to the figures."""
    model = next(model for model in MODELS if model.name == name)
    needed = dict.fromkeys((Precision.FP16, Precision.INT8, Precision.INT4), UNKNOWN)
    (line,) = listing([model], {name: needed}, {}, stand_ins(MODELS, ROWS)).rows
    assert line[-1] == "as tiny: fake-int4 640 B, 7.5 tokens/s"
    page = base_models([model], ROWS, MODELS)
    assert "as [Tiny](#measured), the same architecture: fake-int4 640 B, 7.5 tokens/s" in page
    assert "not measured yet" in base_models([OTHER], ROWS, MODELS)
