"""Passwords, tokens and API keys: known by their shape, or by the word before them."""

import re
from collections.abc import Mapping
from typing import Any

from kickwheel.core.redact.names import Names

SHORTEST_KEY = 14
"""Characters of the shortest key that is known by its shape alone."""
SHORTEST_PASSWORD = 8
"""Characters of the shortest key of ours that is secret."""

# Marks without which a pattern cannot match: `in` is far cheaper than the patterns.
_SHAPED = ("AKIA", "ASIA", "AIza", "eyJ")
_SHAPED_ = (
    "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat", "hf_", "k_live_", "k_test_", "npm_",
    "whsec_",
)  # fmt: skip
"""The same, of keys that have a `_`, which prose seldom has."""
_SHAPED_DASH = ("sk-", "glpat-", "xox", "nvapi-")
"""The same, of keys that have a `-`."""
_SECRET = ("passw", "apikey", "api_key", "api-key", "secret", "access", "private", "auth")
_SECRET_TOO = ("passw", "secret", "key", "token")
"""One of these as well: fewer to look for where there are none."""
_BLOCK = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
KEY = re.compile(
    r"""(?<![\w-])(?:
        sk-(?=[A-Za-z_-]{0,40}\d)[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic
      | (?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])            # AWS
      | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{22,}
      | glpat-[\w-]{20,} | hf_[A-Za-z0-9]{20,} | npm_[A-Za-z0-9]{36}
      | xox[abeoprs]-[\w-]{10,} | AIza[\w-]{35} | nvapi-[\w-]{20,}
      | [prs]k_(?:live|test)_[A-Za-z0-9]{10,} | whsec_[A-Za-z0-9+/=]{16,}
      | eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*                  # JWT
    )""",
    re.VERBOSE | re.ASCII,
)
_BEARER = re.compile(r"\b(bearer\s+)((?=[^\s\"']*\d)[\w.~+/-]{16,}=*)", re.IGNORECASE | re.ASCII)
_URL_PASSWORD = re.compile(r"(://[^\s/:@]+:)([^\s/@]{3,})(?=@)")
ASSIGNED = re.compile(
    r"""((?:api[_-]?key|(?:secret|access|private)[_-]?key|(?:access|auth|secret)[_-]?token
        |client[_-]?secret|passwor[dt]|passwd)\\?["']?\s*(?:[:=]|\bis\b)\s*\\?["']?)
        ((?=[^\s"',;<]*\d)[^\s"',;<>\\]{8,})""",
    re.VERBOSE | re.IGNORECASE,
)
KEY_NAME = re.compile(r"passwor[dt]|passwd|secret|api_?key|access_?key|private_?key|auth\w*_?token")
"""What keys stand under in JSON, in lower case."""


def secrets(value: Any) -> Any:
    """Plain JSON values with placeholders for keys, tokens and passwords in their texts alone: what
    is people's stays as it is."""
    if isinstance(value, str):
        return hide(value, value.lower(), Names())
    if isinstance(value, Mapping):
        return {key: secrets(entry) for key, entry in value.items()}
    return [secrets(entry) for entry in value] if isinstance(value, list | tuple) else value


def without(value: str, key: str | None) -> str:
    """The text with `[key]` for our own key, should a server have repeated it.

    `none` and `x`, which are written where a server wants no key, are no secrets.
    """
    return value.replace(key, "[key]") if key and len(key) >= SHORTEST_PASSWORD else value


def hide(value: str, lower: str, names: Names) -> str:
    """The text with placeholders for the keys in it.

    Args:
        lower: the text in lower case.
    """
    if "-----BEGIN" in value:
        value = _BLOCK.sub(lambda m: names.name("key", m[0], m[0]), value)
    if len(value) >= SHORTEST_KEY and shaped(value):
        value = KEY.sub(lambda m: names.name("key", m[0], m[0]), value)
    if "bearer" in lower:
        value = _behind(_BEARER, value, names)
    if "://" in value and "@" in value:
        value = _behind(_URL_PASSWORD, value, names)
    if names_secret(lower):
        value = _behind(ASSIGNED, value, names)
    return value


def _behind(pattern: re.Pattern[str], value: str, names: Names) -> str:
    """The text with a placeholder for what stands behind each beginning that the pattern finds."""
    return pattern.sub(lambda m: m[1] + names.name("key", m[2], m[2]), value)


def is_key(value: str) -> bool:
    """Whether the value may be a key, where its name says so."""
    long = len(value) >= SHORTEST_PASSWORD
    return long and re.fullmatch(r"(?=.*\d)[^\s<>]+", value) is not None


def shaped(text: str) -> bool:
    """Whether a key may stand in the text that is known by its shape."""
    return (
        any(map(text.__contains__, _SHAPED))
        or ("_" in text and any(map(text.__contains__, _SHAPED_)))
        or ("-" in text and any(map(text.__contains__, _SHAPED_DASH)))
    )


def names_secret(lower: str) -> bool:
    """Whether the text may name a secret."""
    among = lower.__contains__
    return any(map(among, _SECRET_TOO)) and any(map(among, _SECRET))
