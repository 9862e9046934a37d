"""`kind: python`: functions of one's own as tools.

What the function says of itself is what the model is told: names, types and defaults come from the
signature, descriptions from the docstring (Google, NumPy or Sphinx style) or from
`Annotated[…, Field(description=…)]`.
"""

import inspect
import typing
import warnings
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic_core import PydanticUndefined, to_json

from kickwheel.agents.tools import docstring
from kickwheel.agents.tools.threads import in_thread
from kickwheel.agents.tools.tool import InvalidArguments, Limits, Tool, Toolbox, ToolPart
from kickwheel.core.errors import ToolError, UsageError
from kickwheel.core.plugins import Context, code
from kickwheel.core.schema import inlined
from kickwheel.records import ToolSpec


class Python(ToolPart):
    """Python functions; their signatures and docstrings are the schema."""

    functions: Annotated[tuple[str, ...], Field(min_length=1)]
    """The functions, each `package.module:name`, looked up in the app's folder first. Async ones
    are awaited, others run in a thread of their own, and are stopped when nobody waits for them."""

    def absent(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Functions that cannot be imported, or whose arguments have no schema."""
        for name in self.functions:
            try:
                from_function(code(name, folder))
            except UsageError as error:
                yield "functions", str(error)

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator[Toolbox]:
        """The functions as tools."""
        limits = self.limits()
        yield [from_function(code(name, context.folder), limits) for name in self.functions]


def from_function(function: Callable[..., Any], limits: Limits | None = None) -> Tool:
    """The function as a tool.

    Args:
        function: sync or async, with any parameters but `*args` and `**kwargs`. What it returns is
            told as it is when it is text, as JSON otherwise.
        limits: what one call may cost.
    Raises:
        UsageError: it is no function, or a parameter's type cannot be said in JSON Schema.
    """
    if not callable(function):
        raise UsageError(f"{function!r} is no function")
    name = getattr(function, "__name__", type(function).__name__)
    told = docstring.read(inspect.getdoc(function) or "")
    try:
        signature = inspect.signature(function)
        model, names = _arguments(function, signature, told.parameters)
        schema = _schema(model)
    except (PydanticUserError, NameError, TypeError, ValueError) as error:
        why = str(error).partition("\n")[0]
        raise UsageError(f"the function {name} cannot be a tool: {why}") from error
    spec = ToolSpec(name=name, description=told.description, parameters=schema)
    return _Function(function, signature, model, names, spec, limits or Limits())


class _Function:
    """A function as a tool."""

    def __init__(
        self,
        function: Callable[..., Any],
        signature: inspect.Signature,
        model: type[BaseModel],
        names: Mapping[str, str],
        spec: ToolSpec,
        limits: Limits,
    ) -> None:
        self.spec = spec
        self.limits = limits
        self._function = function
        self._signature = signature
        self._model = model
        self._names = names
        self._waits = inspect.iscoroutinefunction(inspect.unwrap(_routine(function)))

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the function returns, as text."""
        bound = self._bind(arguments)
        run = partial(self._function, *bound.args, **bound.kwargs)
        returned = await (run() if self._waits else in_thread(run, stop=True))
        if inspect.isawaitable(returned):
            returned = await returned
        return returned if isinstance(returned, str) else _text(returned)

    def _bind(self, arguments: Mapping[str, Any]) -> inspect.BoundArguments:
        try:
            read = self._model.model_validate(arguments)
        except ValidationError as error:
            wrong = [
                f'argument "{".".join(map(str, entry["loc"]))}": {entry["msg"]}'
                for entry in error.errors()
            ]
            raise InvalidArguments("; ".join(wrong)) from error
        given = {self._names[field]: getattr(read, field) for field in read.model_fields_set}
        bound = inspect.BoundArguments(self._signature, given)
        bound.apply_defaults()
        return bound


def _arguments(
    function: Callable[..., Any], signature: inspect.Signature, about: Mapping[str, str]
) -> tuple[type[BaseModel], dict[str, str]]:
    """A model that holds the function's arguments, and the parameter behind each of its fields."""
    hints = typing.get_type_hints(inspect.unwrap(_routine(function)), include_extras=True)
    fields: dict[str, Any] = {}
    names: dict[str, str] = {}
    for position, (name, parameter) in enumerate(signature.parameters.items()):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise TypeError(f"*{name} has no schema; name each parameter")
        # Fields have names of their own, since pydantic reserves some, as `schema` and `_from`.
        field = f"argument_{position}"
        names[field] = name
        default = PydanticUndefined if parameter.default is parameter.empty else parameter.default
        info = Field(alias=name, description=about[name]) if name in about else Field(alias=name)
        fields[field] = (Annotated[hints.get(name, Any), info], default)
    config = ConfigDict(extra="forbid")
    return create_model("Arguments", __config__=config, **fields), names


def _routine(function: Callable[..., Any]) -> Callable[..., Any]:
    """What runs when the function, or the object that can be called like one, is called."""
    if inspect.isroutine(function) or isinstance(function, partial):
        return function.func if isinstance(function, partial) else function
    return type(function).__call__


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # A default that JSON lacks is left out, which is right.
        schema: dict[str, Any] = _untitled(inlined(model.model_json_schema()))
    return {"type": "object", "properties": {}, **schema}


def _untitled(node: Any, names: bool = False) -> Any:
    """The schema without the titles that pydantic derives from names; `names`: keys are names."""
    if isinstance(node, list):
        return [_untitled(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value
        if key in ("default", "enum", "const", "examples") and not names
        else _untitled(value, not names and key in ("properties", "$defs"))
        for key, value in node.items()
        if names or key != "title"
    }


def _text(value: Any) -> str:
    try:
        return to_json(value, fallback=str).decode()
    except ValueError as error:
        raise ToolError(f"what the function returned cannot be told: {error}") from error
