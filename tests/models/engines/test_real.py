"""The default base, as it is served."""

import pytest

from kickwheel.core.errors import ModelError
from kickwheel.models.catalog import pull
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.engines import open_engine
from kickwheel.records import Message, ToolSpec

FIND = ToolSpec(
    name="Events_3_FindEvents",
    description="Finds events in a city.",
    parameters={
        "type": "object",
        "properties": {
            "event_type": {"type": "string", "enum": ["Music", "Theater"]},
            "city": {"type": "string"},
        },
        "required": ["event_type", "city"],
    },
)


@pytest.mark.slow
async def test_the_default_base_answers_and_calls() -> None:
    base = pull("smollm2-135m")
    question = Message(role="user", content="What is the capital of France?")
    wish = Message(role="user", content="Find a theater play in Paris.")
    async with open_engine(base) as engine:
        model = await engine.model()
        answer = await complete(model, ChatRequest(messages=(question,), max_tokens=40))
        # Counted by hand: <|im_start|> user \n, the question's 7, <|im_end|> \n <|im_start|>
        # ass istant \n; the answer's 7 and its end.
        assert answer.usage.prompt_tokens == 16
        assert "Paris" in (answer.message.content or "")
        called = await complete(
            model,
            ChatRequest(messages=(wish,), tools=(FIND,), tool_choice="required", max_tokens=120),
        )
        assert called.message.tool_calls[0].name == FIND.name


@pytest.mark.slow
async def test_a_base_that_has_no_room_for_its_tools_says_what_makes_room() -> None:
    wish = Message(role="user", content="Find a theater play in Paris.")
    many = tuple(
        ToolSpec(name=f"{FIND.name}_{n}", description="Finds. " * 40, parameters=FIND.parameters)
        for n in range(60)
    )
    async with open_engine(pull("smollm2-135m")) as engine:
        model = await engine.model()
        with pytest.raises(ModelError, match="`kickwheel turn` makes an adapter") as caught:
            await complete(model, ChatRequest(messages=(wish,), tools=many))
        assert "its tools (60) whole" in str(caught.value)
        long = Message(role="user", content="Paris. " * 9_000)
        with pytest.raises(ModelError, match="Shorten it, or set a larger `context`"):
            await complete(model, ChatRequest(messages=(long,)))
