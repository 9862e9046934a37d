import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from tests.agents.desk import desk

from kickwheel.agents import Finished, Text
from kickwheel.agents.ask import ask
from kickwheel.agents.kinds.tool_loop import Loop, ToolLoop
from kickwheel.agents.output import Output
from kickwheel.agents.tools import Limits
from kickwheel.app import check_app
from kickwheel.core.errors import ConfigError, ModelError
from kickwheel.models.chat import CallDelta, ChatRequest, Delta, Done, TextDelta, Usage, complete
from kickwheel.records import Message, ToolSpec

INVOICE = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "to": {"type": "string"}},
    "required": ["total", "to"],
    "additionalProperties": False,
}
QUESTION = (Message(role="user", content="What do I owe, and to whom?"),)
GOOD = '{"total": 12.5, "to": "Ann"}'


class Invoice(BaseModel):
    total: float
    to: str

    @field_validator("total")
    @classmethod
    def _owed(cls, total: float) -> float:
        if total < 0:
            raise ValueError("nobody owes less than nothing")
        return total


class Scripted:
    """A model that gives its answers in turn; a tuple is a call."""

    name = "small"

    def __init__(self, *answers: str | tuple[str, str]) -> None:
        self.answers = list(answers)
        self.asked: list[ChatRequest] = []

    async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
        self.asked.append(request)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        if isinstance(answer, str):
            for word in answer.split(" "):
                yield TextDelta(word if word == answer.split(" ")[0] else f" {word}")
            yield Done("stop", Usage(output_tokens=1))
        else:
            yield CallDelta(0, id="1", name=answer[0], arguments=answer[1])
            yield Done("tool_calls", Usage(output_tokens=1))


class Debt:
    spec = ToolSpec(name="debt", parameters={"type": "object", "properties": {}})
    limits = Limits(effects="none")

    async def call(self, arguments: Any) -> str:
        return "12.50 to Ann"


def agent(model: Scripted, *tools: Debt, **options: Any) -> Loop:
    own = {tool.spec.name: tool for tool in tools}
    return Loop("desk", model, own, ToolLoop(model="m", **{"output": INVOICE, **options}))


async def answer(of: Loop, request: ChatRequest | None = None) -> tuple[list[str], Finished]:
    said: list[str] = []
    async for event in of.run(QUESTION, request):
        if isinstance(event, Text):
            said.append(event.text)
        if isinstance(event, Finished):
            return said, event
    raise AssertionError


async def test_the_schema_goes_to_the_model_and_its_answer_is_told_once_it_fits() -> None:
    model = Scripted(GOOD)
    said, finished = await answer(agent(model))
    assert model.asked[0].json_schema == INVOICE
    assert said == [GOOD]
    assert finished.answer.content == GOOD
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    "written",
    [
        f"```json\n{GOOD}\n```",
        f"Here it is:\n```json\n{GOOD}\n```\nAnything else?",
        "{'total': 12.5, 'to': 'Ann',}",
        '{"total": "12.5", "to": "Ann"}',
    ],
)
async def test_what_can_only_mean_one_thing_is_repaired_without_asking(written: str) -> None:
    model = Scripted(written)
    said, _ = await answer(agent(model))
    assert json.loads(said[0]) == json.loads(GOOD)
    assert len(model.asked) == 1


async def test_all_mistakes_are_told_to_the_model_which_answers_again() -> None:
    model = Scripted('{"totl": 1}', GOOD)
    said, finished = await answer(agent(model))
    assert said == [GOOD]
    told = model.asked[1].messages[-1].content or ""
    assert '"total" is missing' in told
    assert '"to" is missing' in told
    assert 'there is no "totl"' in told
    assert json.dumps(INVOICE, separators=(",", ":")) in told
    assert finished.steps == 2


async def test_the_third_wrong_answer_is_an_error_and_no_answer() -> None:
    model = Scripted("I owe Ann.", "12.50", '{"total": true}', GOOD)
    with pytest.raises(ModelError, match="desk: the answer is not of the form") as raised:
        await answer(agent(model))
    assert raised.value.status == 502
    assert len(model.asked) == 3


async def test_an_agent_with_tools_works_freely_and_is_then_asked_for_the_form() -> None:
    model = Scripted(("debt", "{}"), "You owe Ann 12.50.", GOOD)
    said, _ = await answer(agent(model, Debt()))
    assert said == [GOOD]
    assert [bool(asked.json_schema) for asked in model.asked] == [False, False, True]
    assert model.asked[2].tool_choice == "none"


async def test_an_answer_that_fits_already_is_not_asked_for_twice() -> None:
    model = Scripted(("debt", "{}"), GOOD)
    said, _ = await answer(agent(model, Debt()))
    assert said == [GOOD]
    assert len(model.asked) == 2


async def test_what_the_caller_wants_goes_before_what_the_app_says() -> None:
    model = Scripted('["Ann"]')
    wanted = ChatRequest(messages=(), json_schema={"type": "array", "items": {"type": "string"}})
    said, _ = await answer(agent(model), wanted)
    assert said == ['["Ann"]']


async def test_a_client_of_the_agent_gets_the_form_whole_and_streamed() -> None:
    request = ChatRequest(messages=QUESTION, json_schema=INVOICE)
    whole = await complete(agent(Scripted("Ann!", GOOD), output=None), request)
    assert whole.message.content == GOOD


async def test_a_pydantic_model_checks_more_than_its_schema_says() -> None:
    model = Scripted('{"total": -1, "to": "Ann"}', GOOD)
    said, _ = await answer(agent(model, output=Invoice))
    assert said == [GOOD]
    assert "nobody owes less than nothing" in (model.asked[1].messages[-1].content or "")


