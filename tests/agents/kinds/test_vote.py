import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agents.desk import answer, desk, last

from kickwheel.agents import Finished, Text
from kickwheel.agents.ask import ask
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.kinds.vote import Vote, Voting, plain
from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, ModelError
from kickwheel.core.store import open_store
from kickwheel.models.caller import Caller, acting_for
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, TextDelta, Usage, complete
from kickwheel.records import Message, ToolSpec, genai

BUSY = ModelError("m: too many requests", status=429)
QUESTION = (Message(role="user", content="What is 6 times 7?"),)
APP = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
agents:
  crowd: {kind: vote, model: m, samples: 3}
  boss: {kind: tool_loop, model: m, agents: [crowd], instructions: boss}
"""


class Scripted:
    """A model that gives its answers in turn; an exception is raised, a pair is a call."""

    def __init__(self, *answers: Any, name: str = "m") -> None:
        self.name = name
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []
        self.at_once = self.most = 0

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        said = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(request)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        if isinstance(said, Exception):
            raise said
        if isinstance(said, tuple):
            yield CallDelta(0, id="c", name=said[0], arguments=said[1])
            yield Done("tool_calls", Usage(output_tokens=1))
        else:
            yield TextDelta(said)
            yield Done("stop", Usage(output_tokens=1))


def crowd(model: Scripted, judge: Scripted | None = None, **options: Any) -> Voting:
    return Voting("crowd", [model], judge, Vote(model="m", **options))  # type: ignore[list-item]


async def said(of: Voting, request: ChatRequest | None = None) -> str:
    text, end = "", None
    async for event in of.run(QUESTION, request):
        text += event.text if isinstance(event, Text) else ""
        end = event
    assert isinstance(end, Finished)
    assert end.answer.content == (text or None)
    return text


async def test_most_of_five_samples_win_all_asked_at_once_with_their_own_seeds() -> None:
    model = Scripted("41", "42", "It is 42", "42.", "42")
    assert await said(crowd(model, seed=7)) == "42"
    assert model.most == 5
    assert [asked.seed for asked in model.asked] == [7, 8, 9, 10, 11]
    assert {asked.temperature for asked in model.asked} == {0.7}


async def test_of_a_tie_the_answer_that_came_first_wins() -> None:
    assert await said(crowd(Scripted("a", "b", "b", "a"), samples=4)) == "a"


async def test_only_a_part_of_the_text_may_count() -> None:
    model = Scripted("6 + 7 = 13. Answer: 42", "Answer: 13", "I am sure. Answer: 42", "no idea")
    assert (await said(crowd(model, samples=4, pattern=r"Answer: (\d+)"))).endswith("Answer: 42")


async def test_no_more_is_asked_than_can_decide() -> None:
    sure = Scripted("42")
    assert await said(crowd(sure, samples=5, agree=0.6)) == "42"
    assert len(sure.asked) == 3
    unsure = Scripted("42", "41", "42", "42")
    assert await said(crowd(unsure, samples=5, agree=0.6)) == "42"
    assert len(unsure.asked) == 4


async def test_where_too_few_agree_there_is_no_answer() -> None:
    model = Scripted("1", "2", "3", "4", "5")
    with pytest.raises(ModelError, match="do not agree: 1 of 5 say the same"):
        await said(crowd(model, agree=0.8))
    assert len(model.asked) == 4


async def test_a_judge_reads_each_answer_once_and_chooses() -> None:
    judge = Scripted("2", name="judge")
    assert await said(crowd(Scripted("a", "b", "a"), judge, samples=3)) == "b"
    (asked,) = judge.asked
    assert asked.labels == ("1", "2")
    assert "Answer 1, given 2 times:\na" in (asked.messages[-1].content or "")
    judge = Scripted("2", name="judge")
    assert await said(crowd(Scripted("a"), judge, samples=3)) == "a"
    assert judge.asked == []


async def test_a_judge_that_names_no_answer_is_an_error() -> None:
    with pytest.raises(ModelError, match="should have named one of 2 answers"):
        await said(crowd(Scripted("a", "b"), Scripted("both", name="judge"), samples=2))


async def test_calls_are_the_same_by_name_and_arguments() -> None:
    lamp = ToolSpec(name="lamp", parameters={"type": "object", "properties": {}})
    model = Scripted(
        ("lamp", '{"on": true, "room": 1}'), ("lamp", '{"room": 1.0, "on": true}'), ("lamp", "{}")
    )
    agent = crowd(model, samples=3)
    told = await complete(agent, ChatRequest(messages=QUESTION, tools=(lamp,)))
    assert told.finish_reason == "tool_calls"
    assert told.message.tool_calls[0].arguments == '{"on": true, "room": 1}'


async def test_a_voter_that_fails_has_no_vote_and_only_all_of_them_are_an_error() -> None:
    broken = ModelError("m: too many requests", status=429, retry_after_s=30)
    assert await said(crowd(Scripted(broken, "42"), samples=2)) == "42"
    with pytest.raises(ModelError, match="none of 2 votes has an answer") as raised:
        await said(crowd(Scripted(broken), samples=2))
    assert (raised.value.status, raised.value.retry_after_s) == (429, 30)
    with pytest.raises(ModelError, match=r'the last: nothing in it matches "x="'):
        await said(crowd(Scripted("42"), samples=2, pattern="x="))
    with pytest.raises(ModelError, match="the last: it is empty"):
        await said(crowd(Scripted(" "), samples=2))


@pytest.mark.parametrize(
    ("first", "asked"), [(BUSY, 4), ("42", 3)], ids=["none answers", "too few agree"]
)
async def test_a_vote_that_failed_asks_only_those_again_who_had_no_answer(
    tmp_path: Path, first: Any, asked: int
) -> None:
    model = Scripted(first, BUSY, "42")
    agent = crowd(model, samples=2, agree=1)
    with open_store(tmp_path) as store:
        async with Keeper(store) as agent.keeper:
            with acting_for(Caller(user="ann", key="k")):
                with pytest.raises(ModelError):
                    await said(agent)
                assert await said(agent) == "42"
    assert len(model.asked) == asked


async def test_a_budget_ends_the_vote() -> None:
    agent = crowd(Scripted("42"), samples=5, max_steps=3)
    with pytest.raises(ModelError) as raised:
        await complete(agent, ChatRequest(messages=QUESTION))
    assert raised.value.status == 504


async def test_what_each_said_is_in_the_trace_and_it_is_a_tool_of_another(tmp_path: Path) -> None:
    samples = ["rain", "sun", "Sun"]

    def says(body: dict[str, Any]) -> Any:
        if body["messages"][0]["content"] != "boss":
            return samples.pop(0)
        return ("crowd", {"task": "Oslo?"}) if len(body["messages"]) == 2 else last(body)

    async with desk(tmp_path, says, APP) as (app, server):
        answered = await ask(app.model("boss"), QUESTION, app.recorder)
        app.recorder.flush()
        trace = app.traces.get(answered.trace)
    assert answered.answer == "sun"
    span = next(span for span in trace.spans if span.name == "crowd" and span.kind == "agent")
    assert span.attributes[genai.VOTES] == ["2 × sun", "1 × rain"]
    models = [span for span in trace.spans if span.kind == "model"]
    assert {span.output[-1].content for span in models} >= {"rain", "sun", "Sun"}
    assert sorted(asked["seed"] for _, asked, _ in server.asked if "seed" in asked) == [0, 1, 2]


async def test_several_agents_vote_once_each_as_they_are(tmp_path: Path) -> None:
    text = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
agents:
  a: {kind: tool_loop, model: m, instructions: a}
  b: {kind: tool_loop, model: m, instructions: b}
  c: {kind: tool_loop, model: m, instructions: c}
  crowd: {kind: vote, agents: [a, b, c]}
"""
    says = {"a": "yes", "b": "no", "c": "No."}
    async with desk(tmp_path, lambda b: says[b["messages"][0]["content"]], text) as (app, server):
        assert await answer(app, "crowd", "?") == "no"
    assert all("temperature" not in asked for _, asked, _ in server.asked)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("{kind: vote}", "Name either a model or agents"),
        ("{kind: vote, model: m, agents: [a]}", "Name either a model or agents"),
        ("{kind: vote, model: m, samples: 1}", "one vote decides nothing"),
        ("{kind: vote, agents: [a], instructions: b}", "instructions of their own"),
        ("{kind: vote, model: m, pattern: '('}", "no regular expression"),
        ("{kind: vote, model: m, agree: 60}", "less than or equal to 1"),
    ],
)
def test_options_that_decide_nothing_are_told(tmp_path: Path, options: str, says: str) -> None:
    (tmp_path / "app.yml").write_text(
        "models: {m: {kind: openai, model: m}}\n"
        f"agents: {{a: {{kind: tool_loop, model: m}}, crowd: {options}}}\n"
    )
    with pytest.raises(ConfigError, match=says):
        check_app(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Oslo.", " oslo "),
        ("4", "4.0"),
        ('{"a": 1, "b": "X"}', '{"b": "x", "a": 1.0}'),
        ('"Oslo"', "Oslo"),
    ],
)
def test_answers_that_mean_the_same_count_as_the_same(one: str, other: str) -> None:
    assert plain(one) == plain(other)


@given(st.text())
def test_comparing_twice_is_comparing_once(text: str) -> None:
    assert plain(plain(text)) == plain(text)
