"""The judges refuse what the clouds refuse: each sentence here is one of their own refusals."""

from typing import Any

import pytest

from kickwheel.core.errors import ModelError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.client import open_remote
from kickwheel.records import Message
from tests.models.loopback import loopback, stream
from tests.wires import faults_asked
from tests.wires.openai import answered

CLAUDE, BEDROCK, OPENAI = "/v1/messages", "/model/m/converse-stream", "/v1/chat/completions"
USE = {"type": "tool_use", "id": "a", "name": "find", "input": {}}
FIND = {"name": "find", "input_schema": {"type": "object"}}
CALL = {"id": "a", "type": "function", "function": {"name": "find", "arguments": "{}"}}


def claude(*turns: Any, **more: Any) -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[n % 2], "content": t} for n, t in enumerate(turns)]
    return {"model": "m", "max_tokens": 1, "messages": messages, **more}


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        (CLAUDE, claude("Hi", "Hi"), "end with a user message"),
        (CLAUDE, claude(" "), "non-whitespace"),
        (CLAUDE, claude("Hi", store=True), "store: Extra inputs"),
        (CLAUDE, claude([{"type": "text", "txt": "Hi"}]), "text: Field required"),
        (CLAUDE, claude("Hi", [USE], "Hi"), "must define tools"),
        (CLAUDE, claude("Hi", [USE, USE], "Hi", tools=[FIND]), "must be unique"),
        (CLAUDE, claude("Hi", [USE], "Hi", tools=[FIND]), "the calls before were ['a']"),
        (BEDROCK, {"messages": [{"role": "user", "content": [{"text": ""}]}]}, "non-whitespace"),
        (BEDROCK, {"messages": [{"role": "tool", "content": [{"text": "Hi"}]}]}, "'tool' is none"),
        (BEDROCK, {"messages": [], "inferenceConfig": {"temperature": 1.5}}, "more than 1"),
        (OPENAI, {"model": "m", "messages": [{"role": "user", "content": 3}]}, "valid string"),
        (
            OPENAI,
            {"model": "m", "messages": [{"role": "assistant", "tool_calls": [CALL]}] * 2},
            "did not have response messages",
        ),
    ],
)
def test_what_a_cloud_would_refuse_is_a_fault(path: str, body: Any, told: str) -> None:
    assert told in str(faults_asked(path, body))


async def test_the_stub_refuses_it_and_fails_the_test() -> None:
    said = Message(role="tool", content="Oslo", tool_call_id="a")

    async def answer(request: Any) -> Any:
        return await stream(request)

    async def asking() -> None:
        async with (
            loopback(answer) as server,
            open_remote("far", "m", f"{server.url}/v1") as model,
        ):
            with pytest.raises(ModelError, match="answers 400"):
                await complete(model, ChatRequest(messages=(said,)))

    with pytest.raises(AssertionError, match="preceding tool_calls"):
        await asking()


def test_an_answer_that_the_client_could_not_read_is_a_fault() -> None:
    model = b'{"id": "m", "object": "model", "created": "now", "owned_by": "us"}'
    (told,) = answered("GET", "/v1/models/m", 200, "application/json", model)
    assert told == "created: Input should be a valid integer"
    late = b'event: error\ndata: {"type": "response.finished", "sequence_number": 7}\n\n'
    assert answered("POST", "/v1/responses", 200, "text/event-stream", late)
