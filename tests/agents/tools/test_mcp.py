import asyncio
import json
import os
import re
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError
from ruamel.yaml import YAML

from kickwheel.agents import durable
from kickwheel.agents.keeper import Keeper
from kickwheel.agents.tools import Tool, calling
from kickwheel.agents.tools import attempt as attempting
from kickwheel.agents.tools.mcp import Mcp
from kickwheel.core.errors import MissingExtra, UsageError
from kickwheel.core.plugins import Context
from kickwheel.core.store import Store, open_store
from kickwheel.records import ToolCall

STRANGER = str(Path(__file__).with_name("stranger.py"))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_store(tmp_path / "store") as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempting, "FIRST_PAUSE_S", 0.001)


@asynccontextmanager
async def opened(store: Store, part: Mcp) -> AsyncIterator[dict[str, Tool]]:
    async def share(key: Any, make: Any) -> Any:
        raise AssertionError("a server shares nothing")

    async with part.open(Context("clinic", store.folder, store, {}, share=share)) as box:
        yield {tool.spec.name: tool for tool in box}


def stranger(mood: str = "kind", *more: str, **options: Any) -> Mcp:
    return Mcp(command=(sys.executable, STRANGER, mood, *more), **options)


async def said(tools: dict[str, Tool], name: str, **arguments: Any) -> calling.Result:
    call = ToolCall(id="1", name=name, arguments=json.dumps(arguments))
    return await calling.call(tools, call)


async def test_the_tools_of_a_server_are_tools(store: Store) -> None:
    async with opened(store, stranger()) as tools:
        assert tools["echo"].spec.description == "echo it"
        assert tools["echo"].spec.parameters["required"] == ["text"]
        assert (await said(tools, "echo", text="hello")).text == "hello"
        assert (await said(tools, "fail", text="x")).text == "error: no such file"


async def test_what_the_server_says_of_a_tool_becomes_its_effects(store: Store) -> None:
    names = ("echo", "read", "put", "files_delete")
    async with opened(store, stranger()) as tools:
        effects = [tools[name].limits.effects for name in names]  # type: ignore[attr-defined]
    assert effects == ["once", "none", "repeatable", "once"]
    async with opened(store, stranger(effects="none", trusted=True)) as tools:
        limits = tools["echo"].limits  # type: ignore[attr-defined]
        assert (limits.effects, limits.trusted) == ("none", True)


async def test_tools_may_be_chosen_and_renamed(store: Store) -> None:
    part = stranger(only=("echo", "files.*"), prefix="clinic_")
    async with opened(store, part) as tools:
        assert list(tools) == ["clinic_echo", "clinic_files_delete"]
        assert (await said(tools, "clinic_echo", text="hi")).text == "hi"
    with pytest.raises(UsageError, match=r'tools\.clinic: only: the server has no tool "ehco"'):
        async with opened(store, stranger(only=("ehco",))):
            pass


async def test_a_server_sees_no_variables_but_those_it_is_given(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("CLINIC_TOKEN", "t0ken")
    part = stranger(env={"TOKEN": SecretStr("${CLINIC_TOKEN}"), "MODE": SecretStr("test")})
    async with opened(store, part) as tools:
        found = json.loads((await said(tools, "environment", text="")).text)
    assert found["TOKEN"] == "t0ken"
    assert found["MODE"] == "test"
    assert found.keys() <= {"TOKEN", "MODE", "PATH", "HOME", "LANG", "LC_CTYPE"}
    monkeypatch.delenv("CLINIC_TOKEN")
    with pytest.raises(UsageError, match=r"tools\.clinic\.env\.TOKEN: .* is empty or not set"):
        async with opened(store, part):
            pass


async def test_a_server_that_dies_fails_the_call_and_is_started_again(store: Store) -> None:
    async with opened(store, stranger()) as tools:
        died = await said(tools, "die", text="")
        assert died.state == "failed"
        assert "the connection to the server ended in the middle of the call" in died.text
        assert "it ended with exit status 3, and said: out of memory, <key_1>" in died.text
        assert "whether the call was carried out is not known" in died.text
        assert (await said(tools, "echo", text="again")).text == "again"


async def test_a_call_that_only_reads_is_made_again_when_the_server_died(
    store: Store, tmp_path: Path
) -> None:
    async with opened(store, stranger()) as tools:
        assert (await said(tools, "read", text=str(tmp_path / "once"))).text == "read"


async def test_a_server_that_hangs_holds_up_its_call_and_no_other(store: Store) -> None:
    async with opened(store, stranger(timeout_s=0.3)) as tools:
        assert (await said(tools, "hang", text="")).text == "error: no answer within 0.3 s"


async def test_a_server_that_shouts_is_cut_short(store: Store) -> None:
    async with opened(store, stranger()) as tools:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        loud = await said(tools, "shout", text="")
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert loud.state == "failed"
        assert "it sent more than 16,777,216 bytes in one message" in loud.text
        assert after - before < 100_000, "kilobytes: the message was not taken in"
        assert (await said(tools, "echo", text="again")).text == "again"


async def test_a_server_that_lies_is_found_out(store: Store) -> None:
    async with opened(store, stranger("lies")) as tools:
        taking_anything = {"type": "object", "properties": {}, "additionalProperties": True}
        assert tools["echo"].spec.parameters == taking_anything, "its schema is none"
        assert (await said(tools, "echo", text="fine")).text == "fine"
        slow = await said(tools, "slow", text="a" * 40 + "!")
        assert slow.state == "done", "its pattern would take years"
        refused = await said(tools, "refuse", text="prose")
        assert refused == calling.Result("error: text must be a poem", "invalid", untrusted=True)
        broken = await said(tools, "promise", text="")
        assert broken.state == "failed"
        assert "the server breaks its own word" in broken.text


async def test_a_list_that_breaks_the_protocol_is_refused_with_the_place(store: Store) -> None:
    told = r"tools\.clinic: the server breaks its own word: tools\.1\.inputSchema\.type: Input"
    with pytest.raises(UsageError, match=told):
        async with opened(store, stranger("wrong")):
            pass


async def test_a_server_with_more_tools_than_anybody_can_use_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="offers more than 500 tools"):
        async with opened(store, stranger("many")):
            pass


