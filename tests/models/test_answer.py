"""Streams, however they were cut on their way."""

import contextlib
import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kickwheel.models.answer import Answer
from kickwheel.models.chat import Collected, Delta, Done, Usage
from kickwheel.models.pictures import TOKENS
from kickwheel.models.sse import Events

from .loopback import USAGE, chunk

STREAM = (
    "".join(
        f": ping\r\n\r\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"
        for event in (
            chunk(role="assistant", content=""),
            chunk(content="Grüße,\n世界 🎡"),
            chunk(
                tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x'}}]
            ),
            chunk(tool_calls=[{"index": 0, "function": {"arguments": '": "é"}'}}]),
            chunk("tool_calls"),
            USAGE,
        )
    ).encode()
    + b"data: [DONE]\n\n"
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def read(chunks: list[bytes]) -> tuple[list[Delta], Collected]:
    answer, collected, deltas = Answer("m"), Collected(), []
    for piece in chunks:
        deltas += answer.feed(piece)
    deltas += answer.close()
    for delta in deltas:
        collected.add(delta)
    return deltas, collected


@settings(deadline=None)
@given(places=st.lists(st.integers(min_value=0, max_value=10_000), max_size=40))
def test_any_cut_of_the_bytes_gives_the_same_pieces(places: list[int]) -> None:
    deltas, collected = read(cut(STREAM, places))
    assert deltas == read([STREAM])[0]
    message = collected.message()
    assert message.content == "Grüße,\n世界 🎡"
    assert json.loads(message.tool_calls[0].arguments) == {"x": "é"}


@settings(deadline=None)
@given(
    lines=st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), min_size=1),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    places=st.lists(st.integers(min_value=0, max_value=10_000), max_size=20),
)
def test_events_survive_every_end_of_line(lines: list[str], end: str, places: list[int]) -> None:
    data = "".join(f"data: {line}{end}{end}" for line in lines).encode()
    events = Events()
    found = [event for piece in cut(data, places) for event in events.feed(piece)]
    assert found + list(events.close()) == [line.encode() for line in lines]


@settings(deadline=None)
@given(st.binary(max_size=400), st.lists(st.integers(min_value=0, max_value=400), max_size=5))
def test_rubbish_is_an_error_and_nothing_else(data: bytes, places: list[int]) -> None:
    with contextlib.suppress(ValueError):
        read(cut(data or b"x", places))


def part(arguments: Any, name: str | None = None, **head: Any) -> dict[str, Any]:
    """A piece of a call; what is not given is left out."""
    return {**head, "function": {"arguments": arguments, **({"name": name} if name else {})}}


@pytest.mark.parametrize(
    "calls",
    [
        [part("{}", "f", id="a"), part("{}", "g", id="b")],
        [
            part("{", "f", id="a", index=0),
            part("}", "f", id="a", index=0),
            part({}, "g", id="b", index=1),
        ],
        [part("{", "f"), part("}"), part("{}", "g", index=4)],
    ],
    ids=["without an index", "with everything repeated", "without ids"],
)
def test_servers_that_leave_things_out_are_understood(calls: list[Any]) -> None:
    events = [*(chunk(tool_calls=[call]) for call in calls), chunk("tool_calls")]
    _, collected = read([f"data: {json.dumps(event)}\n\n".encode() for event in events])
    found = collected.message().tool_calls
    assert [(call.name, call.arguments) for call in found] == [("f", "{}"), ("g", "{}")]
    assert len({call.id for call in found}) == 2


def usage_of(*events: dict[str, Any]) -> Usage:
    """The usage that is told where a message of 50 bytes as JSON was sent: 13 times 4 or less."""
    answer = Answer("m", asked={"messages": [{"role": "user", "content": "hi!"}], "seed": 1})
    for event in events:
        answer.feed(f"data: {json.dumps(event)}\n\n".encode())
    (done,) = answer.close()
    assert isinstance(done, Done)
    return done.usage


def test_what_a_server_does_not_count_is_estimated_and_marked() -> None:
    assert len(json.dumps({"messages": [{"role": "user", "content": "hi!"}]})) == 50
    text = [chunk(content="Grüße, "), chunk(content="世界"), chunk("stop")]
    # «Grüße, » has 9 bytes of UTF-8 and «世界» 6: 15, not above 4 tokens of 4 bytes.
    assert usage_of(*text) == Usage(prompt_tokens=13, output_tokens=4, estimated=True)
    nothing = {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    assert usage_of(*text, nothing) == usage_of(*text)
    half = {"choices": [], "usage": {"prompt_tokens": 9}}
    assert usage_of(*text, half) == Usage(prompt_tokens=9, output_tokens=4, estimated=True)
    call = {"index": 0, "id": "a", "function": {"name": "weather", "arguments": '{"a": 1}'}}
    assert usage_of(chunk(tool_calls=[call]), chunk("tool_calls")).output_tokens == 4


def test_a_picture_is_estimated_as_one_and_not_by_its_base64() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    content = [{"type": "text", "text": "What?"}, picture]
    answer = Answer("m", asked={"messages": [{"role": "user", "content": content}, "odd"]})
    answer.feed(f"data: {json.dumps(chunk('stop'))}\n\n".encode())
    (done,) = answer.close()
    assert isinstance(done, Done)
    assert TOKENS < done.usage.prompt_tokens < TOKENS + 50


def test_what_a_server_counts_is_left_as_it_is() -> None:
    counted = usage_of(chunk(content="a" * 400), chunk("stop"), USAGE)
    assert counted == Usage(prompt_tokens=11, output_tokens=3, cached_tokens=8)
    # An empty answer has no tokens, and nothing is to be guessed.
    none = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}}
    assert usage_of(chunk("stop"), none) == Usage(prompt_tokens=9)
