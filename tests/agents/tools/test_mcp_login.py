"""A person's login at an MCP server: `kickwheel login`, and agents that work with what it gave."""

import asyncio
import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.shared.auth import OAuthClientInformationFull
from pydantic import AnyUrl
from tests.agents.tools.test_mcp_http import echo, lowlevel, said
from tests.issuing import Issuer, free_port, issuing, threaded

from kickwheel.agents.tools import Tool, mcp_login
from kickwheel.agents.tools.mcp import Mcp
from kickwheel.app import check_app, open_app
from kickwheel.core.errors import ConfigError, ToolError, UsageError

KICKWHEEL = str(Path(sys.executable).with_name("kickwheel"))
BROWSER = """
import sys, httpx2
with httpx2.Client(timeout=20) as browser:
    answer = browser.get(sys.argv[1])
    back = answer.headers["location"]
    if sys.argv[2:] == ["first-a-stranger"]:
        stranger = browser.get(back.partition("?")[0], params={"code": "evil", "state": "guessed"})
        assert stranger.status_code == 400, stranger.text
    print(browser.get(back).text, file=open("browser.txt", "w"))
"""


def logged_in(
    app: Path, server: str, *more: str, browser: str = "", **env: str
) -> "subprocess.CompletedProcess[str]":
    """`kickwheel login`, with a browser that goes where it is sent."""
    (app / "browser.py").write_text(BROWSER)
    command = [KICKWHEEL, "login", str(app), server, *more]
    env = {**os.environ, "BROWSER": f"{sys.executable} browser.py %s {browser}", **env}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=app, env=env)


class Clinic:
    """An MCP server that takes the issuer's tokens, meant for it and not taken back."""

    def __init__(self, folder: Path, issuer: Issuer) -> None:
        self.folder, self.issuer = folder, issuer
        self.url = ""

    async def verify_token(self, token: str) -> AccessToken | None:
        if token not in self.issuer.good:
            return None
        return AccessToken(token=token, client_id="any", scopes=["clinic"], resource=self.url)

    @property
    def kept(self) -> Path:
        return self.folder / ".kickwheel" / "logins" / "clinic.json"

    def write(self, auth: str = "{kind: login}", url: str = "") -> None:
        tools = f"tools:\n  clinic: {{kind: mcp, url: '{url or self.url}', auth: {auth}}}\n"
        (self.folder / "app.yml").write_text(tools)

    def log_in(self, *more: str, **options: str) -> "subprocess.CompletedProcess[str]":
        return logged_in(self.folder, "clinic", *more, **options)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[dict[str, Tool]]:
        async with open_app(self.folder) as app:
            yield {tool.spec.name: tool for tool in app.live["tools", "clinic"]}


@contextmanager
def opened_clinic(folder: Path, issuer: Issuer) -> Iterator[Clinic]:
    found = Clinic(folder, issuer)
    port = free_port()
    found.url = f"http://127.0.0.1:{port}/mcp"
    # As text: a URL object would get a slash at its end.
    settings = AuthSettings.model_validate(
        {
            "issuer_url": issuer.url,
            "resource_server_url": found.url,
            "required_scopes": ["clinic"],
            "validate_token_resource": True,
        }
    )
    app = lowlevel(echo).streamable_http_app(auth=settings, token_verifier=found)
    found.write()
    with threaded(app, port):
        yield found


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with issuing() as issuer, opened_clinic(tmp_path, issuer) as found:
        yield found


