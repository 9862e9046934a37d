"""Questions of a call, put to the person at the client's end (elicitation).

Before 2026 the server asks while the call goes on. Since then it ends the call with its questions,
and the client makes the call again with the answers and the state that it was given. What comes
back is checked like anything a client sends: an answer is words, a state finds nothing that is not
the caller's own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from kickwheel.core.errors import ToolError
from kickwheel.core.journal import Question

ANSWER = "answer"
"""The one field of the form."""


class Unanswered(ToolError):
    """The person said nothing, or there is no way to them."""


class Person:
    """Whoever sits at the client's end of one call."""

    def __init__(self, context: ServerRequestContext[Any, Any]) -> None:
        self._context = context
        self.comes_back = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        """Whether questions end the call, and the client makes it again with the answers."""

    @property
    def there(self) -> bool:
        """Whether the client can put questions to somebody."""
        able = self._context.session.client_capabilities
        if able is None or able.elicitation is None:
            return False
        return self.comes_back or self._context.session.can_send_request

    async def ask(self, question: Question) -> str:
        """What the person answers, while the call goes on.

        Raises:
            Unanswered: nothing.
        """
        form = _form(question)
        said = await self._context.session.elicit_form(
            form.message, form.requested_schema, self._context.request_id
        )
        return read(question, said)


def asked(questions: Sequence[Question], state: str) -> InputRequiredResult:
    """The end of a call that wants answers first.

    Args:
        state: what the client sends back with them.
    """
    forms = {question.path: ElicitRequest(params=_form(question)) for question in questions}
    return InputRequiredResult(input_requests=dict(forms), request_state=state)


def read(question: Question, said: Any) -> str:
    """The words of an answer.

    Raises:
        Unanswered: it is none.
    """
    if isinstance(said, ElicitResult) and said.action == "accept":
        words = (said.content or {}).get(ANSWER)
        if isinstance(words, str) and words.strip() and words in (question.choices or (words,)):
            return words
    if isinstance(said, ElicitResult) and said.action == "decline" and "no" in question.choices:
        return "no"
    raise Unanswered(f"a person was asked «{question.text}», and gave no answer")


def answers(given: Mapping[str, Any] | None, questions: Sequence[Question]) -> dict[str, str]:
    """The words of those answers that the client brought, by the paths of the questions.

    Raises:
        Unanswered: one was asked for and is none.
    """
    found = given or {}
    return {q.path: read(q, found[q.path]) for q in questions if q.path in found}


def _form(question: Question) -> ElicitRequestFormParams:
    field: dict[str, Any] = {"type": "string", "description": "Your answer."}
    if question.choices:
        field["enum"] = list(question.choices)
    schema = {"type": "object", "properties": {ANSWER: field}, "required": [ANSWER]}
    return ElicitRequestFormParams(message=question.text, requested_schema=schema)
