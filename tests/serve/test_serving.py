"""An app served inside a program."""

import signal
from pathlib import Path

import pytest
from openai import AsyncOpenAI

import kickwheel
from kickwheel import KickwheelError, open_app

OUTSIDER = Path(__file__).parents[1] / "outsider"


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(OUTSIDER))
    (tmp_path / "app.yml").write_text('models: {polly: {kind: "kickwheel_outsider:ParrotPart"}}\n')
    return tmp_path


async def said(url: str, key: str = "none") -> str | None:
    async with AsyncOpenAI(base_url=url, api_key=key, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model="polly", messages=[{"role": "user", "content": "hello"}]
        )
    return answer.choices[0].message.content


async def test_the_url_answers_while_the_block_runs(app: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    async with kickwheel.serving(str(app)) as url:
        assert signal.getsignal(signal.SIGINT) is before
        assert await said(url) == "hello"
    with pytest.raises(Exception, match="Connection error"):
        await said(url)


async def test_an_app_that_is_open_is_served_as_it_is(app: Path) -> None:
    async with open_app(app) as live:
        async with kickwheel.serving(live) as url:
            await said(url)
        live.recorder.flush()
        assert live.traces.count("polly") == 1


async def test_the_key_is_wanted_here_too(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KICKWHEEL_API_KEY", "secret")
    async with kickwheel.serving(app) as url:
        assert await said(url, "secret") == "hello"
        with pytest.raises(Exception, match="401"):
            await said(url)


async def test_a_busy_port_is_told_before_the_block(app: Path) -> None:
    async with kickwheel.serving(app) as url:
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        with pytest.raises(KickwheelError, match="busy"):
            async with kickwheel.serving(app, port=port):
                raise AssertionError
