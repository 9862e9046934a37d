"""What is remembered, and above all what is not: the junk that memories fill up with."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path

import pytest

from kickwheel.agents.caller import Caller, acting_for
from kickwheel.agents.memory import Facts, Ledger, is_recalled
from kickwheel.agents.memory.extract import by_model
from kickwheel.agents.memory.fact import Fact, Scope
from kickwheel.agents.memory.facts import FactsPart
from kickwheel.agents.memory.rules import by_rules
from kickwheel.core.errors import ModelError, UsageError
from kickwheel.core.store import Store, open_store
from kickwheel.models import embedding
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.records import Message, ToolCall
from kickwheel.trace.record import Recorder
from kickwheel.trace.store import Traces


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    with open_store(tmp_path, database) as opened:
        yield opened


@pytest.fixture
def facts(store: Store) -> Facts:
    return Facts("longterm", Ledger(store.database))


@pytest.fixture(autouse=True)
def ann() -> Iterator[None]:
    with acting_for(Caller(user="ann", tenant="clinic")):
        yield


class Claims:
    """A model that claims to have read these facts, whatever it was shown."""

    name = "claims"

    def __init__(self, *claimed: dict[str, object] | str) -> None:
        self.claimed = claimed
        self.asked: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        self.asked.append(request)
        known = json.loads(request.messages[-1].content or "")["known"]
        entries = [
            {"op": "add", "subject": "user", "kind": "note", "turn": 0, "replaces": "", **entry}
            if isinstance(entry, dict)
            else {"op": "add", "text": entry, "subject": "user", "kind": "note", "turn": 0,
                  "replaces": ""}
            for entry in self.claimed
        ]  # fmt: skip
        for entry in entries:
            if entry["replaces"] == "FIRST":
                entry["replaces"] = known[0]["id"]
        yield TextDelta(json.dumps({"facts": entries}))
        yield Done("stop", Usage())


def user(text: str) -> Message:
    return Message(role="user", content=text)


def texts(found: list[Fact]) -> list[str]:
    return [fact.text for fact in found]


async def tell(facts: Facts, *messages: Message) -> None:
    await facts.after(messages, Message(role="assistant", content="Noted."))


async def known(facts: Facts, user: str = "ann", *, past: bool = False) -> list[str]:
    return texts(await facts.list(user, tenant="clinic", past=past))


async def test_what_a_person_says_is_found_in_another_conversation(facts: Facts) -> None:
    await tell(facts, user("Hi, my name is Ann Lee and I prefer window seats."))
    asked = [user("Which seats do I prefer?")]
    sent = await facts.before(asked)
    assert len(sent) == 2
    assert is_recalled(sent[0])
    assert "I prefer window seats" in (sent[0].content or "")
    assert sent[1] == asked[0]


async def test_a_new_value_supersedes_the_old_which_stays_readable(facts: Facts) -> None:
    await tell(facts, user("I live in Oslo."))
    await tell(facts, user("I moved to Bergen"))
    assert await known(facts) == ["I moved to Bergen"]
    old, new = await facts.list("ann", tenant="clinic", past=True)
    assert (old.text, old.valid_to) == ("I live in Oslo", new.valid_from)


async def test_what_is_known_is_not_stored_again_but_another_digit_or_a_not_is_another_fact(
    facts: Facts,
) -> None:
    for said in (
        "Remember that the meeting in the blue room starts at 5",
        "remember that the meeting in the blue room starts at 5!",
        "Remember that the meeting in the blue room starts at 6",
        "Remember that the meeting in the blue room never starts at 6",
    ):
        await tell(facts, user(said))
    assert await known(facts) == [
        "The meeting in the blue room starts at 5",
        "The meeting in the blue room starts at 6",
        "The meeting in the blue room never starts at 6",
    ]


async def test_what_another_process_forgot_or_superseded_is_not_told_again(store: Store) -> None:
    serving, elsewhere = (Facts("m", Ledger(store.database)) for _ in range(2))
    asked = [user("Where do I live?")]

    async def told() -> str:
        return " ".join(message.content or "" for message in await serving.before(asked))

    await tell(serving, user("I live in Oslo."))
    assert "Oslo" in await told()
    await tell(elsewhere, user("I live in Bergen."))
    assert "Bergen" in await told()
    await elsewhere.forget("ann", tenant="clinic")
    assert await told() == "Where do I live?"


async def test_liking_and_no_longer_liking_are_one_slot(facts: Facts) -> None:
    await tell(facts, user("I like green tea"))
    await tell(facts, user("I don't like green tea any more"))
    assert await known(facts) == ["I don't like green tea any more"]


async def test_nothing_is_learned_from_the_instructions_even_if_they_are_said_again(
    store: Store,
) -> None:
    rule = "You are a hotel assistant and must always greet guests politely in English."
    claims = Claims(rule, "The assistant must always greet guests politely in English")
    facts = Facts("m", Ledger(store.database), by_model(claims))
    await tell(facts, Message(role="system", content=rule), user(f"Your prompt says: {rule}"))
    assert await known(facts) == []
    shown = claims.asked[0].messages[-1].content or ""
    assert [turn["role"] for turn in json.loads(shown)["turns"]] == ["user"]


async def test_recalled_memories_are_not_stored_again(store: Store) -> None:
    facts = Facts("m", Ledger(store.database))
    await tell(facts, user("Remember that the dog of my sister is called Rex"))
    claims = Claims("The dog of the sister is called Rex")
    again = Facts("m", Ledger(store.database), by_model(claims))
    sent = await again.before([user("What is the dog of my sister called?")])
    assert is_recalled(sent[0])
    await tell(again, *sent, Message(role="assistant", content="Rex."))
    await tell(again, sent[0], user("So the dog of my sister is called Rex, thanks."))
    assert await known(facts) == ["The dog of my sister is called Rex"]


async def test_what_a_memory_tool_gave_back_is_not_learned_from(facts: Facts) -> None:
    call = ToolCall(id="1", name="recall", arguments='{"resource": "turns-1"}')
    claims = Claims("My name is Bob Stone")
    facts = Facts("m", facts.ledger, by_model(claims))
    await tell(
        facts,
        user("Look it up."),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="1", content="user: My name is Bob Stone"),
    )
    assert await known(facts) == []
    assert len(json.loads(claims.asked[0].messages[-1].content or "")["turns"]) == 1


async def test_invented_profiles_are_not_believed(store: Store) -> None:
    claims = Claims(
        "The user is a software engineer named John Doe",
        "The user wants a table for 6",
        "The user wants a table in Rome",
        "The user wants a table for two",
    )
    facts = Facts("m", Ledger(store.database), by_model(claims))
    await tell(facts, user("I want a table for two."))
    assert await known(facts) == ["The user wants a table for two"]


async def test_an_extractor_supersedes_only_what_it_was_shown(store: Store) -> None:
    facts = Facts("m", Ledger(store.database))
    await tell(facts, user("Remember that the gate code is 4417"))
    new = {"op": "supersede", "text": "The gate code is now 9021", "replaces": "FIRST"}
    wild = {"op": "supersede", "text": "The gate is green", "replaces": "ffffffffffff", "turn": 99}
    facts = Facts("m", facts.ledger, by_model(Claims(new, wild)))
    await tell(facts, user("The gate code is now 9021 and the gate is green."))
    assert await known(facts) == ["The gate code is now 9021", "The gate is green"]


async def test_a_tools_result_is_learned_from_and_named_as_the_source(store: Store) -> None:
    facts = Facts(
        "m", Ledger(store.database), by_model(Claims({"text": "Room 12 is booked", "turn": 1}))
    )
    call = ToolCall(id="1", name="book", arguments="{}")
    await tell(
        facts,
        user("Book it."),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", tool_call_id="1", content="Room 12 is booked for Friday"),
    )
    (fact,) = await facts.list("ann", tenant="clinic")
    assert (fact.origin, fact.said) == ("tool", "Room 12 is booked for Friday")


async def test_an_extractor_that_fails_costs_no_answer_but_add_tells(store: Store) -> None:
    class Broken:
        name = "broken"

        async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
            yield TextDelta("I cannot do that")
            yield Done("stop", Usage())

    facts = Facts("m", Ledger(store.database), by_model(Broken()))
    await tell(facts, user("My name is Ann"))
    with pytest.raises(ModelError, match="no list of facts"):
        await facts.add("My name is Ann", user_id="ann")


async def test_secrets_are_not_remembered(facts: Facts) -> None:
    await tell(facts, user("Remember that my mail is ann@example.com"))
    await tell(facts, user("My password is hunter2hunter2"))
    assert await known(facts, past=True) == []


async def test_tenants_users_agents_and_sessions_never_mix(store: Store) -> None:
    facts = Facts("m", Ledger(store.database), options=FactsPart(scope="agent"))
    with acting_for(Caller(user="ann", tenant="clinic")):
        await facts.after([user("My code is 1111")], user(""), agent="desk")
    question = [user("What is my code?")]
    for who, agent, found in (
        (Caller(user="ann", tenant="clinic"), "desk", 2),
        (Caller(user="ann", tenant="clinic"), "other", 1),
        (Caller(user="bob", tenant="clinic"), "desk", 1),
        (Caller(user="ann", tenant="bank"), "desk", 1),
    ):
        with acting_for(who):
            assert len(await facts.before(question, agent=agent)) == found
    await facts.add("My badge is 77", user_id="ann", run_id="s1")
    assert (await facts.search("badge", user_id="ann", run_id="s2"))["results"] == []
    assert len((await facts.search("badge", user_id="ann", run_id="s1"))["results"]) == 1


async def test_of_callers_that_nobody_knows_nothing_is_kept(
    facts: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    with acting_for(Caller()):
        await tell(facts, user("My name is Ann"))
        await tell(facts, user("My name is Bob"))
        assert await facts.before([user("What is my name?")]) == (user("What is my name?"),)
    assert caplog.text.count("keeps nothing of callers that nobody knows") == 1
    alone = Facts("m", facts.ledger, options=FactsPart(user="me"))
    with acting_for(Caller()):
        await tell(alone, user("My name is Ann"))
        assert len(await alone.before([user("What is my name?")])) == 2


async def test_what_stands_in_the_conversation_is_not_told_again(facts: Facts) -> None:
    await tell(facts, user("I prefer window seats"))
    asked = (user("I prefer window seats."), Message(role="assistant", content="OK"),
             user("Which seats do I prefer?"))  # fmt: skip
    assert await facts.before(asked) == asked


async def test_recall_keeps_to_its_budget(store: Store) -> None:
    facts = Facts("m", Ledger(store.database), options=FactsPart(recall_tokens=60))
    for day in range(20):
        await tell(facts, user(f"Remember that lunch on day {day} is with guest number {day}"))
    (first, _) = await facts.before([user("With whom is lunch?")])
    assert 1 <= (first.content or "").count("\n- ") <= 3


@pytest.mark.parametrize(
    "question",
    [
        '"',
        "NEAR(",
        "a OR",
        "text:*",
        "💥",
        "",
        "'; DROP TABLE memory_fact; --",
        "AND",
        "\ud800",
        "\x00",
    ],
)
async def test_no_question_is_an_error_in_the_index(facts: Facts, question: str) -> None:
    await tell(facts, user("My name is Ann"))
    await facts.before([user(question)])
    await tell(facts, user(f"My name is Ann {question}."))
    await facts.search(question, user_id="ann")


async def test_facts_are_found_by_words_alone_where_no_embeddings_are(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "embed", lambda texts: None)
    await tell(facts, user("My favourite colour is teal"))
    assert len(await facts.before([user("which colours do I like?")])) == 2


async def test_facts_are_found_by_meaning_where_no_word_is_shared(facts: Facts) -> None:
    await tell(facts, user("I am allergic to peanuts"))
    found = await facts.search("food intolerance", user_id="ann")
    assert [hit["memory"] for hit in found["results"]] == ["I am allergic to peanuts"]


async def test_the_interface_of_mem0(facts: Facts) -> None:
    added = await facts.add(
        [{"role": "system", "content": "My name is Hal."},
         {"role": "user", "content": "My name is Ann"},
         {"role": "assistant", "content": "My name is Bot"}],
        user_id="ann",
    )  # fmt: skip
    assert [(r["memory"], r["event"]) for r in added["results"]] == [("My name is Ann", "ADD")]
    again = await facts.add("my name is Anna", user_id="ann")
    assert [r["event"] for r in again["results"]] == ["UPDATE"]
    raw = await facts.add("Blue, please", user_id="ann", infer=False)
    assert [r["memory"] for r in raw["results"]] == ["Blue, please"]
    (hit, *_) = (await facts.search("name", user_id="ann", top_k=1))["results"]
    assert (hit["memory"], hit["user_id"]) == ("My name is Anna", "ann")
    with pytest.raises(UsageError, match="user_id, agent_id or run_id"):
        await facts.search("name")
    with pytest.raises(UsageError, match="no messages in OpenAI's form"):
        await facts.add([{"role": "nobody", "content": "x"}], user_id="ann")


async def test_why_leads_to_the_message_and_its_trace(store: Store) -> None:
    facts = Facts("m", Ledger(store.database))
    traces = Traces(store)
    with Recorder(traces) as recorder, recorder.trace("desk", "desk") as root:
        await tell(facts, user("Hello! By the way, my name is Ann. What's up?"))
    (fact,) = await facts.list("ann", tenant="clinic")
    found = await facts.why(fact.id[:6])
    assert found.said == "Hello! By the way, my name is Ann. What's up?"
    assert found.trace == root.trace_id
    learned = next(span for span in traces.get(found.trace).spans if span.id == found.span)
    assert (learned.kind, learned.attributes["gen_ai.operation.name"]) == ("retrieval", "learn")
    assert learned.attributes["kickwheel.memory.changes"] == [f"add {fact.id}"]
    with pytest.raises(UsageError, match="no fact"):
        await facts.why("zzz")


async def test_forgetting_leaves_nothing_in_the_file(tmp_path: Path) -> None:
    def written() -> bytes:
        return b"".join(path.read_bytes() for path in sorted(tmp_path.glob("store.db*")))

    with open_store(tmp_path) as store:
        facts = Facts("m", Ledger(store.database))
        await tell(facts, user("My favourite pastry is kouignamann"))
        await facts.add("My favourite pastry is stollen", user_id="bob")
        assert b"kouignamann" in written()
        assert (await facts.forget("ann", tenant="clinic")).facts == 1
        assert b"kouignamann" not in written()
        assert b"stollen" in written()


async def test_forgetting_names_the_traces_that_stay(store: Store) -> None:
    facts = Facts("m", Ledger(store.database))
    with Recorder(Traces(store)) as recorder, recorder.trace("desk", "desk") as root:
        await tell(facts, user("My favourite pastry is kouignamann"))
    await facts.add("My favourite pastry is stollen", user_id="bob")
    gone = await facts.forget("ann", tenant="clinic")
    assert (gone.facts, gone.traces) == (1, (root.trace_id,))
    asked = user("favourite pastry?")
    assert await facts.before([asked]) == (asked,)
    with acting_for(Caller(tenant="clinic")):
        assert len((await facts.search("pastry", user_id="bob"))["results"]) == 1


async def test_one_fact_is_forgotten_by_its_owner_only(facts: Facts) -> None:
    await tell(facts, user("My name is Ann. I live in Oslo."))
    name, home = await facts.list("ann", tenant="clinic")
    with pytest.raises(UsageError, match='"bob" has no fact'):
        await facts.forget("bob", tenant="clinic", fact=name.id)
    assert (await facts.forget("ann", tenant="clinic", fact=name.id)).facts == 1
    assert await known(facts) == [home.text]


async def test_an_export_is_all_that_is_known_of_a_person(facts: Facts) -> None:
    await tell(facts, user("I live in Oslo."))
    await tell(facts, user("I live in Bergen."))
    whole = await facts.export("ann", tenant="clinic")
    assert [fact["text"] for fact in whole["facts"]] == ["I live in Oslo", "I live in Bergen"]
    assert json.loads(json.dumps(whole)) == whole


async def test_a_hundred_megabytes_are_neither_read_nor_compared(facts: Facts) -> None:
    call = ToolCall(id="1", name="look", arguments="{}")
    huge = Message(role="tool", tool_call_id="1", content="x y " * 25_000_000)
    await tell(facts, user("My name is Ann"), Message(role="assistant", tool_calls=(call,)), huge)
    assert await known(facts) == ["My name is Ann"]
    asked = [user("What is my name?"), Message(role="assistant", tool_calls=(call,)), huge]
    assert len(await facts.before(asked)) == 4


async def test_the_same_exchange_learned_twice_adds_nothing(facts: Facts) -> None:
    for _ in range(2):
        await tell(facts, user("My name is Ann and I live in Oslo"))
    assert len(await known(facts, past=True)) == 2


async def test_only_the_last_exchange_is_read(facts: Facts) -> None:
    await tell(
        facts,
        user("My name is Ann"),
        Message(role="assistant", content="Hello. My name is Bot."),
        user("I live in Oslo"),
    )
    assert await known(facts) == ["I live in Oslo"]


async def test_a_scope_holds_what_is_empty_for_any(store: Store) -> None:
    ledger = Ledger(store.database)
    facts = Facts("m", ledger, by_rules, FactsPart(scope="tenant"))
    await tell(facts, user("Remember that the office closes at 6"))
    with acting_for(Caller(user="bob", tenant="clinic")):
        assert len(await facts.before([user("When does the office close?")])) == 2
    assert texts(ledger.of("clinic", "")) == ["The office closes at 6"]
    assert Scope() == Scope(tenant="", user="", agent="", session="")
