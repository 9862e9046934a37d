"""One file, checked and opened."""

from pathlib import Path

import pytest

from kickwheel import check_app, open_app
from kickwheel.app import default, schema
from kickwheel.core.errors import UsageError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.records import Message

PARTS = '''
from contextlib import asynccontextmanager
from kickwheel import Part
from kickwheel.models.chat import Done, TextDelta, Usage
from kickwheel.core.plugins import Name
from typing import Annotated

LOG = []

class Echo:
    def __init__(self, name): self.name = name
    async def stream(self, request):
        yield TextDelta(self.name + ": " + request.messages[-1].content)
        yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))

class Plain(Part):
    @asynccontextmanager
    async def open(self, context):
        LOG.append("open " + context.name)
        yield Echo(context.name)
        LOG.append("close " + context.name)

class Over(Part):
    model: Annotated[str, Name("models")]
    """What it asks."""

    @asynccontextmanager
    async def open(self, context):
        LOG.append("open " + context.name)
        yield context.part("models", self.model)
        LOG.append("close " + context.name)
'''


def app_of(folder: Path, module: str, text: str) -> Path:
    (folder / f"{module}.py").write_text(PARTS)
    (folder / "app.yml").write_text(text.replace("MODULE", module))
    return folder


async def test_parts_open_before_what_needs_them_and_close_in_reverse(tmp_path: Path) -> None:
    app = app_of(
        tmp_path,
        "parts_order",
        "agents: {b: {kind: 'MODULE:Over', model: a}}\nmodels: {a: {kind: 'MODULE:Plain'}}\n",
    )
    async with open_app(app) as opened:
        answer = await complete(
            opened.model("b"), ChatRequest(messages=(Message(role="user", content="hi"),))
        )
        with pytest.raises(UsageError, match=r'no agent or model named "bb".* "b"'):
            opened.model("bb")
    assert answer.message.content == "a: hi"
    import parts_order

    assert parts_order.LOG == ["open a", "open b", "close b", "close a"]


async def test_only_what_is_wanted_opens(tmp_path: Path) -> None:
    app = app_of(
        tmp_path,
        "parts_only",
        "models: {a: {kind: 'MODULE:Plain'}, z: {kind: 'MODULE:Plain'}}\n"
        "agents: {b: {kind: 'MODULE:Over', model: a}}\n",
    )
    async with open_app(app, only=["b"]) as opened:
        assert set(opened.live) == {("models", "a"), ("agents", "b")}
    with pytest.raises(UsageError, match='no agent or model named "c"'):
        async with open_app(app, only=["c"]):
            pass


def test_the_one_who_answers_is_found_or_asked_for(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text("models: {a: {kind: openai, model: x}}")
    assert default(check_app(tmp_path)) == "a"
    (tmp_path / "app.yml").write_text(
        "models: {a: {kind: openai, model: x}, b: {kind: openai, model: y}}"
    )
    with pytest.raises(UsageError, match="name one of a, b"):
        default(check_app(tmp_path))
    (tmp_path / "app.yml").write_text(
        "models: {m: {kind: openai, model: x}}\n"
        "agents:\n"
        "  clerk: {kind: tool_loop, model: m}\n"
        "  doctor: {kind: human}\n"
        "  desk: {kind: router, agents: [clerk, doctor], model: m}\n"
    )
    assert default(check_app(tmp_path)) == "desk"


def test_the_schema_knows_every_kind_and_its_options() -> None:
    whole = schema()
    kinds = {
        part["properties"]["kind"]["const"]
        for part in whole["properties"]["models"]["additionalProperties"]["anyOf"]
        if "const" in part["properties"]["kind"]
    }
    assert {"openai", "local", "vllm"} <= kinds
    assert whole["properties"]["flywheel"]
