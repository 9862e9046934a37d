import asyncio
import contextvars
import dataclasses
import datetime
import enum
import inspect
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from kickwheel.agents.tools import InvalidArguments, Tool, Toolbox, calling
from kickwheel.agents.tools.python import Python, from_function
from kickwheel.agents.tools.schema import mistakes
from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import Context
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall


class Guest(BaseModel):
    name: str
    age: int = Field(ge=0)


def book(
    hotel: str,
    guests: list[Guest],
    room: Literal["single", "double"] = "double",
    *,
    nights: Annotated[int, Field(ge=1, le=30)] = 1,
    note: Optional[str] = None,  # noqa: UP045
    _from: str = "today",
) -> dict[str, Any]:
    """Book a room.

    Takes effect at once.

    Args:
        hotel (str): Name of the hotel: as it
            stands in the list.
        guests: Who comes.
        nights: How many.

    Returns:
        What was booked.
    """
    return {"hotel": hotel, "ages": [g.age + 1 for g in guests], "nights": nights, "from": _from}


def asked(tool: Tool, arguments: str) -> ToolCall:
    return ToolCall(id="call_1", name=tool.spec.name, arguments=arguments)


async def result(tool: Tool, arguments: str) -> calling.Result:
    return await calling.call({tool.spec.name: tool}, asked(tool, arguments))


@asynccontextmanager
async def opened(folder: Path, part: Python) -> AsyncIterator[Toolbox]:
    async def share(key: Any, make: Any) -> Any:
        raise AssertionError("tools share nothing")

    with open_store(folder / "store") as store:
        async with part.open(Context("tools", folder, store, share=share)) as box:
            yield box


def test_signature_and_docstring_are_the_schema() -> None:
    spec = from_function(book).spec
    assert (spec.name, spec.description) == ("book", "Book a room.\n\nTakes effect at once.")
    assert spec.parameters == {
        "type": "object",
        "additionalProperties": False,
        "required": ["hotel", "guests"],
        "properties": {
            "hotel": {
                "type": "string",
                "description": "Name of the hotel: as it stands in the list.",
            },
            "guests": {
                "type": "array",
                "description": "Who comes.",
                "items": {
                    "type": "object",
                    "required": ["name", "age"],
                    "properties": {
                        "name": {"type": "string"},
                        "age": {"type": "integer", "minimum": 0},
                    },
                },
            },
            "room": {"type": "string", "enum": ["single", "double"], "default": "double"},
            "nights": {
                "type": "integer",
                "minimum": 1,
                "maximum": 30,
                "default": 1,
                "description": "How many.",
            },
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
            "_from": {"type": "string", "default": "today"},
        },
    }


def test_a_function_without_parameters_takes_none() -> None:
    def now() -> str:
        return "noon"

    assert from_function(now).spec.parameters == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


def test_an_argument_may_be_called_title_or_schema() -> None:
    def play(title: str, schema: int, properties: str = "") -> str:
        return title

    properties = from_function(play).spec.parameters["properties"]
    assert list(properties) == ["title", "schema", "properties"]


@pytest.mark.parametrize("wrong", [lambda *rest: rest, lambda **rest: rest])
def test_a_function_with_open_parameters_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="name each parameter"):
        from_function(wrong)


def test_a_type_that_json_lacks_is_refused() -> None:
    def run(lock: threading.Thread) -> None: ...

    with pytest.raises(UsageError, match="the function run cannot be a tool"):
        from_function(run)


async def test_models_arrive_as_models_and_results_leave_as_json() -> None:
    arguments = '{"hotel": "Ritz", "guests": [{"name": "Ann", "age": 3}], "nights": 2}'
    assert await result(from_function(book), arguments) == calling.Result(
        '{"hotel":"Ritz","ages":[4],"nights":2,"from":"today"}'
    )


async def test_text_leaves_as_it_is_and_async_functions_are_awaited() -> None:
    async def greet(name: str, /, word: str = "Hello") -> str:
        await asyncio.sleep(0)
        return f"{word}, {name}!"

    assert (await result(from_function(greet), '{"name": "Ann"}')).text == "Hello, Ann!"


async def test_an_object_that_can_be_called_is_a_function_too() -> None:
    class Doubler:
        """Twice as much."""

        async def __call__(self, n: int) -> int:
            return 2 * n

    assert (await result(from_function(Doubler()), '{"n": 4}')).text == "8"


async def test_what_only_pydantic_can_judge_is_an_invalid_call() -> None:
    def even(n: Annotated[int, Field(multiple_of=2)]) -> int:
        return n

    with pytest.raises(InvalidArguments, match='argument "n": Input should be a multiple of 2'):
        await from_function(even).call({"n": 3})


async def test_sync_functions_run_beside_the_loop_and_know_where_they_were_called() -> None:
    where = contextvars.ContextVar("where", default="nowhere")

    def slow() -> str:
        time.sleep(0.05)
        return f"{where.get()} {threading.current_thread() is threading.main_thread()}"

    where.set("here")
    tool = from_function(slow)
    results = await asyncio.gather(*(result(tool, "") for _ in range(3)))
    assert [r.text for r in results] == ["here False"] * 3