async def test_after_a_login_agents_work_with_it(clinic: Clinic) -> None:
    done = clinic.log_in()
    assert done.returncode == 0, done.stderr
    assert f"You are logged in at {clinic.url}." in done.stdout
    assert "Thank you" in (clinic.folder / "browser.txt").read_text()
    assert stat.S_IMODE(clinic.kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(clinic.kept.parent.stat().st_mode) == 0o700
    kept = json.loads(clinic.kept.read_text())
    for secret in (kept["access"], kept["refresh"], kept["client_secret"]):
        assert secret not in done.stdout + done.stderr
    async with clinic.opened() as tools:
        assert (await said(tools, "say", text="hello")).text == "hello"
        # A server that says the token again tells it to no model, and to no trace.
        assert (await said(tools, "say", text=f"<{kept['access']}>")).text == "<[secret]>"
    assert clinic.issuer.given == ["code"]
    (client,) = clinic.issuer.clients.values()
    assert client.client_name == "kickwheel"


async def test_without_a_login_the_error_says_which_command_to_run(clinic: Clinic) -> None:
    told = rf"^tools\.clinic: nobody is logged in at {clinic.url}; run: kickwheel login APP clinic"
    with pytest.raises(UsageError, match=told):
        async with clinic.opened():
            pass
    assert clinic.issuer.clients == {}


async def test_a_token_that_ends_is_renewed_once_however_many_ask(clinic: Clinic) -> None:
    clinic.issuer.lasts_s = 1
    assert clinic.log_in().returncode == 0
    first = json.loads(clinic.kept.read_text())
    clinic.issuer.lasts_s = 3600
    async with clinic.opened() as one, clinic.opened() as other:
        texts = [str(number) for number in range(10)]
        calls = (said(tools, "say", text=text) for text in texts for tools in (one, other))
        assert [result.text for result in await asyncio.gather(*calls)] == sorted(texts * 2)
        assert clinic.issuer.given == ["code", "refresh"]
        # One that was taken back is renewed as well, by whoever hears of it first.
        clinic.issuer.good.clear()
        calls = (said(tools, "say", text=text) for text in texts for tools in (one, other))
        assert [result.text for result in await asyncio.gather(*calls)] == sorted(texts * 2)
        assert clinic.issuer.given == ["code", "refresh", "refresh"]
    kept = json.loads(clinic.kept.read_text())
    assert kept["refresh"] != first["refresh"]
    assert stat.S_IMODE(clinic.kept.stat().st_mode) == 0o600


async def test_a_login_that_was_taken_back_is_told_with_the_command(clinic: Clinic) -> None:
    assert clinic.log_in().returncode == 0
    async with clinic.opened() as tools:
        clinic.issuer.forget()
        result = await said(tools, "say", text="x")
        assert result.state == "failed"
        assert (
            f"the login at {clinic.url} has ended; run: kickwheel login APP clinic" in result.text
        )
        # Logged in again beside the running app, it goes on.
        assert (await asyncio.to_thread(clinic.log_in)).returncode == 0
        assert (await said(tools, "say", text="y")).text == "y"


async def test_a_login_goes_to_no_other_server(clinic: Clinic) -> None:
    assert clinic.log_in().returncode == 0
    clinic.write(url="http://127.0.0.1:9/mcp")
    with pytest.raises(UsageError, match=r"nobody is logged in at http://127\.0\.0\.1:9/mcp"):
        async with clinic.opened():
            pass


def test_a_page_that_guesses_the_way_back_ends_no_login(clinic: Clinic) -> None:
    done = clinic.log_in(browser="first-a-stranger")
    assert done.returncode == 0, done.stderr
    assert clinic.kept.exists()


def test_a_person_who_says_no_is_believed(clinic: Clinic) -> None:
    clinic.issuer.says_no = True
    done = clinic.log_in()
    assert done.returncode == 1
    assert done.stderr.endswith("\nerror: the authorization server says no: access_denied\n")
    assert not clinic.kept.exists()


async def test_where_nobody_comes_or_nobody_can_it_is_told(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mcp_login, "WAIT_S", 0.6)
    part = check_app(clinic.folder).parts["tools", "clinic"]
    assert isinstance(part, Mcp)
    place = clinic.folder, clinic.folder / ".kickwheel"
    shown: list[str] = []
    with pytest.raises(ToolError, match=r"nobody has logged in within 0\.01 minutes"):
        await part.log_in("clinic", *place, shown.append)
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} is busy; take another: --port"):
            await part.log_in("clinic", *place, shown.append, port)
    assert not clinic.kept.exists()


