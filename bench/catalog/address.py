# SPDX-License-Identifier: Apache-2.0
"""Where a served model may be asked, and whose key may go there: pure text, nothing is sent.

A key is the user's secret, an entry is somebody's file, and an address may be anybody's. So an entry names a variable
that holds an API key by its very name; a provider's own variable goes to that provider alone; nothing goes over plain
http but to this machine; and what another address than the entry's is sent is the caller's own choice.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

KEY_VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*_API_KEY")
"""A variable that holds nothing but a key for an API: no token of a forge or a cloud, no path, no password."""
OWN_KEY_VARIABLE = "BENCH_API_KEY"
"""Holds the key of a server that no catalogue entry names, if it wants one: never another provider's by accident."""
PROVIDERS = {
    "ANTHROPIC_API_KEY": ("anthropic.com",),
    "AZURE_OPENAI_API_KEY": ("openai.azure.com", "services.ai.azure.com"),
    "CEREBRAS_API_KEY": ("cerebras.ai",),
    "COHERE_API_KEY": ("cohere.com", "cohere.ai"),
    "DASHSCOPE_API_KEY": ("aliyuncs.com",),
    "DEEPINFRA_API_KEY": ("deepinfra.com",),
    "DEEPSEEK_API_KEY": ("deepseek.com",),
    "FIREWORKS_API_KEY": ("fireworks.ai",),
    "GEMINI_API_KEY": ("generativelanguage.googleapis.com",),
    "GOOGLE_API_KEY": ("generativelanguage.googleapis.com",),
    "GROQ_API_KEY": ("groq.com",),
    "MISTRAL_API_KEY": ("mistral.ai",),
    "MOONSHOT_API_KEY": ("moonshot.ai", "moonshot.cn"),
    "NVIDIA_API_KEY": ("nvidia.com",),
    "OPENAI_API_KEY": ("openai.com",),
    "OPENROUTER_API_KEY": ("openrouter.ai",),
    "PERPLEXITY_API_KEY": ("perplexity.ai",),
    "TOGETHER_API_KEY": ("together.xyz", "together.ai"),
    "XAI_API_KEY": ("x.ai",),
    "ZHIPUAI_API_KEY": ("bigmodel.cn",),
}
"""Variables that users have set for these providers already, and the domains that they belong to (each provider's
documentation). Any other variable was set for the entry that names it."""
PLAIN = "plain http would show the key and the questions to everyone on the way"
EVERYWHERE = {"0.0.0.0", "::"}  # noqa: S104 - what servers print of themselves; nothing is bound here
REMEDY = "give one such as http://127.0.0.1:8000/v1"


def fault(url: str) -> tuple[str, str] | None:
    """What is wrong with an address and what to do about it; None if nothing is. A secret in it is not repeated."""
    parts = _split(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        return "the API's address is none", REMEDY
    if not (url.isascii() and url.isprintable()) or " " in url:
        return "the API's address holds characters that no address has", REMEDY
    if parts.username or parts.password or parts.query or parts.fragment:
        return "the API's address holds more than a host and a path", "keys go into an environment variable"
    if parts.hostname in EVERYWHERE:
        return f"{parts.hostname} is where a server listens, not where it is", REMEDY
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        return f"{parts.hostname} is not this machine, and {PLAIN}", "give its https address, or open a tunnel to it"
    return None


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself, by its name or number alone: nobody is asked."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def same_host(one: str, other: str) -> bool:
    """Whether two addresses are one server's: host and port."""
    found = [urlsplit(url) for url in (one, other)]
    this, that = [(p.hostname, p.port or {"http": 80, "https": 443}.get(p.scheme)) for p in found]
    return this == that


def key_fault(variable: str, url: str) -> str | None:
    """Why a key may not go from that variable to that address, None if it may."""
    if not KEY_VARIABLE.fullmatch(variable):
        return f"{variable[:60]!r} is no variable of an API's key: such a name ends in _API_KEY"
    host, domains = urlsplit(url).hostname or "", PROVIDERS.get(variable)
    if domains is None or any(host == domain or host.endswith(f".{domain}") for domain in domains):
        return None
    return f"the key in {variable} belongs to {domains[0]} and not to {host}"
