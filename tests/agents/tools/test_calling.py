import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.tools import InvalidArguments, Limits, calling
from kickwheel.agents.tools.python import from_function
from kickwheel.core.errors import ToolError
from kickwheel.core.store import open_store
from kickwheel.records import ToolCall, ToolSpec, genai
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
OSLO = ToolCall(id="call_7", name="weather", arguments='{"city": "Oslo"}')


class Weather:
    """A tool that does what the test wants."""

    spec = ToolSpec(name="weather", parameters=CITY)

    def __init__(self, act: Callable[[], Awaitable[Any]], limits: Limits | None = None) -> None:
        self.act = act
        self.calls = 0
        if limits is not None:
            self.limits = limits

    async def call(self, arguments: Mapping[str, Any]) -> str:
        self.calls += 1
        found: str = await self.act()
        return found


async def sunny() -> str:
    return "Sunny."


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    with open_store(tmp_path) as store:
        yield Traces(store)


async def test_a_result_is_the_tools_text() -> None:
    assert await calling.call({"weather": Weather(sunny)}, OSLO) == calling.Result("Sunny.")


@pytest.mark.parametrize(
    ("name", "arguments", "told", "json"),
    [
        ("weather", '{"city": "Os', "the arguments are not JSON", False),
        ("weather", '["Oslo"]', 'the arguments must be a JSON object: ["Oslo"]', False),
        ("weather", "[" * 100_000, "the arguments are not JSON", False),
        ("weather", '{"city": "\ud800"}', "the arguments are not JSON", False),
        ("weather", '{"city": NaN}', "the arguments are not JSON", False),
        ("weather", "", 'argument "city" is missing', True),
        ("weather", '{"city": 3}', 'argument "city" must be string, not 3', True),
        ("weathr", "{}", 'there is no tool "weathr". Did you mean "weather"?', True),
    ],
)
async def test_a_call_that_cannot_be_made_is_told_and_not_made(
    name: str, arguments: str, told: str, json: bool
) -> None:
    tool = Weather(sunny)
    asked = ToolCall(id="1", name=name, arguments=arguments)
    result = await calling.call({"weather": tool}, asked)
    assert (result.state, result.json, tool.calls) == ("invalid", json, 0)
    assert result.text.startswith(f"error: {told}")
    assert len(result.text) < 1000


async def test_a_tool_may_find_the_arguments_wrong_itself() -> None:
    async def refuse() -> str:
        raise InvalidArguments("Oslo has no such day")

    result = await calling.call({"weather": Weather(refuse)}, OSLO)
    assert result == calling.Result("error: Oslo has no such day", "invalid")


async def test_a_tool_that_raises_gives_an_error_without_traceback_or_secrets() -> None:
    async def broken() -> str:
        raise ValueError("no route for ann@example.com with sk-live-0123456789abcdefghij")

    result = await calling.call({"weather": Weather(broken)}, OSLO)
    assert result.state == "failed"
    assert result.text.startswith("error: ValueError: no route for <email_1> with <key_1>")
    assert "Traceback" not in result.text


async def test_an_error_of_a_megabyte_is_cut() -> None:
    async def loud() -> str:
        raise ValueError("x" * 1_000_000)

    assert len((await calling.call({"weather": Weather(loud)}, OSLO)).text) < 11_000


async def test_an_error_without_words_has_at_least_a_name() -> None:
    async def broken() -> str:
        raise ToolError

    assert (await calling.call({"weather": Weather(broken)}, OSLO)).text == "error: ToolError"


async def test_a_tool_that_hangs_is_left_behind() -> None:
    ended = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    result = await calling.call({"weather": Weather(hang, Limits(timeout_s=0.05))}, OSLO)
    assert result == calling.Result("error: no answer within 0.05 s", "failed")
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_tool_that_hangs_and_will_not_end_is_left_behind_too() -> None:
    released = asyncio.Event()

    async def stubborn() -> str:
        while not released.is_set():
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await released.wait()
        return ""

    result = await calling.call({"weather": Weather(stubborn, Limits(timeout_s=0.05))}, OSLO)
    assert result.state == "failed"
    released.set()


