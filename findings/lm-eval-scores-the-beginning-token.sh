#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: where a tokenizer begins every text with <s>, lm-eval 0.4.13's rolling log-likelihood of a text (of which it
# makes perplexities) is the sum over the text's tokens, each predicted behind one <s>.
# Seen: <s> is put before a text that has one already. The second is scored too, as if it were a word of the text, and
# all tokens are predicted behind both. The figure of the same weights depends on a token that nobody wrote.
# Our answer: bench/scoring/framing.py predicts the text behind one beginning token, and says where lm-eval differs.
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

words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "?": 2, "the": 3, "fox": 4, "jumps": 5}, unk_token="?"))
words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
words.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="?")

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=6, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=64, bos_token_id=0, eos_token_id=1,
)
model = LlamaForCausalLM(config).eval()
for parameter in model.parameters():
    torch.nn.init.normal_(parameter, std=0.5)


def score(context, scored):
    """Log-probability of the scored tokens behind the context."""
    with torch.no_grad():
        logits = model(torch.tensor([context + scored])).logits[0].log_softmax(-1)
    return sum(float(logits[len(context) - 1 + place, token]) for place, token in enumerate(scored))


text = "the fox jumps"
request = Instance("loglikelihood_rolling", {}, (text,), 0)
found = HFLM(pretrained=model, tokenizer=tokenizer, device="cpu").loglikelihood_rolling([request])[0]
once, twice = score([0], [3, 4, 5]), score([0], [0, 3, 4, 5])
print("tokens:", tokenizer.encode(text))
print(f"lm-eval: {found:.3f} | the text behind one <s>: {once:.3f} | <s> and the text behind one <s>: {twice:.3f}")
sys.exit(0 if abs(found - twice) < 1e-3 < abs(found - once) else 1)
PY
