"""What a model does not take: left out from then on, as its server's refusal names it.

OpenAI's reasoning models refuse any temperature but their own, and `stop`, Anthropic's newest a
temperature, and some servers know no `seed`. Which ones, no list could tell for long: the first
request finds out, is asked again without it at once, and later ones go without it from the start.
Only what shapes the choice of words may go, and `stop`, since `answer` ends there by itself; what
decides what an answer is stays an error.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger(__name__)
_HINT = re.compile(r"""\b(?:temperature|top_p|topP|seed)\b|(?<=['"`])stop(?=['"`])""")
_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"
_REFUSED = re.compile(
    r"unsupported|not support|deprecat|unknown|unrecogni[sz]ed|not permitted|cannot both",
    re.IGNORECASE,
)


class Taken:
    """What one model was found not to take."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._names: set[str] = set()

    def learned(self, said: str, body: Mapping[str, Any]) -> bool:
        """Whether a refusal (400) names something that is in the body and may be left out."""
        if not _REFUSED.search(said):
            return False
        found = [name for name in _HINT.findall(said) if name in body]
        if not found and _LIMIT in body and _NEW_LIMIT in said:
            found = [_LIMIT]  # It goes by its new name.
        if found:
            self._names.add(found[0])
            _log.info("%s takes no %s: it is asked without from now on", self._model, found[0])
        return bool(found)

    def fitted(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body as the model takes it."""
        if not self._names:
            return body
        if _LIMIT in self._names:
            body = {_NEW_LIMIT if key == _LIMIT else key: value for key, value in body.items()}
        return {key: value for key, value in body.items() if key not in self._names}
