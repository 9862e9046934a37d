"""A conversation as the text that a model reads: one place, for training and serving alike.

The model's own chat template writes the turns; a `PromptForm` says what it gets to write. What the
template cannot say (many know no tools and no calls) is put into plain turns: tools into the system
turn, calls as the text form of `calls`.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.models import calls
from kickwheel.records import Message, PromptForm, ToolSpec

HOW_TO_CALL = (
    "Answer by calling one of these tools: its name, then on a line each the arguments that are "
    "known, as `name: value`."
)
"""What the full form says before the schemas."""


class Template:
    """A model's chat template, with its special tokens."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        """
        Args:
            source: the Jinja text, as GGUF and `tokenizer_config.json` hold it.
            bos: text of the token that begins a text, where the template asks for it.
            eos: text of the token that ends a turn.
        Raises:
            DataError: the template is no Jinja.
        """
        self.source, self.bos, self.eos = source, bos, eos
        self._compiled = _compiled(source)

    def prompt(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], form: PromptForm
    ) -> str:
        """All that the model reads before its answer.

        Raises:
            DataError: the template refuses the conversation.
        """
        turns = _turns(messages, tools, form)
        if turns and turns[0]["role"] == "system":
            return self._render(turns, answer=True)
        return self._without_system(turns)

    def answer(self, message: Message, tools: Sequence[ToolSpec]) -> str:
        """The text that the model should write, with the token that ends its turn."""
        return answer_text(message, tools) + self.eos

    def _without_system(self, turns: list[dict[str, Any]]) -> str:
        # Templates like to put a system turn of their own before a conversation that has none. An
        # empty one is put there instead and its text cut off again.
        empty = [{"role": "system", "content": ""}]
        try:
            head = self._render(empty, answer=False)
            whole = self._render([*empty, *turns], answer=True)
        except DataError:
            return self._render(turns, answer=True)
        if not whole.startswith(head) or not head:
            return self._render(turns, answer=True)
        # What begins a text is no part of the system turn.
        bos = self.bos if "bos_token" in self.source and head.startswith(self.bos) else ""
        return bos + whole[len(head) :]

    def _render(self, turns: list[dict[str, Any]], *, answer: bool) -> str:
        try:
            text: str = self._compiled.render(
                messages=turns,
                add_generation_prompt=answer,
                bos_token=self.bos,
                eos_token=self.eos,
                tools=None,
            )
        except Exception as error:
            raise DataError(f"the chat template refuses the conversation: {error}") from error
        return text


def answer_text(message: Message, tools: Sequence[ToolSpec]) -> str:
    """What the model writes for this answer: its calls in their text form, or its text.

    Raises:
        DataError: the arguments of a call are no JSON object.
    """
    if message.tool_calls:
        return calls.write(message.tool_calls, tools)
    return message.content or ""


def _turns(
    messages: Sequence[Message], tools: Sequence[ToolSpec], form: PromptForm
) -> list[dict[str, Any]]:
    system = [m.content or "" for m in messages if m.role in ("system", "developer")]
    about = _about(tools, form)
    said = "\n\n".join([*(system if form.system else []), *([about] if about else [])])
    turns = [{"role": "system", "content": said}] if said else []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        # A template that knows tools would write calls its own way, and tuning another.
        plain = replace(message, content=answer_text(message, tools), tool_calls=())
        turns.append({"role": plain.role, "content": (plain.content or "").strip()})
    return turns


def _about(tools: Sequence[ToolSpec], form: PromptForm) -> str:
    if not tools or form.tools == "none":
        return ""
    if form.tools == "signatures":
        return "\n".join(calls.signature(tool) for tool in tools)
    schemas = [
        json.dumps(
            {"name": t.name, "description": t.description, "parameters": t.parameters},
            ensure_ascii=False,
        )
        for t in tools
    ]
    return "\n".join([HOW_TO_CALL, *schemas])


@lru_cache(maxsize=32)
def _compiled(source: str) -> Any:
    from datetime import datetime

    from jinja2 import TemplateError
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(text: str) -> None:
        raise TemplateError(text)

    def as_json(value: Any, indent: int | None = None, **_: Any) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    # The same settings as transformers has, or spaces would differ.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise DataError(f"the model's chat template is no Jinja: {error}") from error
