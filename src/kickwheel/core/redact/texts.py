"""One text: what may be found in it, and what it is without that."""

import re

from kickwheel.core.redact.keys import hide as without_keys
from kickwheel.core.redact.keys import names_secret, shaped
from kickwheel.core.redact.names import Names, redacted
from kickwheel.core.redact.numbers import has_run
from kickwheel.core.redact.numbers import hide as without_numbers

SHORTEST = 6
"""Characters of the shortest text in which something may be found, `a@b.io`."""
PLAIN_CHARS = 8 << 20
"""Characters of the texts together that are known to hold nothing in any conversation."""
PLAIN_FROM, PLAIN_TO = 100, 1 << 15
"""How long such a text is: shorter ones are read as fast as looked up."""

_EMAIL = re.compile(
    r"(?<![\w.%+-])(?!git@)[\w.%+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[^\W\d_]{2,24}(?![\w-])"
)


def hide(value: str, names: Names) -> str:
    """The text with placeholders."""
    lower = value.lower()
    if "<" in value:
        names.take(value)
    value = without_keys(value, lower, names)
    if "@" in value:
        value = _EMAIL.sub(lambda m: names.name("email", m[0].lower(), m[0]), value)
    if has_run(value):
        value = without_numbers(value, lower, names)
    return value


def suspect(text: str) -> bool:
    """Whether anything may be found in the text, or in one that it is joined of."""
    lower = text.lower()
    return (
        "@" in text
        or "-----BEGIN" in text
        or "bearer" in lower
        or shaped(text)
        or names_secret(lower)
        or has_run(text)
        or redacted(text)
    )


class _Plain:
    """Texts that no conversation makes anything else of: prompts, and what agents say again with
    every step. They hold nothing to hide, no placeholder, and no number that another text could
    call a phone's."""

    def __init__(self) -> None:
        self.texts: set[str] = set()
        self._chars = 0

    def add(self, text: str) -> None:
        """Keeps such a text, if it is long enough to be worth it."""
        if not PLAIN_FROM <= len(text) <= PLAIN_TO:
            return
        if self._chars > PLAIN_CHARS:
            self.texts, self._chars = set(), 0
        self.texts.add(text)
        self._chars += len(text)


PLAIN = _Plain()