def test_references_that_contain_themselves_are_followed() -> None:
    tree = {
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"next": {"$ref": "#/$defs/Node"}, "n": {"type": "integer"}},
                "required": ["n"],
            }
        },
        "$ref": "#/$defs/Node",
    }
    loop = ToolLoop(model="m", output=tree)
    assert loop.output is not None
    assert loop.output.read('{"n": 1, "next": {"n": 2}}')[1] == []
    assert loop.output.read('{"n": 1, "next": {}}')[1] == ['"next.n" is missing']


def test_an_answer_of_any_other_type_is_read_too() -> None:
    output = Output({"type": "array", "items": {"enum": ["a", "b"]}})
    assert output.read('["a"]') == ('["a"]', [])
    assert output.read('["c"]')[1] == ['"[0]" must be one of "a", "b"; "c" is none of them']
    assert output.read("")[1] == ["it is no JSON"]


async def test_python_gets_the_model_itself(tmp_path: Path) -> None:
    text = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
agents: {desk: {kind: tool_loop, model: m, output: 'tests.agents.test_output:Invoice'}}
"""
    says = iter(["I owe Ann.", GOOD, "no", "no", "no"])
    async with desk(tmp_path, lambda body: next(says), text) as (app, server):
        answered = await ask(app.model("desk"), QUESTION, app.recorder)
        with pytest.raises(ModelError, match="not of the form"):
            await ask(app.model("desk"), QUESTION, app.recorder)
    assert answered.read(Invoice) == Invoice(total=12.5, to="Ann")
    assert server.asked[0][1]["response_format"]["json_schema"]["schema"]["required"] == [
        *("total", "to")
    ]
    with pytest.raises(ModelError, match="the answer cannot be read"):
        replace(answered, answer="", note="out of time").read(Invoice)


APP = """models: {m: {kind: openai, model: any}}
agents: {desk: {kind: tool_loop, model: m, output: OUTPUT}}
"""


KINDS = """
models: {m: {kind: openai, model: m, base_url: URL, api_key: k}}
tools:
  t: {kind: python, trusted: true, functions: ['tests.agents.kinds.doing:fare']}
agents:
  tool_loop: {kind: tool_loop, model: m, tools: [t], OUTPUT}
  react: {kind: react, model: m, tools: [t], OUTPUT}
  code: {kind: code, model: m, tools: [t], OUTPUT}
  code_and_words: {kind: code, model: m, tools: [t], answer: model, OUTPUT}
  plan: {kind: plan, model: m, tools: [t], OUTPUT}
  plans_last_step: {kind: plan, model: m, tools: [t], answer: step, OUTPUT}
  router: {kind: router, agents: [free, react], model: m, OUTPUT}
  handoff: {kind: handoff, agents: [free, react], OUTPUT}
  vote: {kind: vote, agents: [free], samples: 3, OUTPUT}
  graph: {kind: graph, nodes: {a: {agent: free}}, edges: [{to: a}], OUTPUT}
  free: {kind: tool_loop, model: m, instructions: free}
"""
TOTAL = "output: {type: object, properties: {total: {type: number}}, required: [total]}"


@pytest.mark.parametrize("name", re.findall(r"^  (\w+): {.*OUTPUT}$", KINDS, re.MULTILINE))
async def test_every_kind_takes_it_also_where_who_answers_knew_of_no_form(
    tmp_path: Path, name: str
) -> None:
    fare = {"id": "a", "what": "", "call": "fare", "arguments": {"start": "A", "end": "B"}}

    def say(body: dict[str, Any]) -> str:
        first, asked = body["messages"][0]["content"], body["messages"][-1]["content"]
        form = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        if "steps" in form.get("properties", {}):
            return json.dumps({"steps": [{**fare, "needs": []}]})
        if "label" in form.get("properties", {}):
            return '{"label": "free"}'
        if "JSON of this schema" in asked:
            return '{"total": 8}'
        if "def fare" in first and len(body["messages"]) == 2:
            return "```python\nawait fare(start='A', end='B')\n```"
        return "Answer: eight" if "Action:" in first else "eight"

    async with desk(tmp_path, say, KINDS.replace("OUTPUT", TOTAL)) as (app, _):
        told = await complete(app.model(name), ChatRequest(messages=QUESTION))
    assert told.message.content == '{"total": 8}'


def test_the_file_names_a_schema_beside_it_or_a_pydantic_model(tmp_path: Path) -> None:
    (tmp_path / "invoice.json").write_text(json.dumps(INVOICE))
    (tmp_path / "billing_of_the_test.py").write_text(
        "from pydantic import BaseModel\nclass Invoice(BaseModel):\n    total: float\n"
    )
    for written in ("invoice.json", "'billing_of_the_test:Invoice'", json.dumps(INVOICE)):
        (tmp_path / "app.yml").write_text(APP.replace("OUTPUT", written))
        part = check_app(tmp_path).parts["agents", "desk"]
        assert isinstance(part, ToolLoop)
        assert part.output is not None
        assert "total" in part.output.schema["properties"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("nowhere.json", '"nowhere.json" cannot be read: No such file'),
        ("app.yml", '"app.yml" is not JSON'),
        ("'json:loads'", '"json:loads" is no Pydantic model'),
        ("'nowhere_at_all:Model'", "cannot be imported"),
        ("{total: number}", "no JSON Schema"),
        ("3", "must be a JSON Schema, a file of one, or package.module:Model"),
    ],
)
def test_an_output_that_is_none_is_told_with_its_place(
    tmp_path: Path, written: str, says: str
) -> None:
    (tmp_path / "app.yml").write_text(APP.replace("OUTPUT", written))
    with pytest.raises(ConfigError) as raised:
        check_app(tmp_path)
    assert says in str(raised.value)
    assert "agents.desk.output" in str(raised.value)
    assert ":2:" in str(raised.value)