async def test_a_server_that_does_not_start_is_told_with_its_last_words(store: Store) -> None:
    with pytest.raises(UsageError, match=r"^tools\.clinic: .*no database, no service"):
        async with opened(store, stranger("broken")):
            pass
    with pytest.raises(UsageError, match=r"tools\.clinic: .*no-such-program\" cannot be started"):
        async with opened(store, Mcp(command=("no-such-program",))):
            pass
    with pytest.raises(UsageError, match=r"has not greeted within 0\.3 s"):
        async with opened(store, stranger("silent", start_s=0.3)):
            pass


async def test_what_is_no_message_is_passed_over(store: Store) -> None:
    async with opened(store, stranger("chatty")) as tools:
        assert (await said(tools, "echo", text="hello")).text == "hello"


async def test_the_list_follows_the_servers(store: Store) -> None:
    async def share(key: Any, make: Any) -> Any:
        raise AssertionError

    part = stranger()
    async with part.open(Context("clinic", store.folder, store, {}, share=share)) as box:
        tools = {tool.spec.name: tool for tool in box}
        assert "new" not in tools
        await said(tools, "grow", text="")
        for _ in range(500):
            if "new" in {tool.spec.name for tool in box}:
                break
            await asyncio.sleep(0.01)
        assert "new" in {tool.spec.name for tool in box}
        assert tools["echo"] in box, "what was held before is still the tool"


async def test_nothing_of_a_server_is_left_when_the_app_closes(
    store: Store, tmp_path: Path
) -> None:
    async with opened(store, stranger("parent", str(tmp_path / "child"))) as tools:
        await said(tools, "echo", text="hello")
        child = int((tmp_path / "child").read_text())
        os.kill(child, 0)
    for _ in range(100):
        if not _runs(child):
            break
        await asyncio.sleep(0.01)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] not in ("Z", "X")


class Person(durable.Unkept):
    """Steps that nobody keeps, with somebody to ask."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    async def person(self, question: str, choices: tuple[str, ...] = ()) -> str:
        self.asked.append((question, choices))
        return self.answers.pop(0)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("yes", {"action": "accept", "content": {"sure": True}}),
        ("no", {"action": "accept", "content": {"sure": False}}),
        ("what?", {"action": "decline"}),
    ],
)
async def test_what_a_server_asks_a_person_answers(
    store: Store, answer: str, result: dict[str, Any]
) -> None:
    person = Person(answer)
    async with opened(store, stranger()) as tools:
        durable.STEPS.set(person)
        assert json.loads((await said(tools, "ask", text="")).text) == result
    assert person.asked == [("Sure?", ("yes", "no"))]


async def test_a_run_waits_for_the_answer_and_the_call_is_made_again(
    store: Store, tmp_path: Path
) -> None:
    asking: dict[str, Any] = {"agent": "clerk", "asked": "x", "key": "1"}
    async with opened(store, stranger()) as tools:

        async def work() -> str:
            return (await said(tools, "ask", text="")).text

        async with Keeper(store) as keeper:
            with pytest.raises(durable.Waiting) as waiting:
                await keeper.run(work, str, **asking)
            assert [question.text for question in waiting.value.questions] == ["Sure?"]
            await keeper.answer(waiting.value.run, "yes")
            told = json.loads(await keeper.run(work, str, **asking))
    assert told == {"action": "accept", "content": {"sure": True}}


async def test_where_nobody_can_be_asked_the_server_is_told_so(store: Store) -> None:
    async with opened(store, stranger()) as tools:
        assert json.loads((await said(tools, "ask", text="")).text) == {"action": "cancel"}


async def test_a_missing_package_is_told_with_its_remedy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(MissingExtra, match=r"pip install 'kickwheel\[mcp\]'"):
        async with opened(store, stranger()):
            pass


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"command": ["x"], "url": "http://localhost/mcp"},
        {"command": ["x"], "headers": {"A": "b"}},
        {"url": "http://localhost/mcp", "env": {"A": "b"}},
        {"command": ["x"], "as_caller": True},
    ],
)
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Mcp.model_validate(wrong)


PAGE = Path(__file__).parents[3] / "docs" / "tools" / "mcp.md"


async def test_the_server_on_the_page_works_as_the_page_sets_it_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIC_TOKEN", "t0ken")
    yaml, code, *_ = (
        text.split("```")[0]
        for text in re.split(r"```(?:yaml|python)\n", PAGE.read_text("utf-8"))[1:]
    )
    (store.folder / "clinic.py").write_text(code)
    options = YAML(typ="safe").load(yaml)["tools"]["clinic"]
    options["command"][0] = sys.executable
    part = Mcp.model_validate(options)
    async with opened(store, part) as tools:
        assert list(tools) == ["clinic_appointments", "clinic_book_appointment"]
        assert tools["clinic_appointments"].limits.effects == "none"  # type: ignore[attr-defined]
        free = await said(tools, "clinic_appointments", day="Monday")
        assert free.text == "Monday 9:00\nMonday 11:30"
