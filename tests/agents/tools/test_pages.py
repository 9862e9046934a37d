import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.agents.tools import InvalidArguments, Limits, calling
from kickwheel.agents.tools.pages import KEPT_CHARS, Pages
from kickwheel.records import ToolCall, ToolSpec


class Log:
    """A tool with a long result."""

    spec = ToolSpec(name="log", parameters={"type": "object", "properties": {}})

    def __init__(self, text: str, most: int = 100, trusted: bool | None = None) -> None:
        self.text = text
        self.limits = Limits(result_chars=most, trusted=trusted)

    async def call(self, arguments: Any) -> str:
        return self.text


async def made(tool: Any, calls: calling.Calls, arguments: str = "{}", name: str = "") -> Any:
    asked = ToolCall(id="1", name=name or tool.spec.name, arguments=arguments)
    return await calling.prepare({tool.spec.name: tool}, asked, calls).make()


async def test_an_agent_reads_on_where_a_result_was_cut() -> None:
    text = "".join(f"line {n}\n" for n in range(10_000))
    calls, log = calling.Calls(), Log(text)
    assert list(calls.offered({"log": log})) == ["log"], "nothing to page through yet"
    first = await made(log, calls)
    head, _, note = first.text.rpartition("\n")
    assert head == text[:100]
    handle = note.partition('handle="')[2].partition('"')[0]
    assert note == (
        f'[first 100 of {len(text):,} characters; go on with more(handle="{handle}", from=100)]'
    )
    assert list(calls.offered({"log": log})) == ["log", "more"]
    second = await made(log, calls, f'{{"handle": "{handle}", "from": 100}}', "more")
    body, _, note = second.text.rpartition("\n")
    assert body == text[100 : 100 + len(body)]
    last = await made(log, calls, f'{{"handle": "{handle}", "from": {len(text) - 9}}}', "more")
    assert last.text == text[-9:]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ('{"handle": "nothing", "from": 0}', 'no result is kept as "nothing"; there are: '),
        ('{"handle": "HANDLE", "from": 500}', "HANDLE ends at character 500"),
        ('{"handle": "HANDLE", "from": -1}', 'argument "from" must be at least 0'),
    ],
)
async def test_what_is_not_there_is_told(arguments: str, told: str) -> None:
    calls, log = calling.Calls(), Log("x" * 500)
    handle = (await made(log, calls)).text.partition('handle="')[2].partition('"')[0]
    found = await made(log, calls, arguments.replace("HANDLE", handle), "more")
    assert found.state == "invalid"
    assert told.replace("HANDLE", handle) in found.text


async def test_a_run_does_not_see_what_another_one_keeps() -> None:
    mine, other, log = calling.Calls(), calling.Calls(), Log("x" * 500)
    handle = (await made(log, mine)).text.partition('handle="')[2].partition('"')[0]
    await made(Log("y" * 500), other)
    found = await made(log, other, f'{{"handle": "{handle}", "from": 0}}', "more")
    assert found.state == "invalid"


async def test_a_tool_of_the_apps_that_is_called_more_stays_what_it_is() -> None:
    class More(Log):
        spec = ToolSpec(name="more", parameters={"type": "object", "properties": {}})

    calls, more = calling.Calls(), More("x" * 500)
    assert (await made(more, calls)).text.endswith(
        "[400 more characters were cut off; ask for less]"
    )
    assert calls.offered({"more": more}) == {"more": more}


async def test_pages_of_an_untrusted_result_are_untrusted() -> None:
    calls, log = calling.Calls(), Log("x" * 500, trusted=False)
    first = await made(log, calls)
    handle = first.text.partition('handle="')[2].partition('"')[0]
    second = await made(log, calls, f'{{"handle": "{handle}", "from": 100}}', "more")
    assert first.untrusted
    assert second.untrusted


async def test_a_hundred_megabytes_leave_nothing_in_memory() -> None:
    text = "x" * 100_000_000
    calls, log = calling.Calls(), Log(text, most=1000)
    tracemalloc.start()
    try:
        found = await made(log, calls)
        _, peak = tracemalloc.get_traced_memory()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.text.endswith("; only the first 10,000,000 were kept]")
    assert "first 1,000 of 100,000,000 characters" in found.text
    # What is kept passes through memory once as text and once as bytes; nothing stays.
    assert peak < 3 * KEPT_CHARS
    assert left < KEPT_CHARS / 10


@settings(max_examples=30, deadline=None)
@given(st.text(min_size=200, max_size=300), st.integers(0, 400), st.integers(1, 150))
def test_every_part_is_read_as_it_was(seed: str, start: int, most: int) -> None:
    text = seed * 700  # Beyond one chunk, and with characters of one to four bytes.
    pages = Pages()
    head = pages.keep(text, 100, len(text), None)
    handle = head.rpartition('handle="')[2].partition('"')[0]
    start *= len(text) // 401
    read = pages.read(handle, start, most)
    assert read.startswith(text[start : start + most])


def test_nothing_is_read_beyond_the_end() -> None:
    pages = Pages()
    pages.keep("x" * 300, 100, 300, None)
    with pytest.raises(InvalidArguments):
        pages.read("y", 0, 10)
