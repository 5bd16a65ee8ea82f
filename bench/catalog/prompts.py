# SPDX-License-Identifier: Apache-2.0
"""The frames in which the catalogue's fine-tuned models were trained to be asked: pure text and functions.

Each is what the project's own code or card uses; a model asked in another frame answers worse, whatever its precision.
Only generated answers are framed: log-likelihoods are taken over plain text, the same for every model. A tokenizer's
own chat template is another matter and not used here.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Template:
    """How one family of models is asked a single question."""

    text: str
    """`{instruction}` stands for the question."""
    with_input: str | None = None
    """The frame where the question comes with a text to work on, `{input}`; None to add it after the question."""
    stop: tuple[str, ...] = ()
    """Where the answer ends, besides the model's own end token: the next turn's opening."""

    def render(self, instruction: str, given: str = "") -> str:
        """The prompt for a question, and for the text it is about where there is one."""
        if given and self.with_input is not None:
            return self.with_input.replace("{instruction}", instruction).replace("{input}", given)
        return self.text.replace("{instruction}", f"{instruction}\n{given}" if given else instruction)


def template(name: str) -> Template:
    """The template of that name. Raises UserError if there is none."""
    if name not in TEMPLATES:
        raise UserError(f"no prompt template {name!r}", f"one of: {', '.join(sorted(TEMPLATES))}")
    return TEMPLATES[name]


_TASK = "Below is an instruction that describes a task. "
_PAIRED = "Below is an instruction that describes a task, paired with an input that provides further context. "
_ASK = "Write a response that appropriately completes the request.\n\n"
_ALPACA = _TASK + _ASK + "### Instruction:\n{instruction}\n\n### Response:"
_ALPACA_INPUT = _PAIRED + _ASK + "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
_NEXT_INSTRUCTION = ("### Instruction:",)
_VICUNA = (
    "A chat between a curious {user} and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the {user}'s questions."
)
_BAIZE = (
    "The following is a conversation between a human and an AI assistant named Baize (named after a mythical creature "
    "in Chinese folklore). Baize is an open-source AI assistant developed by UCSD and Sun Yat-Sen University. The "
    "human and the AI assistant take turns chatting. Human statements start with [|Human|] and AI assistant statements "
    "start with [|AI|]. The AI assistant always provides responses in as much detail as possible, and in Markdown "
    "format. The AI assistant always declines to engage with topics, questions and instructions related to unethical, "
    "controversial, or sensitive issues. Complete the transcript in exactly that format.\n"
    "[|Human|]Hello!\n[|AI|]Hi!\n[|Human|]{instruction}\n[|AI|]"
)
TEMPLATES = {
    "alpaca": Template(text=_ALPACA + "\n", with_input=_ALPACA_INPUT + "\n", stop=_NEXT_INSTRUCTION),
    # Stanford's training code ends after the colon, Alpaca-LoRA's with a newline.
    "alpaca-short": Template(text=_ALPACA, with_input=_ALPACA_INPUT, stop=_NEXT_INSTRUCTION),
    "baize": Template(text=_BAIZE, stop=("[|Human|]", "[|AI|]")),
    "belle": Template(text="Human: {instruction}\n\nAssistant:", stop=("\n\nHuman:",)),
    "chatglm": Template(text="{instruction}", stop=("\n[Round ",)),
    "chinese-alpaca": Template(
        text=_TASK + _ASK + "### Instruction:\n\n{instruction}\n\n### Response:\n\n", stop=_NEXT_INSTRUCTION
    ),
    "dolly": Template(
        text=_ALPACA + "\n",
        with_input=_TASK + _ASK + "### Instruction:\n{instruction}\n\nInput:\n{input}\n\n### Response:\n",
        stop=("### End", *_NEXT_INSTRUCTION),
    ),
    "firefly": Template(text="<s>{instruction}</s></s>", stop=("</s>",)),
    "gpt4all": Template(text="{instruction}\n"),
    "instruct-gpt-j": Template(text="{instruction}\n"),
    "koala": Template(text="BEGINNING OF CONVERSATION: USER: {instruction} GPT:", stop=("USER:",)),
    "llama-adapter": Template(text=_ALPACA + "\n", with_input=_ALPACA_INPUT + "\n", stop=_NEXT_INSTRUCTION),
    "stackllama": Template(text="Question: {instruction}\n\nAnswer: ", stop=("\nQuestion:",)),
    "vicuna-v0": Template(
        text=_VICUNA.replace("{user}", "human") + "\n\n### Human: {instruction}\n### Assistant:", stop=("### Human:",)
    ),
    "vicuna-v1.1": Template(
        text=_VICUNA.replace("{user}", "user") + " USER: {instruction} ASSISTANT:", stop=("USER:",)
    ),
}
"""By the name that a catalogue entry's `template` gives."""
