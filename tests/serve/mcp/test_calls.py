import asyncio
import base64
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, MCPError
from mcp_types import ElicitResult

from tests.serve.mcp.served import BOB, ERAS, Server, eventually

Open = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture(params=ERAS)
def open_client(request: Any, server: Server) -> Open:
    """Opens a client, in both eras of the protocol."""
    return lambda **options: server.client(request.param, **options)


def said(result: Any) -> str:
    return "".join(block.text for block in result.content)


async def test_a_client_lists_and_calls_what_the_file_offers(open_client: Open) -> None:
    async with open_client() as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools)[:3] == ["price", "broken", "whoami"]
        assert {"echo", "careful", "slow", "refund", "papers_read"} <= tools.keys()
        assert "getcwd" not in tools, "what is not offered is not there"
        assert tools["echo"].description == "Says it again."
        assert tools["price"].input_schema["properties"]["count"]["default"] == 1
        assert tools["papers_read"].annotations.read_only_hint
        assert said(await client.call_tool("price", {"article": "pear", "count": 2})) == (
            "2 pear: 6 EUR"
        )
        assert said(await client.call_tool("echo", {"task": "hello"})) == "ann: hello"


async def test_what_fails_is_a_result_that_says_so(open_client: Open) -> None:
    async with open_client() as client:
        broken = await client.call_tool("broken", {"detail": "orders"})
        assert broken.is_error
        assert "no connection" in said(broken)
        assert "hunter2" not in said(broken)
        wrong = await client.call_tool("price", {"article": "pear", "count": "many"})
        assert wrong.is_error
        assert "count" in said(wrong)
        missing = await client.call_tool("echo", {})
        assert missing.is_error
        assert 'echo wants a "task"' in said(missing)
        bug = await client.call_tool("echo", {"task": "a bug"})
        assert bug.is_error
        assert "nobody's business" not in said(bug)
        with pytest.raises(MCPError, match=r'no tool "prise" here\. Did you mean "price"'):
            await client.call_tool("prise", {})
        assert said(await client.call_tool("echo", {"task": "still here"})).endswith("still here")


async def test_a_question_of_a_run_goes_to_the_person_at_the_client(open_client: Open) -> None:
    asked: list[Any] = []

    async def person(context: Any, params: Any) -> ElicitResult:
        asked.append((params.message, params.requested_schema["properties"]["answer"].get("enum")))
        answer = "400 EUR" if len(asked) == 1 else "yes"
        return ElicitResult(action="accept", content={"answer": answer})

    async with open_client(elicitation_callback=person) as client:
        assert said(await client.call_tool("careful", {"task": "pay"})) == "400 EUR, yes"
        assert asked == [("How much?", None), ("Really 400 EUR?", ["yes", "no"])]


async def test_a_tool_that_wants_a_yes_asks_for_it(open_client: Open) -> None:
    answers = iter(["accept", "decline", "cancel"])

    async def person(context: Any, params: Any) -> ElicitResult:
        action: Any = next(answers)
        content = {"answer": "yes"} if action == "accept" else None
        return ElicitResult(action=action, content=content)

    async with open_client(elicitation_callback=person) as client:
        assert said(await client.call_tool("refund", {"amount": 5})) == "5 EUR paid back"
        declined = await client.call_tool("refund", {"amount": 6})
        assert declined.is_error
        assert "does not want this call to be made" in said(declined)
        unanswered = await client.call_tool("refund", {"amount": 7})
        assert unanswered.is_error
        assert "gave no answer" in said(unanswered)


async def test_an_answer_that_is_none_of_the_choices_ends_the_run(open_client: Open) -> None:
    async def person(context: Any, params: Any) -> ElicitResult:
        return ElicitResult(action="accept", content={"answer": "perhaps"})

    async with open_client(elicitation_callback=person) as client:
        careful = await client.call_tool("careful", {"task": "pay"})
        assert careful.is_error
        assert "a person was asked «Really perhaps?», and gave no answer" in said(careful)


