"""NAT's `llms` as our models."""

import re
from collections.abc import Callable
from typing import Any

from kickwheel.agents.nat.written import Entry

NVIDIA = "https://integrate.api.nvidia.com/v1"
_LITELLM: dict[str, tuple[str, str | None, str]] = {
    "openai": ("openai", None, "OPENAI_API_KEY"),
    "nvidia_nim": ("openai", NVIDIA, "NVIDIA_API_KEY"),
    "ollama": ("openai", "http://localhost:11434/v1", "OLLAMA_API_KEY"),
    "ollama_chat": ("openai", "http://localhost:11434/v1", "OLLAMA_API_KEY"),
    "openrouter": ("openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "groq": ("openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": ("openai", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": ("openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together_ai": ("openai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "hosted_vllm": ("openai", "http://localhost:8000/v1", "HOSTED_VLLM_API_KEY"),
    "anthropic": ("anthropic", None, "ANTHROPIC_API_KEY"),
    "bedrock": ("bedrock", None, ""),
}
"""By LiteLLM's prefix: our kind, where it is, and the key's variable."""

_SAMPLING = "is set by whoever asks, in the request: an app file has no default for it"
_RETRIES = "nothing to set: failed requests are repeated up to three times"
_TUNED = "nothing here searches for better values of it"
_TIME = "an agent's timeout_s says how long a whole run may take"
_PASSED_ON = "no model of ours passes it on: set it where the model is served"


def model(entry: Entry) -> dict[str, Any]:
    """The entry of `models` that an entry of `llms` becomes."""
    made = _MADE.get(entry.type, _stranger)(entry)
    for key in ("temperature", "top_p", "top_k", "seed", "repetition_penalty"):
        entry.moot(key, _SAMPLING)
    for key in ("do_auto_retry", "num_retries", "retry_on_status_codes", "retry_on_errors"):
        entry.moot(key, _RETRIES)
    entry.moot("max_retries", _RETRIES)
    entry.moot("optimizable_params", _TUNED)
    entry.moot("search_space", _TUNED)
    entry.moot("request_timeout", _TIME)
    entry.moot("timeout", _TIME)
    entry.moot("context_size", "the server knows how much its model reads")
    entry.todo("thinking", "ask for it in the agent's instructions, as the model's card says")
    entry.todo("api_type", "models are asked for chat completions: serve the model with them")
    entry.todo(
        "verify_ssl", "certificates are always checked: name your authority by SSL_CERT_FILE"
    )
    return made


def length(entry: Entry) -> int | None:
    """Tokens of an answer at most, which NAT says of the model and we of the agent."""
    found = entry.number("max_tokens", "max_new_tokens")
    entry.rest(_PASSED_ON)
    return None if found is None else int(found)


def _openai(entry: Entry, url: str | None = None, key: str = "OPENAI_API_KEY") -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "openai", "model": _name(entry)}
    address = entry.text("base_url", "endpoint_url")
    if address or url:
        made["base_url"] = address or url
    if "api_key" in entry or key != "OPENAI_API_KEY":
        # Nobody else than its maker is to be shown a key that stands under the maker's name.
        mine = f"{re.sub(r'[^A-Za-z0-9]+', '_', entry.name).upper()}_API_KEY" if address else key
        made["api_key"] = entry.secret("api_key", mine if "api_key" in entry else key)
    return made


def _nim(entry: Entry) -> dict[str, Any]:
    return _openai(entry, NVIDIA, "NVIDIA_API_KEY")


def _azure(entry: Entry) -> dict[str, Any]:
    """Azure's own v1 address, which takes OpenAI's protocol as it is and no version."""
    endpoint = (entry.text("azure_endpoint") or "https://RESOURCE.openai.azure.com").rstrip("/")
    if "RESOURCE" in endpoint:
        entry.written.tell(
            entry.where, "write the resource's name into base_url of the app", act=True
        )
    entry.moot("api_version", "nothing to set: Azure's address /openai/v1 needs no version")
    return {
        "kind": "openai",
        "model": entry.text("azure_deployment", "model_name", "model") or "DEPLOYMENT",
        "base_url": f"{endpoint}/openai/v1",
        "api_key": entry.secret("api_key", "AZURE_OPENAI_API_KEY"),
    }


def _bedrock(entry: Entry) -> dict[str, Any]:
    made: dict[str, Any] = {"kind": "bedrock", "model": _name(entry)}
    region, url = entry.text("region_name"), entry.text("base_url")
    if region not in (None, "None"):
        made["region"] = region
    if url:
        made["base_url"] = url
    entry.todo("credentials_profile_name", "export AWS_PROFILE with this name")
    return made


def _litellm(entry: Entry) -> dict[str, Any]:
    named = _name(entry)
    prefix, slash, rest = named.partition("/")
    kind, url, key = _LITELLM.get(prefix, ("openai", None, "OPENAI_API_KEY"))
    if prefix not in _LITELLM and slash and "base_url" not in entry:
        entry.written.tell(
            entry.where,
            f"LiteLLM knows where {prefix} is, we do not: write base_url and api_key of any "
            "address of it that speaks OpenAI's protocol, such as a LiteLLM proxy's",
            act=True,
        )
    if kind != "openai":
        made: dict[str, Any] = {"kind": kind, "model": rest}
        if kind == "anthropic" and "api_key" in entry:
            made["api_key"] = entry.secret("api_key", key)
        return made
    made = _openai(entry, url, key)
    made["model"] = rest if prefix in _LITELLM and slash else named
    return made


def _huggingface(entry: Entry) -> dict[str, Any]:
    """A model that NAT runs in its own process: ours runs in one of its own."""
    entry.moot("device", "nothing to set: the engine takes what the machine has")
    entry.moot("dtype", "nothing to set: the engine decides")
    entry.moot("trust_remote_code", "no code of a model is ever run")
    return {"kind": "local", "base": f"hf:{_name(entry)}"}


def _inference(entry: Entry) -> dict[str, Any]:
    return _openai(entry, "https://router.huggingface.co/v1", "HF_TOKEN")


def _stranger(entry: Entry) -> dict[str, Any]:
    kind = entry.type or "none"
    entry.written.tell(
        entry.where,
        f'models of _type "{kind}" have no counterpart: base_url and api_key of any address that '
        "speaks OpenAI's protocol will do",
        act=True,
    )
    return {"kind": "openai", "model": _name(entry)}


def _name(entry: Entry) -> str:
    return entry.text("model_name", "model", "azure_deployment") or entry.name


_MADE: dict[str, Callable[[Entry], dict[str, Any]]] = {
    "openai": _openai,
    "nim": _nim,
    "dynamo": _openai,
    "azure_openai": _azure,
    "aws_bedrock": _bedrock,
    "litellm": _litellm,
    "huggingface": _huggingface,
    "huggingface_inference": _inference,
}
