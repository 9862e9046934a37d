"""Windows on conversations: what is sent, what is kept, and what the trace tells of it."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.models.tiny import write_base

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.memory import Facts, Ledger, Together, is_recalled
from kickwheel.agents.memory.fit import TooLong
from kickwheel.agents.memory.summary import by_model, extract
from kickwheel.agents.memory.tokens import Counter, estimate
from kickwheel.agents.memory.turns import DAYS, Turns
from kickwheel.agents.memory.window import WindowMemory
from kickwheel.agents.tools import InvalidArguments
from kickwheel.core.errors import ModelError
from kickwheel.core.store import Store, open_store
from kickwheel.models.catalog import pull
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.models.engines import open_engine
from kickwheel.records import Message, ToolCall, ToolSpec
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces

BUDGET = 600


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path, database) as opened:
        yield opened


@pytest.fixture
def memory(store: Store) -> WindowMemory:
    return WindowMemory("session", Turns(store.database), BUDGET)


def user(text: str) -> Message:
    return Message(role="user", content=text)


def said(text: str) -> Message:
    return Message(role="assistant", content=text)


def talk(turns: int) -> list[Message]:
    messages = [Message(role="system", content="You help guests.")]
    for turn in range(turns):
        messages.append(user(f"Tell me about sight number {turn} of the old town, please."))
        messages.append(said(f"Sight {turn} is a small church with a nice view over the sea."))
    messages[5] = user("My locker has the number 4417, next to the sauna.")
    return messages


async def tokens(messages: tuple[Message, ...]) -> int:
    count = Counter()
    return sum(await count(messages)) + await count.fixed(())


def shown(messages: tuple[Message, ...]) -> str:
    return "\n".join(message.content or "" for message in messages)


async def test_a_long_conversation_is_sent_within_its_budget(memory: WindowMemory) -> None:
    messages = [*talk(100), user("Thanks. What else?")]
    sent = await memory.before(messages)
    assert await tokens(sent) <= BUDGET
    assert sent[0] == messages[0]
    assert sent[-1] == messages[-1]


async def test_a_short_one_is_sent_as_it_is(memory: WindowMemory) -> None:
    messages = (user("Hello"),)
    assert await memory.before(messages) == messages


async def test_what_bears_on_the_question_comes_back_word_for_word(memory: WindowMemory) -> None:
    messages = [*talk(100), user("Which number does my locker have?")]
    sent = await memory.before(messages)
    assert is_recalled(sent[-2])
    assert "My locker has the number 4417, next to the sauna." in (sent[-2].content or "")
    assert await tokens(sent) <= BUDGET


async def test_the_beginning_stays_as_it_was_read_while_turns_are_added(
    store: Store, memory: WindowMemory
) -> None:
    messages = talk(40)
    first = await memory.before([*messages, user("More?")])
    second = await memory.before([*messages, user("More?"), said("Yes."), user("Go on.")])
    place = first.index(user("More?"))
    same = [m for m in first[:place] if "word for word" not in (m.content or "")]
    assert list(second[: len(same)]) == same
    other_worker = WindowMemory("session", Turns(store.database), BUDGET)
    again = [*messages, user("More?"), said("Yes."), user("Go on.")]
    assert await other_worker.before(again) == second


async def test_a_conversation_that_was_edited_is_cut_anew(memory: WindowMemory) -> None:
    messages = talk(40)
    await memory.before([*messages, user("What is my locker's number?")])
    messages[5] = user("My locker has the number 9999, next to the pool.")
    sent = await memory.before([*messages, user("What is my locker's number?")])
    assert "9999" in shown(sent)
    assert "4417" not in shown(sent)


async def test_what_was_left_out_can_be_paged_by_its_owner_only(memory: WindowMemory) -> None:
    (recall,) = memory.tools
    messages = [*talk(100), user("What else?")]
    sent = await memory.before(messages)
    found = re.search(r"resource (turns-\w+)", shown(sent))
    assert found is not None
    resource = found[1]
    read = ""
    start = 0
    while True:
        page = await recall.call({"resource": resource, "start": start})
        assert page.startswith("[memory:")
        read += page.partition("]\n")[2]
        more = re.search(r"go on with start=(\d+)", page.partition("]\n")[0])
        if more is None:
            break
        start = int(more[1])
    lines = [f"{m.role}: {m.content}" for m in messages[1:]]
    assert read == "\n".join(lines[: read.count("\n") + 1])
    assert read.count("\n") > 100
    about = await recall.call({"resource": resource, "query": "locker"})
    assert about.partition("]\n")[2].startswith("user: My locker has the number 4417")
    with (
        acting_for(Caller(user="mallory")),
        pytest.raises(InvalidArguments, match="nothing is kept"),
    ):
        await recall.call({"resource": resource})
    for wrong in ("turns-", "result-" + resource[6:] + "0", "x", "turns-' OR 1=1"):
        with pytest.raises(InvalidArguments):
            await recall.call({"resource": wrong})


async def test_a_trimmed_result_can_be_read_whole(memory: WindowMemory) -> None:
    (recall,) = memory.tools
    rows = "\n".join(f"row {n} holds {n * n}" for n in range(1000))
    call = ToolCall(id="1", name="sql", arguments="{}")
    messages = [
        user("List all."),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content=rows, tool_call_id="1"),
    ]
    sent = await memory.before(messages)
    assert [m.role for m in sent] == ["user", "assistant", "tool"]
    resource = re.search(r"resource (result-\w+)", sent[2].content or "")
    assert resource is not None
    page = await recall.call({"resource": resource[1], "query": "row 777"})
    assert "row 777 holds 603729" in page


async def test_the_trace_tells_what_was_left_out(store: Store, memory: WindowMemory) -> None:
    traces = Traces(store)
    messages = [*talk(100), user("Which number does my locker have?")]
    with Recorder(traces) as recorder, recorder.trace("desk", "desk") as root:
        await memory.before(messages)
    span = next(s for s in traces.get(root.trace_id or "").spans if s.name == "session")
    assert span.kind == "retrieval"
    assert span.attributes["kickwheel.memory.cut"] == "new"
    dropped = span.attributes["kickwheel.memory.dropped"]
    assert isinstance(dropped, list)
    assert len(dropped) > 150
    before = span.attributes["kickwheel.memory.tokens_before"]
    after = span.attributes["kickwheel.memory.tokens_after"]
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after <= BUDGET < before
    assert "4417" in (span.output[0].content or "")


async def test_facts_count_against_the_windows_budget(store: Store, memory: WindowMemory) -> None:
    with acting_for(Caller(user="ann")):
        facts = Facts("longterm", Ledger(store.database))
        await facts.add("My dog is called Rex", user_id="ann")
        both = Together([memory, facts])
        assert [tool.spec.name for tool in both.tools] == ["recall"]
        messages = [*talk(100), user("What is my dog called?")]
        sent = await both.before(messages)
        assert "My dog is called Rex" in shown(sent)
        assert await tokens(sent) <= BUDGET
        await both.after([*messages], said("Rex."))
        assert len(await facts.list("ann")) == 1


async def test_forgetting_a_person_takes_their_kept_turns_along(store: Store) -> None:
    ledger = Ledger(store.database)
    with acting_for(Caller(user="ann")):
        memory = WindowMemory("session", Turns(store.database), BUDGET)
        await memory.before([*talk(60), user("Go on.")])
    assert len(ledger.export("ann")["turns"]) > 50
    assert ledger.forget("ann").turns > 50
    assert ledger.export("ann")["turns"] == []


async def test_what_nobody_used_for_a_month_is_gone(store: Store, memory: WindowMemory) -> None:
    await memory.before([*talk(60), user("Go on.")])
    store.database.write(
        lambda connection: connection.execute(
            "UPDATE memory_turn SET time_ns = time_ns - ?", ((DAYS + 1) * 86_400 * 10**9,)
        )
    )
    Turns(store.database)
    assert store.database.read("SELECT COUNT(*) FROM memory_turn") == [(0,)]


async def test_tools_that_leave_no_room_are_told(memory: WindowMemory) -> None:
    tool = ToolSpec(name="wide", description="word " * 1000)
    with pytest.raises(TooLong, match="larger budget_tokens"):
        await memory.before([user("Hi")], tools=[tool])


async def test_strange_messages_do_no_harm(memory: WindowMemory) -> None:
    odd = [
        Message(role="tool", content="lost", tool_call_id="9"),
        user("\ud800 half a pair"),
        Message(role="assistant", content=None),
        *(user(f"\x00 {n} " + "💥" * 50) for n in range(20)),
    ]
    sent = await memory.before(odd)
    assert await tokens(sent) <= BUDGET
    assert await memory.before([]) == ()


@pytest.fixture
async def engine_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[object]:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path))
    base = pull(str(write_base(tmp_path / "tiny.gguf")))
    async with open_engine(base, threads=1) as engine:
        yield await engine.model()


async def test_the_models_own_tokenizer_has_the_last_word(
    store: Store, engine_model: object
) -> None:
    # The tiny base writes a token a byte: four times what an estimate would say.
    memory = WindowMemory("session", Turns(store.database), 1500)
    sent = await memory.before([*talk(30), user("What else?")], model=engine_model)  # type: ignore[arg-type]
    request = ChatRequest(messages=sent)
    assert await engine_model.prompt_tokens(request) <= 1500  # type: ignore[attr-defined]
    assert sent[-1] == user("What else?")


class Writes:
    """A model that writes a summary of what it was given."""

    name = "small"

    def __init__(self, text: str | ModelError) -> None:
        self.text = text
        self.asked: list[str] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request.messages[-1].content or "")
        if isinstance(self.text, ModelError):
            raise self.text
        yield TextDelta(self.text)
        yield Done("stop", Usage())


async def test_a_small_model_writes_the_summary(store: Store) -> None:
    small = Writes("The guest has locker 4417.")
    memory = WindowMemory("session", Turns(store.database), BUDGET, by_model(small))
    sent = await memory.before([*talk(60), user("Go on.")])
    assert "Summary:\nThe guest has locker 4417.]" in shown(sent)
    assert any("locker has the number 4417" in asked for asked in small.asked)
    assert all(estimate(asked) < 2000 for asked in small.asked)


async def test_a_summary_without_end_is_cut(store: Store) -> None:
    memory = WindowMemory("s", Turns(store.database), BUDGET, by_model(Writes("on and " * 3000)))
    assert await tokens(await memory.before([*talk(60), user("Go on.")])) <= BUDGET


@pytest.mark.parametrize("answer", [ModelError("down", status=503), " "], ids=["down", "empty"])
async def test_without_an_answer_the_most_telling_sentences_stand_for_the_turns(
    store: Store, answer: ModelError | str
) -> None:
    small = Writes(answer)
    memory = WindowMemory("session", Turns(store.database), BUDGET, by_model(small))
    sent = await memory.before([*talk(60), user("Go on.")])
    assert "user: My locker has the number 4417, next to the sauna." in shown(sent)


async def test_telling_sentences_are_copies_in_their_order() -> None:
    messages = [
        user("Hello there. We agreed to meet Dr Lee on 3 May."),
        said("Fine! How are you?"),
        user("Well, thanks. My budget is 2000."),
    ]
    assert (await extract(messages, 45)).splitlines() == [
        "user: We agreed to meet Dr Lee on 3 May.",
        "user: My budget is 2000.",
    ]
    assert await extract(messages, 3) == ""
