"""A request to a model that we prompt ourselves: its prompt and grammar, and its text as an answer.

The same for every engine, so that an adapter answers alike wherever it is served.
"""

import re
import secrets

from kickwheel.core.errors import DataError, ModelError
from kickwheel.models import calls
from kickwheel.models.chat import (
    CallDelta,
    ChatRequest,
    Delta,
    Done,
    FinishReason,
    TextDelta,
    Usage,
)
from kickwheel.models.prompt import Template
from kickwheel.records import PromptForm, ToolSpec


class Asked:
    """One request on its way.

    With tools, `required` or a tool's name allows calls only; with `auto` the model may begin a
    text, but what begins as a call goes on as one; with `none` the tools are left out. A model
    that was tuned on calls only makes one with `auto` too, except as its word on a tool's result.
    """

    def __init__(
        self,
        request: ChatRequest,
        template: Template,
        form: PromptForm,
        name: str,
        *,
        calls_only: bool = False,
    ) -> None:
        """
        Args:
            form: of the prompt, where the request has none.
            calls_only: whether the model was tuned on calls only.
            name: what the model is called in errors.
        Raises:
            ModelError: 400, the request does not fit.
        """
        self.request, self.name = request, name
        self.tools = _offered(request)
        answers_tool = bool(request.messages) and request.messages[-1].role == "tool"
        free = request.tool_choice == "auto" and (answers_tool or not calls_only)
        self.must_call = bool(self.tools) and not free
        try:
            self.prompt = template.prompt(request.messages, self.tools, request.form or form)
            self.grammar = self._grammar()
        except DataError as error:
            raise ModelError(f"{name}: {error}", status=400) from error
        self._text = ""
        self._held = bool(self.tools)
        """Whether the text is kept back, because it is or may become a call."""

    @property
    def trigger(self) -> str | None:
        """The pattern of an answer from which on the grammar holds; `None`: from the start."""
        if not self.tools or self.must_call:
            return None
        return f"^(?:{'|'.join(re.escape(tool.name) for tool in self.tools)})"

    def piece(self, text: str) -> list[Delta]:
        """What a piece of the model's text shows."""
        self._text += text
        if self._held and not self.must_call and not _may_be_call(self._text, self.tools):
            self._held, text = False, self._text
        return [TextDelta(text)] if text and not self._held else []

    def end(self, finish: FinishReason, usage: Usage) -> list[Delta]:
        """What is left at the end of the model's text; `Done` comes last."""
        deltas: list[Delta] = []
        if self._held:
            # A call that was cut has a wrong last value: it is shown as the text that it is.
            found = calls.read(self._text, self.tools) if finish == "stop" else None
            if found:
                finish = "tool_calls"
                for index, call in enumerate(found):
                    identity = f"call_{secrets.token_hex(8)}"
                    deltas.append(CallDelta(index, call.arguments, identity, call.name))
            elif self._text:
                deltas.append(TextDelta(self._text))
        return [*deltas, Done(finish, usage, self.name)]

    def _grammar(self) -> str | None:
        request = self.request
        if not request.constrained:
            return None
        if self.tools:
            parallel = request.extra.get("parallel_tool_calls") is True
            return calls.tools_grammar(self.tools, parallel=parallel)
        if request.grammar is not None:
            return request.grammar
        if request.labels:
            return calls.labels_grammar(request.labels)
        if request.json_schema is not None:
            return calls.schema_grammar(request.json_schema)
        return None


def _offered(request: ChatRequest) -> tuple[ToolSpec, ...]:
    if request.tool_choice == "none":
        return ()
    if request.tool_choice in ("auto", "required"):
        return request.tools
    chosen = tuple(tool for tool in request.tools if tool.name == request.tool_choice)
    if not chosen:
        raise ModelError(f'no tool "{request.tool_choice}" was offered', status=400)
    return chosen


def _may_be_call(text: str, tools: tuple[ToolSpec, ...]) -> bool:
    """Whether the text is the beginning of a call, as far as it goes."""
    first, line_ended, _ = text.lstrip().partition("\n")
    if line_ended:
        return any(tool.name == first.strip() for tool in tools)
    return any(tool.name.startswith(first.strip()) for tool in tools)
