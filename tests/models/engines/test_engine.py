"""The engine, with a tiny llama in a real llama.cpp."""

import asyncio
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec import structs

from kickwheel.core.errors import DataError, EngineError, ModelError
from kickwheel.models.catalog import Base
from kickwheel.models.chat import ChatRequest, Completion, Delta, Done, complete
from kickwheel.models.engines import Engine, engine, open_engine
from kickwheel.records import Adapter, Message, PromptForm, ToolSpec, wire
from tests.models.tiny import tiny, write_adapter

FIND = ToolSpec(
    name="find",
    parameters={
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": ["music", "theatre"]}},
        "required": ["kind"],
    },
)


def asked(text: str = "Who?", **more: object) -> ChatRequest:
    settings = {"max_tokens": 12, "timeout_s": 30.0, **more}
    return ChatRequest(messages=(Message(role="user", content=text),), **settings)  # type: ignore[arg-type]


async def text(model: object, request: ChatRequest | None = None) -> str:
    return (await complete(model, request or asked())).message.content or ""  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return tiny(tmp_path)


@pytest_asyncio.fixture
async def running(base: Base) -> AsyncGenerator[Engine]:
    async with open_engine(base, threads=1, parallel=2) as running:
        yield running


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def gone(pid: int, within_s: float = 10.0) -> bool:
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        if not is_alive(pid):
            return True
        await asyncio.sleep(0.02)
    return False


async def slots_in_use(running: Engine) -> int:
    async with running.lease(None) as generation:
        url, key = generation.process.url, generation.process.key
        headers = {"Authorization": f"Bearer {key}"}
        async with running.session.get(f"{url}/slots", headers=headers) as response:
            return sum(slot["is_processing"] for slot in await response.json())


async def test_usage_is_that_of_the_tokens(running: Engine) -> None:
    model = await running.model()
    whole: Completion = await complete(model, asked("ab", max_tokens=7))
    # Every byte is a token here: <|im_start|> user \n a b <|im_end|> \n <|im_start|> assistant \n
    assert whole.usage.prompt_tokens == 1 + 4 + 1 + 2 + 1 + 1 + 1 + 9 + 1
    assert whole.usage.output_tokens <= 7
    again = await complete(model, asked("ab", max_tokens=7))
    assert again.usage.prompt_tokens == whole.usage.prompt_tokens
    assert again.usage.cached_tokens == whole.usage.prompt_tokens - 1
    fresh = await complete(model, asked("ab", max_tokens=7, extra={"cache_prompt": False}))
    assert fresh.usage.cached_tokens == 0


async def test_a_grammar_forces_a_call_and_none_leaves_the_tools_out(running: Engine) -> None:
    model = await running.model()
    forced = await complete(model, asked(tools=(FIND,), tool_choice="required", max_tokens=60))
    (call,) = forced.message.tool_calls
    assert call.name == "find"
    assert call.arguments in ('{"kind": "music"}', '{"kind": "theatre"}')
    assert forced.finish_reason == "tool_calls"
    named = await complete(model, asked(tools=(FIND,), tool_choice="find", max_tokens=60))
    assert named.message.tool_calls[0].arguments == call.arguments
    plain = await complete(model, asked(tools=(FIND,), tool_choice="none"))
    assert not plain.message.tool_calls
    assert plain.usage.prompt_tokens < forced.usage.prompt_tokens


async def test_a_call_that_was_cut_is_text(running: Engine) -> None:
    model = await running.model()
    whole = await complete(model, asked(tools=(FIND,), tool_choice="required", max_tokens=3))
    assert (whole.message.content, whole.finish_reason) == ("fin", "length")