async def test_a_client_that_is_known_already_is_not_registered(
    clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    issuer = clinic.issuer
    issuer.registers = False
    issuer.clients["desk"] = OAuthClientInformationFull(
        client_id="desk",
        client_secret="s3cret-of-the-desk",
        redirect_uris=[AnyUrl(f"http://127.0.0.1:{port}/callback")],
        token_endpoint_auth_method="client_secret_basic",
        scope="clinic",
    )
    auth = "{kind: login, client_id: desk, client_secret: '${CLINIC_SECRET}', issuer: 'ISSUER'}"
    clinic.write(auth.replace("ISSUER", issuer.url))
    issuer.lasts_s = 1
    done = clinic.log_in("--port", str(port), CLINIC_SECRET="s3cret-of-the-desk")
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("CLINIC_SECRET", "s3cret-of-the-desk")
    async with clinic.opened() as tools:
        assert (await said(tools, "say", text="x")).text == "x"
    assert set(issuer.given) == {"code", "refresh"}
    assert list(issuer.clients) == ["desk"]


def test_a_known_client_goes_to_no_other_issuer(clinic: Clinic) -> None:
    clinic.write("{kind: login, client_id: desk, issuer: 'https://login.example.com'}")
    done = clinic.log_in()
    assert done.returncode == 1
    assert "trusts another server than https://login.example.com" in done.stderr
    assert clinic.issuer.given == []


def test_where_nobody_can_log_in_it_is_told(clinic: Clinic) -> None:
    with threaded(lowlevel(echo).streamable_http_app()) as url:
        clinic.write(url=f"{url}/mcp")
        assert "asks for no login; leave auth out" in clinic.log_in().stderr
    away = f"no login at {url}/mcp: nothing listens there: start it, or correct the address"
    assert away in clinic.log_in().stderr
    (clinic.folder / "app.yml").write_text(
        f"tools: {{clinics: {{kind: mcp, url: '{clinic.url}'}}}}\n"
    )
    assert 'no MCP server "clinic". Did you mean "clinics"?' in clinic.log_in().stderr


def test_an_authorization_server_that_is_not_there_is_named(tmp_path: Path) -> None:
    issuer = Issuer()
    issuer.url = f"http://127.0.0.1:{free_port()}"
    with opened_clinic(tmp_path, issuer) as clinic:
        told = clinic.log_in().stderr
    assert f"no login at {clinic.url}, which trusts {issuer.url}: nothing listens there" in told


async def test_a_file_that_is_damaged_is_told(clinic: Clinic) -> None:
    clinic.kept.parent.mkdir(parents=True)
    clinic.kept.write_text("{")
    with pytest.raises(UsageError, match="is damaged; run: kickwheel login APP clinic"):
        async with clinic.opened():
            pass


async def test_an_authorization_server_that_is_away_is_told_and_the_login_stays(
    clinic: Clinic,
) -> None:
    assert clinic.log_in().returncode == 0
    kept = json.loads(clinic.kept.read_text())
    for url in ("http://127.0.0.1:9/token", f"{clinic.issuer.url}/keys"):
        clinic.kept.write_text(json.dumps({**kept, "until": 1, "token_url": url}))
        with pytest.raises(UsageError, match="cannot be renewed now"):
            async with clinic.opened():
                pass
    clinic.kept.write_text(json.dumps({**kept, "until": 1}))
    async with clinic.opened() as tools:
        assert (await said(tools, "say", text="x")).text == "x"


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        ("{kind: login, client_id: desk}", "client_id and issuer belong together"),
        ("{kind: login, client_secret: x}", "client_secret belongs to a client_id"),
        ("{kind: logon}", "logon"),
    ],
)
def test_what_does_not_belong_together_is_told_with_the_file(
    tmp_path: Path, auth: str, told: str
) -> None:
    file = tmp_path / "app.yml"
    file.write_text(f"tools: {{clinic: {{kind: mcp, url: 'https://a/mcp', auth: {auth}}}}}\n")
    with pytest.raises(ConfigError, match=told):
        check_app(file)
