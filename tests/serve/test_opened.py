"""The open app behind the front door, with a tiny llama in a real llama.cpp."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from kickwheel.app import App, open_app
from kickwheel.core.errors import DataError, UsageError
from kickwheel.models.chat import ChatRequest, Model, complete
from kickwheel.models.engines import Engine
from kickwheel.models.engines.llamacpp import LocalModel
from kickwheel.records import Adapter, Message, PromptForm, wire
from kickwheel.serve import opened as serving
from kickwheel.serve.opened import OpenedHouse, opened
from tests.models.tiny import write_adapter, write_base

APP = "models: {desk: {kind: local, base: ./tiny.gguf, threads: 1, parallel: 1}}\n"
ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), max_tokens=8)


@pytest_asyncio.fixture
async def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setenv("KICKWHEEL_HOME", str(tmp_path / "home"))
    write_base(tmp_path / "tiny.gguf")
    (tmp_path / "app.yml").write_text(APP)
    async with open_app(tmp_path / "app.yml") as live:
        yield live


@pytest_asyncio.fixture
async def house(app: App) -> AsyncIterator[OpenedHouse]:
    async with opened(app) as house:
        yield house


def engine(app: App) -> Engine:
    model = app.live["models", "desk"]
    assert isinstance(model, LocalModel)
    return model.engine


def kept(app: App, folder: Path, seed: int, record: bytes | None = None) -> str:
    """An adapter in the app's store, by the name that it is asked by."""
    made = write_adapter(folder / f"made-{seed}", seed=seed)
    base = engine(app).base
    described = Adapter(
        base=base.name, base_sha256=base.sha256, dataset="d", form=PromptForm(tools="none")
    )
    (made / "adapter.json").write_bytes(wire.to_bytes(described) if record is None else record)
    return f"adapter/{app.store.artifacts.add('adapter', made)}"


def lose(app: App, name: str) -> None:
    shutil.rmtree(app.store.artifacts.path(*name.split("/")))


async def held(app: App) -> int:
    """Adapters that the engine would start with again."""
    async with engine(app).lease(None) as generation:
        return sum(path.parent.name != "nothing" for path in generation.adapters)


async def says(model: Model) -> str:
    return (await complete(model, ASKED)).message.content or ""


async def test_a_damaged_record_is_left_out_and_all_others_are_listed(
    app: App, house: OpenedHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, damaged = kept(app, tmp_path, 2), kept(app, tmp_path, 3, b"{ no record")
    for _ in range(2):
        listed = [card.id for card in house.models()]
        assert good in listed
        assert damaged not in listed
    assert caplog.text.count(f"{damaged} is not served, its record cannot be read") == 1
    with pytest.raises(DataError, match=r"adapter\.json: damaged"):
        await house.model(damaged)
    assert await says(await house.model(good))


async def test_a_jobs_model_that_was_taken_back_or_lost_is_listed_no_more(
    app: App, house: OpenedHouse, tmp_path: Path
) -> None:
    target = kept(app, tmp_path, 2)
    for name in ("ft:tiny:a", "ft:tiny:b"):
        app.store.refs.move(name, target, expected=None, why="job")
    app.store.refs.back("ft:tiny:a", why="worse")
    listed = [card.id for card in house.models()]
    assert "ft:tiny:b" in listed
    assert "ft:tiny:a" not in listed
    with pytest.raises(UsageError, match='no model "ft:tiny:a" here'):
        await house.model("ft:tiny:a")
    lose(app, target)
    assert "ft:tiny:b" not in [card.id for card in house.models()]


async def test_an_engine_holds_the_adapters_that_were_asked_last(
    app: App, house: OpenedHouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "KEPT", 2)
    names = [kept(app, tmp_path, seed) for seed in (2, 3, 4, 5)]
    said = [await says(await house.model(name)) for name in names]
    assert len(set(said)) == 4
    # The first comes anew, beside the last two; the second is nowhere.
    await house.model(names[0])
    assert await held(app) == 3
    assert [await says(await house.model(name)) for name in names] == said


async def test_an_adapter_whose_folder_is_gone_is_dropped_and_the_next_one_opens(
    app: App, house: OpenedHouse, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = kept(app, tmp_path, 2), kept(app, tmp_path, 3)
    await house.model(first)
    lose(app, first)
    assert await says(await house.model(second))
    assert f"{first} is gone and not served any more" in caplog.text
    assert await held(app) == 1
    with pytest.raises(UsageError, match="no adapter"):
        await house.model(first)