async def test_the_form_decides_whether_the_schemas_are_read(running: Engine) -> None:
    short = await running.model(None, "short", PromptForm(tools="none"))
    full = await running.model(None, "full", PromptForm(tools="full"))
    request = asked(tools=(FIND,), tool_choice="required", max_tokens=40)
    few, many = await complete(short, request), await complete(full, request)
    assert few.usage.prompt_tokens < many.usage.prompt_tokens - 100
    own = asked(tools=(FIND,), tool_choice="required", form=PromptForm(tools="none"))
    assert (await complete(full, own)).usage.prompt_tokens == few.usage.prompt_tokens


async def test_labels_and_json_are_enforced(running: Engine) -> None:
    model = await running.model()
    assert await text(model, asked(labels=("spam", "ham"))) in ("spam", "ham")
    schema = {"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"]}
    assert await text(model, asked(json_schema=schema)) == '{"a":7}'
    few = {"type": "integer", "minimum": 3, "maximum": 5}
    assert await text(model, asked(json_schema=few)) in ("3", "4", "5")


async def test_an_unknown_tool_as_choice_is_the_callers_mistake(running: Engine) -> None:
    model = await running.model()
    with pytest.raises(ModelError, match='no tool "lose"') as caught:
        await complete(model, asked(tools=(FIND,), tool_choice="lose"))
    assert caught.value.status == 400


async def test_a_prompt_longer_than_the_context_is_told_with_both_lengths(running: Engine) -> None:
    model = await running.model()
    with pytest.raises(ModelError, match=r"the prompt has 6\d\d tokens.*holds 512") as caught:
        await complete(model, asked("x" * 600))
    assert caught.value.status == 400
    assert "tools" not in str(caught.value)
    with pytest.raises(ModelError, match=r"its tools \(1\) whole.*kickwheel turn"):
        await complete(model, asked("x" * 600, tools=(FIND,)))


async def test_an_answer_that_takes_too_long_ends_with_504(running: Engine) -> None:
    model = await running.model()
    with pytest.raises(ModelError) as caught:
        await complete(model, asked(max_tokens=450, timeout_s=0.001))
    assert caught.value.status == 504


async def test_a_client_that_leaves_frees_its_slot(running: Engine) -> None:
    model = await running.model()
    for _ in range(5):
        deltas = model.stream(asked(max_tokens=480, extra={"cache_prompt": False}))
        async for _delta in deltas:
            break
        await deltas.aclose()
    for _ in range(100):
        if await slots_in_use(running) == 0:
            break
        await asyncio.sleep(0.02)
    assert await slots_in_use(running) == 0


async def test_adapters_answer_beside_their_base(running: Engine, tmp_path: Path) -> None:
    base = await running.model()
    before = await text(base)
    one = await running.model(write_adapter(tmp_path / "one", seed=2))
    two = await running.model(write_adapter(tmp_path / "two", seed=3))
    answers = [await text(model) for model in (base, one, two)]
    assert answers[0] == before
    assert len(set(answers)) == 3
    # In any order, and at the same time: the adapter of one request never leaks into another.
    together = await asyncio.gather(*(text(model) for model in (two, base, one, base, two, one)))
    assert together == [answers[i] for i in (2, 0, 1, 0, 2, 1)]
    assert (one.name, two.name) == ("one", "two")


async def test_the_base_does_not_go_on_from_what_an_adapter_read(
    running: Engine, tmp_path: Path
) -> None:
    base, one = await running.model(), await running.model(write_adapter(tmp_path / "one"))
    alone = await text(base, asked(extra={"cache_prompt": False}))
    for _ in range(4):
        await text(one)
        assert await text(base) == alone


async def test_a_stream_that_runs_while_an_adapter_comes_ends_well(
    running: Engine, tmp_path: Path
) -> None:
    base = await running.model()
    request = asked(max_tokens=450, extra={"cache_prompt": False})
    alone = await text(base, request)
    first = asyncio.Event()
    deltas: list[Delta] = []

    async def read() -> None:
        async for delta in base.stream(request):
            deltas.append(delta)
            first.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(read())
        await first.wait()
        old = running.pid
        adapter = await running.model(write_adapter(tmp_path / "one"))
        assert await text(adapter) != await text(base)
    assert old is not None
    assert running.pid != old
    assert isinstance(deltas[-1], Done)
    assert "".join(getattr(delta, "text", "") for delta in deltas) == alone
    assert await gone(old)


