"""The pages about models: their YAML is a valid app, and their code runs with it."""

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web

from kickwheel.app import check_app

from .loopback import loopback
from .test_anthropic import events as anthropic_events
from .test_anthropic import text as anthropic_text
from .test_bedrock import events as bedrock_events
from .test_bedrock import text as bedrock_text

DOCS = Path(__file__).parents[2] / "docs" / "models"


def block(page: str, language: str) -> str:
    text = (DOCS / f"{page}.md").read_text("utf-8")
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found[1]


class Providers:
    """All providers at one address, in a thread of their own: the pages have loops of theirs."""

    def __init__(self) -> None:
        self.url = ""
        self.asked = 0
        self.busy = ""
        """The model that is."""
        self.slow_s = 0.0
        """How long the first answer takes."""
        self._loop = asyncio.new_event_loop()
        self._ready, self._done = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        async with loopback(self._answer) as server:
            self.url = server.url
            self._ready.set()
            await self._done.wait()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if request.path.endswith("/converse-stream"):
            return await bedrock_events(request, *bedrock_text("I am Claude."))
        if request.path.endswith("/messages"):
            return await anthropic_events(request, *anthropic_text("I am Claude."))
        model = (await request.json())["model"]
        if model == self.busy:
            headers = {"x-should-retry": "false"}
            return web.json_response({"error": "busy"}, status=429, headers=headers)
        await asyncio.sleep(self.slow_s if self.asked == 1 else 0.05)
        usage = {"prompt_tokens": 10, "completion_tokens": 4}
        message = {"role": "assistant", "content": f"I am {model}."}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"model": model, "choices": choices, "usage": usage})


@pytest.fixture
def providers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Providers]:
    providers = Providers()
    for name, value in {
        "OPENAI_BASE_URL": f"{providers.url}/v1",
        "OPENAI_API_KEY": "sk-1",
        "ANTHROPIC_BASE_URL": providers.url,
        "ANTHROPIC_API_KEY": "sk-2",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": providers.url,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": "very-secret-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    yield providers
    providers.close()


def printed(page: str, providers: Providers, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the page's code prints with the page's app."""
    lines = block(page, "yaml").replace("http://localhost:11434", providers.url)
    Path("app.yml").write_text(lines, encoding="utf-8")
    exec(compile(block(page, "python"), page, "exec"), {"__name__": "page"})
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("page", sorted(page.stem for page in DOCS.glob("*.md")))
def test_the_yaml_on_each_page_is_a_valid_app(page: str, tmp_path: Path) -> None:
    app = tmp_path / "app.yml"
    app.write_text(block(page, "yaml"), encoding="utf-8")
    assert check_app(app).parts


@pytest.mark.parametrize("page", ["anthropic", "bedrock"])
def test_who_is_asked_answers(
    page: str, providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed(page, providers, capsys) == ["I am Claude."]


def test_the_spare_answers_where_the_general_one_is_busy(
    providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    providers.busy = "gpt-5-mini"
    decisions = block("fallback", "text").splitlines()
    assert printed("fallback", providers, capsys) == [*decisions, "I am llama3.2."]


def test_the_second_request_answers_where_the_first_is_slow(
    providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    providers.slow_s = 60.0
    assert printed("hedged", providers, capsys) == ["I am gpt-5-mini."]
    assert providers.asked == 2


def test_the_second_question_is_refused_as_the_page_says(
    providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    answer, refusal = printed("budget", providers, capsys)
    assert answer == "I am gpt-5-mini."
    seconds = r"[\d,]+ s"
    told = re.escape(block("budget", "text").strip()).replace(re.escape("3,600 s"), seconds)
    assert re.fullmatch(told, refusal)


def test_the_second_answer_used_no_tokens(
    providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed("cache", providers, capsys) == ["10", "0"]


def test_ten_who_ask_at_once_use_the_tokens_of_one(
    providers: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed("coalesced", providers, capsys) == ["10"]
    assert providers.asked == 1
