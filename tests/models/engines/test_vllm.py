"""`kind: vllm`, against a small server that speaks vLLM's protocol."""

import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from kickwheel.core.errors import DataError, EngineError, ModelError, UsageError
from kickwheel.models.chat import ChatRequest, complete
from kickwheel.models.engines.vllm import Vllm
from kickwheel.models.observed import cost_usd
from kickwheel.models.prices import Prices
from kickwheel.records import Adapter, Message, PromptForm, ToolSpec, wire
from tests.models.engines import fake_vllm
from tests.models.engines.fake_vllm import FakeVllm
from tests.models.engines.test_local import REF, context, until
from tests.models.tiny import TEMPLATE

FIND = ToolSpec(
    name="find",
    parameters={
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": ["music", "theatre"]}},
        "required": ["kind"],
    },
)


def asked(**more: Any) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0, **more)


async def text(model: Any, request: ChatRequest | None = None) -> str:
    return (await complete(model, request or asked())).message.content or ""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """What vLLM reads: here only what a prompt needs."""
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    tokens = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokens))
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def peft(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    form = PromptForm(tools="none", system=False)
    record = Adapter(base="base", base_sha256="", dataset="d", form=form)
    (folder / "adapter.json").write_bytes(wire.to_bytes(record))
    return folder


@asynccontextmanager
async def running(fake: FakeVllm) -> AsyncGenerator[str]:
    runner = web.AppRunner(fake.app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_without_an_adapter_the_servers_own_chat_route_answers(tmp_path: Path) -> None:
    fake = FakeVllm("qwen")
    async with (
        running(fake) as url,
        context(tmp_path) as (_, named),
        Vllm(url=url).open(named("big")) as model,
    ):
        whole = await complete(model, asked())
        assert whole.message.content == "I am qwen"
        assert (whole.usage.prompt_tokens, whole.usage.output_tokens) == (9, 4)
        assert await text(model, asked(labels=("spam", "ham"))) == "ham"
        assert await text(model, asked(json_schema={"type": "object"})) == "{}"
    structured = [body.get("structured_outputs") for path, body in fake.asked if "chat" in path]
    assert structured == [None, {"choice": ["spam", "ham"]}, {"json": {"type": "object"}}]


async def test_an_adapter_is_loaded_and_asked_as_it_was_tuned(tmp_path: Path, base: Path) -> None:
    fake = FakeVllm("base")
    peft(tmp_path / "own")
    async with running(fake) as url, context(tmp_path) as (_, named):
        part = Vllm(url=url, base="base", adapter="own")
        async with part.open(named("specialist")) as model:
            request = asked(tools=(FIND,), tool_choice="required")
            (call,) = (await complete(model, request)).message.tool_calls
            ((name, path),) = fake.adapters.items()
    assert fake.adapters == {}, "nobody needs it any more"
    assert (call.name, call.arguments) == ("find", '{"kind": "music"}')
    assert path == str(tmp_path / "own")
    body = next(body for path, body in fake.asked if path == "/v1/completions")
    assert body["model"] == name
    assert body["prompt"] == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    assert "find" in body["structured_outputs"]["grammar"]


async def test_a_text_streams_where_a_call_is_not_forced(tmp_path: Path, base: Path) -> None:
    fake = FakeVllm("base")
    peft(tmp_path / "own")
    async with (
        running(fake) as url,
        context(tmp_path) as (_, named),
        Vllm(url=url, base="base", adapter="own").open(named("s")) as model,
    ):
        assert (await text(model, asked(tools=(FIND,)))).startswith("I am kickwheel-")


async def test_a_promotion_is_followed_there_too(tmp_path: Path, base: Path) -> None:
    fake = FakeVllm("base")
    async with (
        running(fake) as url,
        context(tmp_path) as (store, named),
        Vllm(url=url, base="base", adapter=REF).open(named("s")) as model,
    ):
        assert await text(model) == "I am base"
        before = model.identity
        identity = store.artifacts.add("adapter", peft(tmp_path / "new"))
        store.refs.move(REF, f"adapter/{identity}", expected=None, why="better")

        async def changed() -> bool:
            return (await text(model)).startswith("I am kickwheel-")

        assert await until(changed)
        assert model.identity != before, "a cache must not give the old one's answers"


async def test_two_apps_share_an_adapter_and_neither_takes_it_from_the_other(
    tmp_path: Path, base: Path
) -> None:
    fake = FakeVllm("base")
    peft(tmp_path / "own")
    part = Vllm(base="base", adapter="own")
    async with running(fake) as url, context(tmp_path) as (_, named):
        part = part.model_copy(update={"url": url})
        async with part.open(named("s")) as model:
            async with context(tmp_path) as (_, also_named), part.open(also_named("s")) as other:
                assert await text(model) == await text(other)
                assert len(fake.adapters) == 1
            assert fake.adapters == {}, "the other app has left, and knows nothing of this one"
            assert (await text(model)).startswith("I am kickwheel-")
    assert fake.adapters == {}


async def test_in_one_app_an_adapter_stays_until_its_last_model_closes(
    tmp_path: Path, base: Path
) -> None:
    fake = FakeVllm("base")
    peft(tmp_path / "own")
    async with running(fake) as url, context(tmp_path) as (_, named):
        part = Vllm(url=url, base="base", adapter="own")
        async with part.open(named("a")):
            async with part.open(named("b")):
                assert len(fake.adapters) == 1
            assert len(fake.adapters) == 1
        assert fake.adapters == {}


async def test_what_was_promoted_before_is_unloaded_when_its_last_stream_has_ended(
    tmp_path: Path, base: Path
) -> None:
    fake = FakeVllm("base")
    async with running(fake) as url, context(tmp_path) as (store, named):
        first, second = (
            f"adapter/{store.artifacts.add('adapter', peft(tmp_path / name, name.encode()))}"
            for name in ("first", "second")
        )
        store.refs.move(REF, first, expected=None, why="better")
        async with Vllm(url=url, base="base", adapter=REF).open(named("s")) as model:
            (before,) = fake.adapters
            streaming = model.stream(asked())
            await anext(streaming)
            store.refs.move(REF, second, expected=first, why="better still")

            async def loaded() -> bool:
                return len(fake.adapters) == 2 and before not in await text(model)

            assert await until(loaded)
            rest = [delta async for delta in streaming]
            assert rest, "the stream ends on the adapter that it began with"
            assert before not in fake.adapters
            assert len(fake.adapters) == 1


async def test_an_adapters_answers_cost_what_the_file_says(tmp_path: Path, base: Path) -> None:
    prices = Prices(input=2.0, output=10.0)
    async with running(FakeVllm("base")) as url, context(tmp_path) as (_, named):
        part = Vllm(url=url, base="base", adapter=REF, prices=prices)
        async with part.open(named("s")) as model:
            usage = (await complete(model, asked())).usage
            # 9 tokens of the prompt and 4 of the answer.
            assert cost_usd(model, usage) == pytest.approx((9 * 2 + 4 * 10) / 1e6)


async def test_a_server_without_adapters_is_told_how_to_start(tmp_path: Path, base: Path) -> None:
    peft(tmp_path / "own")
    async with running(FakeVllm("base", lora=False)) as url, context(tmp_path) as (_, named):
        with pytest.raises(EngineError, match="--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            async with Vllm(url=url, base="base", adapter="own").open(named("s")):
                pass


async def test_what_is_no_peft_adapter_is_told(tmp_path: Path, base: Path) -> None:
    (tmp_path / "own").mkdir()
    async with running(FakeVllm("base")) as url, context(tmp_path) as (_, named):
        with pytest.raises(DataError, match="no PEFT adapter"):
            async with Vllm(url=url, base="base", adapter="own").open(named("s")):
                pass


async def test_nobody_there_is_told_with_the_address(tmp_path: Path) -> None:
    async with context(tmp_path) as (_, named):
        with pytest.raises(EngineError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached"):
            async with Vllm(url="http://127.0.0.1:9/v1").open(named("s")):
                pass
        with pytest.raises(UsageError, match="vllm needs `base`"):
            async with Vllm().open(named("s")):
                pass


def pid_in(file: Path) -> int:
    return int(file.read_text())


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `vllm` that starts the small server."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "vllm"
    run = f"exec {shlex.quote(sys.executable)} {shlex.quote(fake_vllm.__file__)}"
    script.write_text(f'#!/bin/sh\necho $$ > {shlex.quote(str(folder / "pid"))}\n{run} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "pid"


async def test_a_server_of_our_own_is_started_and_ended(
    tmp_path: Path, base: Path, command: Path
) -> None:
    peft(tmp_path / "own")
    async with context(tmp_path) as (_, named):
        part = Vllm(base="base", adapter="own", api_key=SecretStr("a-key-of-ours"))
        async with part.open(named("s")) as model:
            assert (await text(model)).startswith("I am kickwheel-")
        pid = pid_in(command)
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_server_of_our_own_that_was_killed_comes_back_with_its_adapters(
    tmp_path: Path, base: Path, command: Path
) -> None:
    peft(tmp_path / "own")
    async with (
        context(tmp_path) as (_, named),
        Vllm(base="base", adapter="own").open(named("s")) as model,
    ):
        before = await text(model)
        os.kill(pid_in(command), signal.SIGKILL)

        async def back() -> bool:
            try:
                return await text(model) == before
            except ModelError:
                return False

        assert await until(back)


async def test_why_it_does_not_start_is_told_in_its_own_words(
    tmp_path: Path, base: Path, command: Path
) -> None:
    async with context(tmp_path) as (_, named):
        with pytest.raises(EngineError, match="max_model_len must be positive"):
            async with Vllm(base="base", arguments=("--max-model-len=-1",)).open(named("s")):
                pass


async def test_without_vllm_the_way_on_is_told(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with context(tmp_path) as (_, named):
        with pytest.raises(EngineError, match="Install vLLM in this environment, or give `url`"):
            async with Vllm(base="base").open(named("s")):
                pass


async def test_our_server_ends_with_a_killed_parent(
    tmp_path: Path, base: Path, command: Path
) -> None:
    program = (
        "import asyncio, pathlib\n"
        "from kickwheel.models.engines.vllm_server import started\n"
        "async def main():\n"
        f"    async with started(pathlib.Path({str(base)!r})):\n"
        "        print('up', flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    assert await parent.stdout.readline() == b"up\n"
    pid = pid_in(command)
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    ends = time.monotonic() + 10

    async def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    assert await until(gone, ends - time.monotonic())
