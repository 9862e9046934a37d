"""Structured output: what an agent's answer must be, and how it gets there.

    output: {type: object, properties: {total: {type: number}}, required: [total]}
    output: invoice.schema.json          # a file beside the app
    output: billing:Invoice              # a Pydantic model

Where an engine has a grammar, it lets nothing else pass. Whatever answers, the answer is read here
once more: repaired where only one reading is possible, and told with all its mistakes to whoever
wrote it otherwise.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from pydantic import BaseModel, PlainValidator, ValidationError, ValidationInfo, WithJsonSchema

from kickwheel.agents.tools.fitting import fitted
from kickwheel.agents.tools.repair import readable
from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.plugins import code
from kickwheel.core.schema import inlined
from kickwheel.records import Message

if TYPE_CHECKING:
    from kickwheel.agents.events import Finished
    from kickwheel.agents.run import Run

INVALID_IN_A_ROW = 2
"""How often in a row a model is told that its calls, or its answer, are not what was asked for."""

_SAYS = (
    *("type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"),
    *("required", "additionalProperties"),
)
_FENCED = re.compile(r"```[\w-]*[ \t]*\r?\n(.*?)```", re.DOTALL)
_ARGUMENT = re.compile(r'argument "answer(?:\.([^"]+)|(\[[^"]+))?"')


@dataclass(frozen=True, slots=True)
class Output:
    """What an answer must be."""

    schema: Mapping[str, Any]
    """JSON Schema; it holds no `$ref` but recursive ones."""
    model: type[BaseModel] | None = None
    """What must take it, too."""

    def read(self, text: str) -> tuple[str, list[str]]:
        """The answer as JSON, and what is wrong with it, a sentence each; empty where nothing is.

        JSON that fits stays as it was written.
        """
        found = _value(text)
        if found is None:
            return text, ["it is no JSON"]
        value, written = found
        wrong = self._wrong(value)
        if wrong and isinstance(value, dict):
            fitting = fitted(value, self.schema)
            if fitting is not None and not self._wrong(fitting[0]):
                value, written, wrong = fitting[0], None, []
        return written if written is not None else _json(value), wrong

    def demand(self) -> str:
        """What a model is told, where its grammar does not hold it: the schema, in words."""
        return f"JSON of this schema, and nothing else:\n{_json(self.schema)}"

    def _wrong(self, value: Any) -> list[str]:
        around = {key: self.schema[key] for key in ("$defs", "definitions") if key in self.schema}
        whole = {"properties": {"answer": self.schema}, **around}
        found = [_ARGUMENT.sub(_named, wrong) for wrong in mistakes({"answer": value}, whole)]
        if found or self.model is None:
            return found
        try:
            self.model.model_validate_json(_json(value))
        except ValidationError as error:
            return [_told(dict(entry)) for entry in error.errors()]
        return []


def resolved(value: Any, info: ValidationInfo) -> Output | None:
    """The output that an app file names: a schema, a file of one, or a Pydantic model.

    Raises:
        ValueError: it is none of these.
    """
    if value is None or isinstance(value, Output):
        return value
    folder: Path = (info.context or {}).get("folder", Path())
    if isinstance(value, type) and issubclass(value, BaseModel):
        return _of_model(value)
    if isinstance(value, Mapping):
        return _of_schema(json.loads(json.dumps(value)))
    if not isinstance(value, str):
        raise ValueError("must be a JSON Schema, a file of one, or package.module:Model")
    if ":" in value:
        try:
            found = code(value, folder)
        except UsageError as error:
            raise ValueError(str(error)) from error
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            raise ValueError(f'"{value}" is no Pydantic model')
        return _of_model(found)
    try:
        return _of_schema(msgspec.json.decode((folder / value).read_bytes()))
    except OSError as error:
        raise ValueError(f'"{value}" cannot be read: {error.strerror}') from error
    except msgspec.DecodeError as error:
        raise ValueError(f'"{value}" is not JSON: {error}') from error


Wanted = Annotated[
    Output | None,
    PlainValidator(resolved),
    WithJsonSchema(
        {
            "anyOf": [{"type": "object"}, {"type": "string"}, {"type": "null"}],
            "default": None,
        }
    ),
]
"""The option `output` of an agent."""


async def formed(run: "Run", finished: "Finished", wanted: Output) -> "Finished":
    """The end of a run whose answer has the form that is wanted; asked for again where it has not.

    Raises:
        ModelError: it has not, however often its mistakes were told.
    """
    if finished.why != "answered":
        return finished
    again, answer, more = run.again, finished.answer, list[Message]()
    # Who was free to call tools was not told of any form.
    left = INVALID_IN_A_ROW if run.formed else INVALID_IN_A_ROW + 1
    while True:
        text, wrong = wanted.read(answer.content or "")
        if not wrong:
            return run.ended("answered", replace(answer, content=text))
        what = f"answer is not of the form that is wanted: {_list(wrong)}"
        if again is None or not left:
            raise ModelError(f"{run.name}: the {what}")
        left -= 1
        more += [
            Message(role="assistant", content=answer.content or ""),
            Message(role="user", content=f"Your {what}. Give it as {wanted.demand()}"),
        ]
        why, answer = await again(tuple(more), wanted.schema)
        if why == "length":
            return run.ended("length", answer)


def _list(wrong: Sequence[str], most: int = 20) -> str:
    more = f"; and {len(wrong) - most} more mistakes" if len(wrong) > most else ""
    return "; ".join(wrong[:most]) + more


def _of_schema(schema: Any) -> Output:
    if not isinstance(schema, Mapping) or not any(key in schema for key in _SAYS):
        raise ValueError(
            "is no JSON Schema, for example {type: object, properties: {total: {type: number}}}"
        )
    try:
        return Output(inlined(schema))
    except UsageError as error:
        raise ValueError(str(error)) from error


def _of_model(model: type[BaseModel]) -> Output:
    return Output(inlined(model.model_json_schema()), model)


def _value(text: str) -> tuple[Any, str | None] | None:
    """The JSON that the text is or can only mean, and its own words where it is it already."""
    stripped = text.strip()
    try:
        return msgspec.json.decode(stripped), stripped
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        pass
    blocks = _FENCED.findall(stripped)
    # Words around one block of code explain it; of two, either could be meant.
    found = readable(blocks[0] if len(blocks) == 1 else stripped)
    return None if found is None else (found[0], None)


def _named(found: re.Match[str]) -> str:
    inner = found[1] or found[2]
    return f'"{inner}"' if inner else "the answer"


def _told(entry: Mapping[str, Any]) -> str:
    where = ".".join(map(str, entry["loc"]))
    what = str(entry["msg"]).removeprefix("Value error, ")
    return f'"{where}": {what}' if where else what


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