def test_a_function_that_never_returns_holds_up_neither_agent_nor_program() -> None:
    def sleep() -> None:
        time.sleep(600)

    async def main() -> calling.Result:
        tool = from_function(sleep, Limits(timeout_s=0.05))
        return await calling.call({"sleep": tool}, ToolCall(id="1", name="sleep", arguments="{}"))

    # asyncio.run would wait here for threads of its own pool.
    assert asyncio.run(main()).text == "error: no answer within 0.05 s"


async def test_a_tool_that_cancels_itself_only_fails() -> None:
    async def cancel() -> str:
        raise asyncio.CancelledError

    result = await calling.call({"weather": Weather(cancel)}, OSLO)
    assert result == calling.Result("error: the tool cancelled itself", "failed")


async def test_the_end_of_the_request_ends_the_tool() -> None:
    ended = asyncio.Event()

    async def hang() -> str:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return ""

    task = asyncio.create_task(calling.call({"weather": Weather(hang)}, OSLO))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 5)


async def test_a_long_result_is_cut_and_says_so() -> None:
    async def long() -> str:
        return "x" * 1500

    result = await calling.call({"weather": Weather(long, Limits(result_chars=400))}, OSLO)
    assert result.text == "x" * 400 + "\n[1,100 more characters were cut off; ask for less]"


async def test_half_a_character_does_not_break_what_comes_after_it() -> None:
    async def half() -> str:
        return "Zürich \ud83d sunny"

    assert (await calling.call({"weather": Weather(half)}, OSLO)).text == "Zürich ? sunny"


async def test_what_is_no_text_is_a_failure() -> None:
    async def number() -> int:
        return 3

    result = await calling.call({"weather": Weather(number)}, OSLO)
    assert result == calling.Result("error: the tool gave int where text was due", "failed")


async def test_each_call_is_a_span(traces: Traces) -> None:
    async def broken() -> str:
        raise ValueError("the key is sk-live-0123456789abcdefghij")

    with Recorder(traces) as recorder, recorder.trace("desk", "desk"):
        await calling.call({"weather": Weather(sunny)}, OSLO)
        await calling.call({"weather": Weather(broken)}, OSLO)
    (trace,) = traces.all()
    _, good, bad = trace.spans
    assert (good.kind, good.name, good.error) == ("tool", "weather", None)
    assert good.attributes == {
        genai.OPERATION: "execute_tool",
        genai.TOOL_NAME: "weather",
        genai.TOOL_CALL_ID: "call_7",
    }
    assert good.input[0].tool_calls == (OSLO,)
    assert good.output[0].content == "Sunny."
    assert bad.attributes[genai.ERROR_TYPE] == "ValueError"
    assert bad.output[0].content == "error: ValueError: the key is <key_1>"


WRITTEN = st.text(max_size=30) | st.text(alphabet="{}[]:,'\"` \\\n\ud800citydays1e9-.", max_size=40)
LIARS = st.dictionaries(
    st.sampled_from(
        ["type", "properties", "required", "enum", "anyOf", "$ref", "items", "minimum"]
    ),
    st.sampled_from([None, 3, "x", [], {}, ["x"], {"city": 3}, {"city": {"type": "integer"}}]),
)


@settings(deadline=None)
@given(WRITTEN, st.just(CITY) | LIARS)
async def test_whatever_a_model_writes_and_a_schema_says_there_is_a_result(
    arguments: str, schema: dict[str, Any]
) -> None:
    tool = Weather(sunny)
    tool.spec = ToolSpec(name="weather", parameters=schema)
    result = await calling.call(
        {"weather": tool}, ToolCall(id="1", name="weather", arguments=arguments)
    )
    assert result.state in ("done", "invalid")
    assert result.text
    result.shown.encode()
