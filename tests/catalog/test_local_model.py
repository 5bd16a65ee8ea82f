# SPDX-License-Identifier: Apache-2.0
"""A folder that no catalogue describes is taken for what its own config says it is."""

import json

import pytest

from bench.catalog.local_model import objective, own_model
from bench.catalog.model import Objective


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"architectures": ["RobertaForMaskedLM"], "model_type": "roberta"}, Objective.MASKED),
        ({"architectures": ["NobodysForMaskedLM"], "model_type": "of next year"}, Objective.MASKED),
        ({"architectures": ["ElectraForPreTraining"]}, Objective.MASKED),
        ({"architectures": ["RobertaForMaskedLM"], "is_decoder": True}, Objective.CAUSAL),
        ({"architectures": ["LlamaForCausalLM"], "is_encoder_decoder": False}, Objective.CAUSAL),
        ({"architectures": ["BartForConditionalGeneration"], "is_encoder_decoder": True}, Objective.SEQ2SEQ),
        ({"is_encoder_decoder": True, "model_type": "t5"}, Objective.SEQ2SEQ),
        ({"model_type": "bert"}, Objective.CAUSAL),  # it does not say; the engine that loads it refuses
        ({"architectures": None}, Objective.CAUSAL),
        ({}, Objective.CAUSAL),
    ],
)
def test_the_objective_is_what_the_config_says_whatever_the_architecture_is_called(config, expected):
    """An encoder and a decoder, or the class it was saved as; no list of names."""
    assert objective(config) is expected


def test_a_folder_s_entry_has_its_objective(tmp_path):
    """As `--weights local=FOLDER` asks for it."""
    config = {"model_type": "camembert", "architectures": ["CamembertForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert own_model(tmp_path).objective is Objective.MASKED
