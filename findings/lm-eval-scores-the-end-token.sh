#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: lm-eval 0.4.13 gives the answers "yes" and "no" of a causal model two log-likelihoods.
# Seen: where the tokenizer ends every text with </s>, both have the same one to the last bit. The context ends with
# </s> too, so that cutting its length off the whole leaves the last token alone: what is scored is </s> behind </s>,
# and an answer of one token is never read. Of a longer answer the first token is missing.
# Our answer: bench/scoring/framing.py takes the end off contexts and prompts, and says that lm-eval leaves it there.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(torch==2.13.0 transformers==5.23.0 lm_eval==0.4.13 accelerate==1.15.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

HF_HUB_OFFLINE=1 "$venv/bin/python" - <<'PY'
import sys

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=6, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
)
model = LlamaForCausalLM(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)


def answers(template):
    """What lm-eval gives two answers where the tokenizer puts that around every text."""
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2, "really": 3, "yes": 4, "no": 5}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.post_processor = processors.TemplateProcessing(single=template, special_tokens=[("<s>", 0), ("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="?")
    requests = [Instance("loglikelihood", {}, ("really", answer), 0) for answer in (" yes", " no")]
    scores = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu").loglikelihood(requests)
    return [score for score, _ in scores]


plain, ended = answers("<s> $A"), answers("<s> $A </s>")
with torch.no_grad():
    behind = model(torch.tensor([[0, 3, 1]])).logits[0, -1].log_softmax(-1)
print("a tokenizer without an end: yes %.4f, no %.4f" % tuple(plain))
print("one that ends every text:   yes %.4f, no %.4f" % tuple(ended))
print("</s> behind </s>:           %.4f" % float(behind[1]))
same = ended[0] == ended[1] and abs(ended[0] - float(behind[1])) < 1e-3
sys.exit(0 if plain[0] != plain[1] and same else 1)
PY
