"""A conversation made to fit: what is kept, what goes first, and that it always fits."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kickwheel.agents.memory import is_recalled
from kickwheel.agents.memory.cut import Cut, chain, units
from kickwheel.agents.memory.fit import TooLong, Window, fit
from kickwheel.agents.memory.summary import extract
from kickwheel.records import Message, ToolCall


async def letters(messages: Sequence[Message]) -> list[int]:
    """A token a letter, so that expected values can be counted by hand."""
    return [
        len(m.content or "") + sum(len(c.name) + len(c.arguments) for c in m.tool_calls)
        for m in messages
    ]


def system(text: str) -> Message:
    return Message(role="system", content=text)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def called(identity: str, arguments: str = "{}") -> Message:
    call = ToolCall(id=identity, name="look", arguments=arguments)
    return Message(role="assistant", tool_calls=(call,))


def gave(identity: str, text: str) -> Message:
    return Message(role="tool", content=text, tool_call_id=identity)


texts = st.text(st.sampled_from("abc d.\n1"), max_size=300)


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    made = [system(draw(texts))] if draw(st.booleans()) else []
    for turn in range(draw(st.integers(0, 6))):
        made.append(user(draw(texts)))
        for step in range(draw(st.integers(0, 2))):
            ids = [f"{turn}.{step}.{n}" for n in range(draw(st.integers(1, 2)))]
            calls = tuple(ToolCall(id=i, name="look", arguments="{}") for i in ids)
            made.append(Message(role="assistant", content=draw(texts), tool_calls=calls))
            made.extend(gave(i, draw(st.sampled_from(["x" * 1500, "ok", ""]))) for i in ids)
        if draw(st.booleans()):
            made.append(said(draw(texts)))
    return made


async def fitted(messages: Sequence[Message], budget: int) -> Window | None:
    try:
        return await fit(messages, budget, letters, summarise=extract)
    except TooLong:
        return None


@given(messages=conversations(), budget=st.integers(1, 3000))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_a_window_keeps_budget_order_pairs_instructions_and_the_last_question(
    messages: list[Message], budget: int
) -> None:
    window = await fitted(messages, budget)
    if window is None:
        return
    assert window.tokens == sum(await letters(window.messages)) <= budget
    own = [message for message in window.messages if not is_recalled(message)]
    places = []
    for message in own:
        head = (message.content or "")[:20]
        places.append(
            next(
                i
                for i, original in enumerate(messages)
                if i > (places[-1] if places else -1)
                and original.role == message.role
                and original.tool_calls == message.tool_calls
                and original.tool_call_id == message.tool_call_id
                and ((original.content or "").startswith(head) or message.role == "tool")
            )
        )
    assert [m for m in own if m.role == "system"] == [m for m in messages if m.role == "system"]
    asked = [m for m in messages if m.role == "user"]
    assert not asked or asked[-1] in own
    calls = [call.id for message in own for call in message.tool_calls]
    results = [message.tool_call_id for message in own if message.role == "tool"]
    assert calls == results


@given(messages=conversations(), budget=st.integers(500, 4000), more=conversations())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
async def test_what_was_cut_stays_byte_for_byte_until_the_next_cut(
    messages: list[Message], budget: int, more: list[Message]
) -> None:
    first = await fitted(messages, budget)
    if first is None or not first.changed:
        return
    longer = [*messages, *(m for m in more if m.role != "system")]
    try:
        second = await fit(longer, budget, letters, cut=first.cut)
    except TooLong:
        return
    if not second.changed:
        covered = first.cut.applied(messages[: first.cut.covers])
        assert second.messages[: len(covered)] == covered
        assert second.messages[len(covered) :] == tuple(longer[first.cut.covers :])


async def test_results_are_trimmed_before_anything_is_dropped() -> None:
    messages = [user("a"), called("1"), gave("1", "H" * 2000 + "T" * 2000), said("b"), user("c")]
    window = await fit(messages, 3000, letters)
    assert [m.role for m in window.messages] == [m.role for m in messages]
    name = chain(messages)[2]
    assert window.messages[2].content == (
        "H" * 600 + f"\n[… 3,100 characters kept as resource result-{name}; "
        "read them with the tool recall]\n" + "T" * 300
    )


async def test_older_turns_leave_a_note_that_says_where_they_are() -> None:
    messages = [system("s"), *(user(f"{i:03}" * 30) for i in range(20))]
    window = await fit(messages, 900, letters)
    assert window.cut.dropped == tuple(range(1, 1 + len(window.cut.dropped)))
    last = chain(messages)[window.cut.dropped[-1]]
    assert window.messages[0] == messages[0]
    assert (window.messages[1].content or "").startswith(
        f"[memory: {len(window.cut.dropped)} messages are left out here, kept as resource "
        f"turns-{last};"
    )
    assert window.messages[-1] == messages[-1]


async def test_a_summary_goes_on_from_the_one_before() -> None:
    seen: list[list[str]] = []

    async def summarise(messages: Sequence[Message], limit: int) -> str:
        seen.append([m.content or "" for m in messages])
        return f"S{len(seen)}"

    def turns(first: int, last: int) -> list[Message]:
        return [user(f"{i:03}" * 60) for i in range(first, last)]

    first = await fit(turns(0, 12), 2000, letters, summarise=summarise)
    second = await fit(turns(0, 24), 2000, letters, summarise=summarise, cut=first.cut)
    assert second.changed
    assert "Summary:\nS1" in seen[1][0]
    assert seen[1][1] == f"{len(first.cut.dropped):03}" * 60
    assert len(seen[0]) + len(seen[1]) - 1 == len(second.cut.dropped)


async def test_what_must_stay_and_does_not_fit_is_an_error_of_the_caller() -> None:
    with pytest.raises(TooLong, match="larger budget_tokens") as told:
        await fit([system("x" * 500), user("y")], 400, letters)
    assert told.value.status == 400


async def test_the_results_of_the_last_step_are_shortened_rather_than_lost() -> None:
    messages = [user("q"), called("1"), gave("1", "r" * 9000)]
    window = await fit(messages, 350, letters)
    assert [m.role for m in window.messages] == ["user", "assistant", "tool"]
    assert "kept as resource result-" in (window.messages[2].content or "")


async def test_an_empty_conversation_fits() -> None:
    window = await fit([], 1, letters)
    assert window.messages == ()


def test_a_result_belongs_to_the_latest_call_of_its_id() -> None:
    messages = [
        user("a"), called("1"), gave("1", "r"), user("b"), called("1"), user("late"),
        gave("1", "r"), gave("lost", "r"), said("z"),
    ]  # fmt: skip
    pieces = [(piece.start, piece.stop) for piece in units(messages)]
    assert pieces == [(0, 1), (1, 3), (3, 4), (4, 7), (7, 8), (8, 9)]


def test_a_name_depends_on_all_that_was_said_before() -> None:
    one = chain([user("a"), user("b")])
    other = chain([user("A"), user("b")])
    assert one[0] != other[0]
    assert one[1] != other[1]
    assert chain([user("a"), user("b"), user("\ud800")])[:2] == one
    assert Cut().covers == 0
