#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: two prompts of one length that RWKV in transformers 5.23.0 answers together, greedily and without padding,
# get the answers that each gets alone. One pass over both is right to the last bit.
# Seen: `generate` gives them other answers. A step from the state of two rows is nats away from the step of each row
# alone, with no error and no warning: the rows are mixed up in what is carried, not in what is read.
# Our answer: bench/engines/transformers/proof.py finds it before anything is measured; one sequence at a time is left.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(torch==2.13.0 transformers==5.23.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

TRANSFORMERS_VERBOSITY=error "$venv/bin/python" - <<'PY'
import sys

import torch
from transformers import RwkvConfig, RwkvForCausalLM

torch.manual_seed(0)
model = RwkvForCausalLM(RwkvConfig(vocab_size=64, hidden_size=64, num_hidden_layers=2)).eval().double()
model.generation_config.eos_token_id = None
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.2)
prompts = torch.stack([torch.arange(2, 18), torch.arange(40, 56)])


def answers(rows):
    """Eight tokens of each row."""
    return model.generate(rows, max_new_tokens=8, do_sample=False)[:, rows.shape[1] :].tolist()


def last(rows):
    """Log-probabilities behind each row, whose last token is read from the state of those before it."""
    state = model(rows[:, :-1], use_cache=True).state
    return model(rows[:, -1:], state=state, use_cache=True).logits[:, -1].log_softmax(-1)


def apart(one, other):
    """The most that two tensors differ."""
    return float((one - other).abs().max())


with torch.no_grad():
    together, alone = answers(prompts), [answers(row[None])[0] for row in prompts]
    whole = torch.cat([model(row[None]).logits[:, -1].log_softmax(-1) for row in prompts])
    read = apart(model(prompts).logits[:, -1].log_softmax(-1), whole)
    steps = [apart(torch.cat([last(row[None]) for row in prompts]), whole), apart(last(prompts), whole)]
print("answered alone:   ", alone)
print("answered together:", together)
print(f"nats from each row alone: one pass over both {read:.2g}, a step {steps[0]:.2g}, a step of both {steps[1]:.2g}")
sys.exit(0 if together != alone and read < 1e-5 and steps[0] < 1e-5 and steps[1] > 0.1 else 1)
PY