async def test_a_function_that_ends_the_program_only_fails() -> None:
    def leave() -> None:
        sys.exit(3)

    async def leave_too() -> None:
        sys.exit(3)

    for function in (leave, leave_too):
        failed = await result(from_function(function), "{}")
        assert failed.state == "failed"
        assert "tried to end the program" in failed.text


async def test_functions_are_found_in_the_apps_folder(tmp_path: Path) -> None:
    (tmp_path / "desk_tools.py").write_text("def ring(times: int = 1) -> str:\n    return 'ding'\n")
    part = Python(functions=("desk_tools:ring",), timeout_s=2, result_chars=3)
    async with opened(tmp_path, part) as box:
        (tool,) = box
        assert tool.spec.name == "ring"
        cut = await result(tool, "{}")
    assert cut.text == "din\n[1 more characters were cut off; ask for less]"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no_such_module:f", "no_such_module:f.*there is no no_such_module.py in "),
        ("desk_broken:f", "desk_broken:f.*ZeroDivisionError"),
        ("desk_fine:missing", 'desk_fine:missing.*desk_fine has no "missing"'),
        ("desk_fine", "is no package.module:name"),
        ("desk_fine:number", "is no function"),
    ],
)
async def test_a_function_that_cannot_be_had_is_told(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "desk_broken.py").write_text("1 / 0\n")
    (tmp_path / "desk_fine.py").write_text("number = 3\n")
    with pytest.raises(UsageError, match=told):
        async with opened(tmp_path, Python(functions=(name,))):
            pass


@pytest.mark.parametrize("options", [{}, {"functions": []}, {"functions": ["a:b"], "timeout_s": 0}])
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Python(**options)


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


@dataclasses.dataclass
class Room:
    number: int
    size: Size = Size.SMALL


class Tree(BaseModel):
    name: str
    below: list["Tree"] = []


async def test_enums_dataclasses_and_unions_have_schemas_and_arrive_as_themselves() -> None:
    def move(to: Room | int, when: datetime.date | None = None, fast: bool = False) -> str:
        return f"{to!r} {when!r} {fast}"

    tool = from_function(move)
    room = {
        "type": "object",
        "properties": {
            "number": {"type": "integer"},
            "size": {"type": "string", "enum": ["s", "l"], "default": "s"},
        },
        "required": ["number"],
        "additionalProperties": False,
    }
    properties = tool.spec.parameters["properties"]
    assert properties["to"] == {"anyOf": [room, {"type": "integer"}]}
    assert properties["when"]["anyOf"] == [{"type": "string", "format": "date"}, {"type": "null"}]
    moved = await result(tool, '{"to": {"number": 7, "size": "l"}, "when": "2026-11-25"}')
    assert moved.text == f"{Room(7, Size.LARGE)!r} datetime.date(2026, 11, 25) False"
    assert (await result(tool, '{"to": 3}')).text == "3 None False"


async def test_what_contains_itself_stays_a_reference() -> None:
    def height(tree: Tree) -> int:
        return 1 + max((height(below) for below in tree.below), default=0)

    tool = from_function(height)
    assert list(tool.spec.parameters["$defs"]) == ["Tree"]
    deep = '{"tree": {"name": "a", "below": [{"name": "b", "below": [{"name": "c"}]}]}}'
    assert (await result(tool, deep)).text == "3"
    wrong = await result(tool, '{"tree": {"name": "a", "below": [{"below": []}]}}')
    assert wrong.text == 'error: argument "tree.below[0].name" is missing'


async def test_a_function_may_have_many_parameters() -> None:
    names = [f"p{n}" for n in range(60)]
    namespace: dict[str, Any] = {}
    exec(
        f"def many({', '.join(f'{n}: int = {i}' for i, n in enumerate(names))}):\n"
        f"    return sum(({', '.join(names)}))",
        namespace,
    )
    tool = from_function(namespace["many"])
    assert list(tool.spec.parameters["properties"]) == names
    assert (await result(tool, '{"p0": 1000}')).text == str(1000 + sum(range(60)))


VALUES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(),
    bool: st.booleans(),
    list[int]: st.lists(st.integers(-9, 9)),
    dict[str, bool]: st.dictionaries(st.text(), st.booleans()),
    Literal["a", "b"]: st.sampled_from("ab"),
    int | None: st.none() | st.integers(-9, 9),
}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), types=st.lists(st.sampled_from(list(VALUES)), max_size=6))
def test_what_fits_the_schema_arrives_at_the_function(
    data: st.DataObject, types: list[Any]
) -> None:
    names = [f"p{n}" for n in range(len(types))]

    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=kind)
        for name, kind in zip(names, types, strict=True)
    ]
    arrived: list[Any] = []

    def function(*values: Any) -> str:
        arrived.extend(values)
        return "done"

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    function.__annotations__ = dict(zip(names, types, strict=True))
    tool = from_function(function)
    given = {n: data.draw(VALUES[kind]) for n, kind in zip(names, types, strict=True)}
    assert mistakes(given, tool.spec.parameters) == []
    assert asyncio.run(tool.call(given)) == "done"
    assert arrived == list(given.values())