async def test_where_nobody_can_be_asked_the_client_is_told(open_client: Open) -> None:
    async with open_client() as client:
        refund = await client.call_tool("refund", {"amount": 5})
        assert refund.is_error
        assert "a person must be asked «May refund be called with" in said(refund)
        careful = await client.call_tool("careful", {"task": "pay"})
        assert careful.is_error
        assert "«How much?»" in said(careful)
        assert "`kickwheel answer " in said(careful)


async def test_progress_is_told_to_who_wants_it(open_client: Open) -> None:
    heard: list[Any] = []

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append((done, message))

    async with open_client() as client:
        await client.call_tool("echo", {"task": "hello"}, progress_callback=progress)
        for _ in range(100):
            if len(heard) == 2:
                break
            await asyncio.sleep(0.01)
    assert heard == [(1, "calls look"), (2, "look: done")]


async def test_a_call_that_the_client_gives_up_is_cancelled(
    open_client: Open, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    async with open_client() as client:
        call = asyncio.create_task(client.call_tool("slow", {"task": str(note)}))
        await eventually(lambda: note.exists() and note.read_text() == "begun")
        call.cancel()
        await eventually(lambda: note.read_text() == "begun cancelled")


async def test_the_files_of_a_folder_are_resources(open_client: Open) -> None:
    async with open_client() as client:
        listed = {one.name: one for one in (await client.list_resources()).resources}
        assert listed.keys() == {"terms.md", "old/größe 1.txt", "seal.png"}, "no link is listed"
        terms = (await client.read_resource("files://papers/terms.md")).contents[0]
        assert (terms.text, terms.mime_type) == ("# Terms\n30 days.\n", "text/markdown")
        old = (await client.read_resource(str(listed["old/größe 1.txt"].uri))).contents[0]
        assert old.text == "für alle"
        seal = (await client.read_resource("files://papers/seal.png")).contents[0]
        assert base64.b64decode(seal.blob).startswith(b"\x89PNG")
        for uri, why in (
            ("files://papers/gone.md", "is not there"),
            ("files://papers/../app.yml", "leads out of the root"),
            ("files://papers/%2e%2e/app.yml", "leads out of the root"),
            ("files://papers/away.txt", "leads out of the root"),
            ("files://paper/terms.md", 'Did you mean "papers"'),
            ("file:///etc/passwd", "no resource"),
        ):
            with pytest.raises(MCPError, match=why):
                await client.read_resource(uri)


@pytest.mark.parametrize("era", ERAS)
async def test_the_key_says_who_asks(server: Server, era: str) -> None:
    async with server.client(era) as ann, server.client(era, key=BOB) as bob:
        assert said(await ann.call_tool("whoami", {})) == "ann"
        assert said(await bob.call_tool("whoami", {})) == "bob"
        assert said(await ann.call_tool("echo", {"task": "hi"})) == "ann: hi"
        assert said(await bob.call_tool("echo", {"task": "hi"})) == "bob: hi"


async def test_nobody_goes_on_with_somebody_elses_run(server: Server) -> None:
    async with server.client(elicitation_callback=_never) as ann, server.client(key=BOB) as bob:
        first = await ann.session.call_tool("careful", {"task": "pay"}, allow_input_required=True)
        forged = {"input_responses": _yes(first), "request_state": first.request_state}
        with pytest.raises(MCPError, match="this requestState is none that was given"):
            await bob.session.call_tool("careful", {"task": "pay"}, **forged)
        with pytest.raises(MCPError, match="this requestState is none that was given"):
            await ann.session.call_tool("careful", {"task": "pay"}, request_state="0" * 32)
        other = await ann.session.call_tool("careful", {"task": "other"}, **forged)
        assert other.is_error, "the answers were for another task"


async def _never(context: Any, params: Any) -> ElicitResult:
    raise AssertionError("asked by hand here")


def _yes(first: Any) -> Any:
    return {
        key: ElicitResult(action="accept", content={"answer": "1"}) for key in first.input_requests
    }
