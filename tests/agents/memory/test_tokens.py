"""Tokens as a model counts them, and the estimate where none does."""

import base64
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.models.tiny import tiny

from kickwheel.agents.memory.tokens import Counter, estimate, surely_fits
from kickwheel.models.catalog import pull
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.engines import open_engine
from kickwheel.models.engines.llamacpp import LocalModel
from kickwheel.records import Message, ToolCall, ToolSpec

DOCS = Path(__file__).parents[3] / "docs"
LOOK = ToolSpec(name="look", description="Looks.", parameters={"type": "object", "properties": {}})
TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Où est la gare?"),
    Message(role="assistant", content=None, tool_calls=(ToolCall(id="1", name="look",
                                                                 arguments='{"a": 1}'),)),
    Message(role="tool", content="Left.", tool_call_id="1"),
)  # fmt: skip


@pytest.fixture
async def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LocalModel]:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path))
    async with open_engine(tiny(tmp_path), threads=1) as engine:
        yield await engine.model()


async def test_the_engine_counts_as_it_counts_what_it_reads(model: LocalModel) -> None:
    request = ChatRequest(messages=TALK[:2], max_tokens=1)
    answer = await complete(model, request)
    assert await model.prompt_tokens(request) == answer.usage.prompt_tokens


async def test_messages_and_what_is_around_them_make_up_the_prompt(model: LocalModel) -> None:
    count = Counter(model)
    assert count.exact
    for tools in ((), (LOOK,)):
        whole = await model.prompt_tokens(ChatRequest(messages=TALK, tools=tools))
        assert sum(await count(TALK)) + await count.fixed(tools) >= whole
        assert await count.whole(TALK, tools) == whole
    # A byte each, in the template `<|im_start|>user\n…<|im_end|>\n`: 16 letters, of which «ù» has 2
    # bytes, 5 of the role and the line end, one line end, two special tokens.
    assert await count([TALK[1]]) == [16 + 5 + 1 + 2]


async def test_a_model_that_is_gone_is_estimated(model: LocalModel) -> None:
    count = Counter(model)
    await model.engine.close()
    assert await count(TALK) == await Counter()(TALK)


async def test_equal_messages_are_counted_once() -> None:
    class Counts:
        name = "counts"
        asked = 0

        async def prompt_tokens(self, request: ChatRequest) -> int:
            self.asked += 1
            return 10 * len(request.messages) + 3

    counts = Counts()
    count = Counter(counts)  # type: ignore[arg-type]
    assert await count([TALK[1]] * 3) == [10] * 3
    before = counts.asked
    await count([TALK[1]] * 9)
    assert await count.fixed(()) == 3
    assert counts.asked == before


SAMPLES = {
    "pages": [part for page in DOCS.glob("*.md") for part in page.read_text("utf-8").split("\n\n")],
    "languages": [
        "Ich hätte gern ein Zimmer für drei Nächte, bitte bestätigen Sie die Buchung.",
        "Je voudrais réserver une chambre pour deux nuits à partir de lundi prochain.",
        "Saya ingin menukarkan ukuran yang saya miliki dengan ukuran M karena terlalu besar.",
        "Chciałbym zarezerwować pokój na trzy noce ze śniadaniem.",
        "Я хочу забронировать номер на три ночи.",
        "我想预订一个房间住三晚。日本語のテキストです。한국어 문장입니다.",
    ],
    "ids": [
        random.Random(seed).randbytes(40).hex() + " "
        + base64.b64encode(random.Random(seed).randbytes(60)).decode()
        for seed in range(20)
    ],
    "data": ['{"reservation_id": "ZFA04Y", "price": 1234.5, "user_id": "yusuf_rossi_9620"}'],
}  # fmt: skip


@pytest.mark.slow
async def test_the_estimate_is_not_below_what_the_default_base_counts() -> None:
    async with open_engine(pull("smollm2-135m")) as engine:
        model = await engine.model()
        for kind, texts in SAMPLES.items():
            messages = [Message(role="user", content=text) for text in texts if text.strip()]
            counted = await Counter(model)(messages)
            for message, exact, guess in zip(
                messages, counted, await Counter()(messages), strict=True
            ):
                assert guess >= exact, (kind, message.content)


@given(st.text(max_size=200), st.text(max_size=200))
def test_the_estimate_is_between_nothing_and_a_token_a_byte(a: str, b: str) -> None:
    size = len((a + b).encode(errors="replace"))
    assert estimate("") == 0
    assert estimate("ab " * 100_000) == 300_000
    assert 0 <= estimate(a + b) <= size + size // 4 + 1


@given(
    st.lists(st.text(max_size=50).map(lambda text: Message(role="user", content=text))),
    st.integers(1, 2000),
)
async def test_what_surely_fits_does_fit(messages: list[Message], budget: int) -> None:
    if surely_fits(messages, (), budget):
        assert sum(await Counter()(messages)) <= budget