async def test_no_request_is_lost_while_adapters_come(running: Engine, tmp_path: Path) -> None:
    base = await running.model()
    expected = await text(base)
    stop = False
    answers: list[str] = []

    async def ask() -> None:
        while not stop:
            answers.append(await text(base))

    async with asyncio.TaskGroup() as group:
        askers = [group.create_task(ask()) for _ in range(3)]
        models = [await running.model(write_adapter(tmp_path / f"a{n}", seed=n)) for n in range(3)]
        stop = True
        await asyncio.gather(*askers)
    assert set(answers) == {expected}
    assert len({await text(model) for model in models}) == 3


async def test_an_adapter_that_nobody_holds_is_not_started_again(
    running: Engine, tmp_path: Path
) -> None:
    one = await running.model(write_adapter(tmp_path / "one"))
    await text(one)
    del one
    two = await running.model(write_adapter(tmp_path / "two", seed=3))
    await text(two)
    async with running.lease(None) as generation:
        assert {path.parent.name for path in generation.adapters} == {"two", "nothing"}


async def test_a_killed_engine_answers_the_next_request(running: Engine, tmp_path: Path) -> None:
    model = await running.model(write_adapter(tmp_path / "one"))
    before = await text(model)
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    assert await text(model) == before


async def test_an_adapter_that_is_gone_keeps_nobody_else_from_being_served(
    running: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = await running.model(write_adapter(tmp_path / "here"))
    lost = await running.model(write_adapter(tmp_path / "lost", seed=3))
    before = await text(here)
    shutil.rmtree(tmp_path / "lost")
    assert running.pid is not None
    os.kill(running.pid, signal.SIGKILL)
    assert await text(here) == before
    assert "lost/adapter.gguf is gone and not served any more" in caplog.text
    with pytest.raises(ModelError, match=r"lost/adapter\.gguf is gone"):
        await text(lost)
    assert await text(here) == before


async def test_a_request_that_waits_when_the_engine_is_killed_is_answered(running: Engine) -> None:
    model = await running.model()
    before = await text(model)
    assert running.pid is not None
    # Stopped, it takes the request and says nothing: so it is under way when the kill comes.
    os.kill(running.pid, signal.SIGSTOP)
    waiting = asyncio.create_task(text(model))
    await asyncio.sleep(0.1)
    os.kill(running.pid, signal.SIGKILL)
    assert await waiting == before


async def test_a_stream_that_the_kill_cut_is_an_error(running: Engine) -> None:
    model = await running.model()

    async def read_and_kill() -> None:
        async for _ in model.stream(asked(max_tokens=450, extra={"cache_prompt": False})):
            if running.pid is not None and is_alive(running.pid):
                os.kill(running.pid, signal.SIGKILL)

    with pytest.raises(ModelError, match="died during the answer"):
        await read_and_kill()
    assert await text(model)


async def test_a_sigterm_to_the_whole_unit_cuts_no_stream(running: Engine) -> None:
    model = await running.model()
    pid = running.pid
    assert pid is not None
    pieces = []
    async for piece in model.stream(asked(max_tokens=60)):
        os.kill(pid, signal.SIGTERM)
        pieces.append(piece)
    assert isinstance(pieces[-1], Done)
    assert running.pid == pid


async def test_an_engine_that_dies_again_and_again_is_given_up(
    running: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BACK_OFF_S", 0.01)
    model = await running.model()

    async def kill_and_ask() -> None:
        for _ in range(20):
            async with running.lease(None) as generation:
                os.kill(generation.process.pid, signal.SIGKILL)
                await generation.process.wait()
            await text(model)

    with pytest.raises(ModelError, match="died 5 times within 60 s") as caught:
        await kill_and_ask()
    assert caught.value.status == 503


async def test_the_engine_ends_with_its_block(base: Base) -> None:
    async with open_engine(base, threads=1) as running:
        pid = running.pid
    assert pid is not None
    assert not is_alive(pid)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_the_engine_ends_with_its_parent(base: Base, how: signal.Signals) -> None:
    program = f"""
        import asyncio
        from kickwheel.models.catalog import base
        from kickwheel.models.engines import open_engine

        async def main():
            async with open_engine(base({base.name!r}), threads=1) as running:
                print(running.pid, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(program)), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert is_alive(pid)
    parent.send_signal(how)
    await parent.wait()
    assert await gone(pid)


async def test_nobody_without_the_key_may_ask(running: Engine) -> None:
    async with running.lease(None) as generation:
        url = f"{generation.process.url}/completion"
        async with running.session.post(url, json={"prompt": "x"}) as response:
            assert response.status == 401
        assert url.startswith("http://127.0.0.1:")


async def test_an_adapter_for_another_base_is_refused(running: Engine, tmp_path: Path) -> None:
    wide = write_adapter(tmp_path / "wide", width=128)
    with pytest.raises(DataError, match="an adapter for another base"):
        await running.model(wide)
    named = write_adapter(tmp_path / "named")
    record = Adapter(base="other", base_sha256="ab" * 32, dataset="d", form=PromptForm())
    (named / "adapter.json").write_bytes(wire.to_bytes(record))
    with pytest.raises(DataError, match=r"tuned on other with SHA-256 abababababab.*not on"):
        await running.model(named)
    assert await text(await running.model())


async def test_an_adapter_is_asked_as_it_was_tuned(running: Engine, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "one")
    form = PromptForm(tools="none", system=False)
    record = Adapter(base="tiny", base_sha256=running.base.sha256, dataset="d", form=form)
    (folder / "adapter.json").write_bytes(wire.to_bytes(record))
    assert (await running.model(folder)).form == form


async def test_an_adapter_tuned_on_calls_makes_one_unasked(running: Engine, tmp_path: Path) -> None:
    for name, answers in (("calls", {"call": 9}), ("both", {"call": 9, "text": 1})):
        folder = write_adapter(tmp_path / name)
        record = Adapter(
            base="tiny",
            base_sha256=running.base.sha256,
            dataset="d",
            form=PromptForm(tools="none"),
            config={"answers": answers},
        )
        (folder / "adapter.json").write_bytes(wire.to_bytes(record))
    calls, both = await running.model(tmp_path / "calls"), await running.model(tmp_path / "both")
    request = asked(tools=(FIND,), max_tokens=40)
    assert (await complete(calls, request)).message.tool_calls
    assert not (await complete(both, request)).message.tool_calls
    result = Message(role="tool", content="music", tool_call_id="c")
    told = asked(tools=(FIND,), max_tokens=40)
    told = structs.replace(told, messages=(*told.messages, result))
    assert not (await complete(calls, told)).message.tool_calls


async def test_what_is_no_adapter_is_told(running: Engine, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no adapter\.gguf there"):
        await running.model(tmp_path / "empty")
    with pytest.raises(DataError, match="no such adapter"):
        await running.model(tmp_path / "nowhere")
    with pytest.raises(DataError, match="but no adapter"):
        await running.model(running.base.gguf)


async def test_a_base_that_was_cut_does_not_start(tmp_path: Path, base: Base) -> None:
    whole = base.gguf.read_bytes()
    base.gguf.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(EngineError, match=r"did not start on .*tiny\.gguf"):
        async with open_engine(base):
            pass


async def test_a_base_that_is_gone_is_told(tmp_path: Path, base: Base) -> None:
    base.gguf.unlink()
    with pytest.raises(DataError, match="No such file"):
        async with open_engine(base):
            pass
