import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import openai
import pytest

from kickwheel.app import check_app
from kickwheel.core.errors import UsageError
from kickwheel.models.caller import NOBODY, Caller, caller
from kickwheel.models.chat import ChatRequest, Delta, Done, TextDelta, Usage
from kickwheel.serve.auth import Keys, is_loopback
from tests.serve.conftest import Rooms, Served, running

KEY = "kw-a-long-random-text"
ROUTES = [
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/files"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("POST", "/v1/traces/x/feedback"),
    ("GET", "/v1/metadata"),
    ("GET", "/v1/version"),
    ("GET", "/v1/health/live/../models"),
    ("GET", "/v1/nothing"),
    ("GET", "//v1/health/live"),
]


@pytest.mark.parametrize("key", [KEY, "sha256:" + hashlib.sha256(KEY.encode()).hexdigest()])
def test_with_a_key_set_only_health_is_open(tmp_path: Path, rooms: Rooms, key: str) -> None:
    with running(tmp_path, rooms, keys=[key]) as served:
        for method, path in ROUTES:
            for header in ({}, {"authorization": "Bearer no"}, {"authorization": KEY}):
                answer = httpx2.request(method, served.url + path, headers=header)
                assert answer.status_code == 401, (method, path)
                assert answer.json()["error"]["type"] == "authentication_error"
                assert answer.headers["x-request-id"]
        for path in ("/v1/health/live", "/v1/health/ready"):
            assert httpx2.get(served.url + path).status_code == 200
        assert served.client(api_key=KEY).models.list().data
        with pytest.raises(openai.AuthenticationError, match="not known here"):
            served.client(api_key="wrong").models.list()


def test_a_crafted_host_opens_no_route(tmp_path: Path, rooms: Rooms) -> None:
    # CVE-2026-48710: the path was taken from a URL that the Host header had a part in.
    with running(tmp_path, rooms, keys=[KEY]) as served:
        for host in ("x/v1/health/live?", "x/v1/health/live#", "[", "/v1/health/live"):
            answer = httpx2.get(served.url + "/v1/models", headers={"host": host})
            assert answer.status_code in (400, 401)


def test_without_a_key_the_server_listens_on_loopback_only(tmp_path: Path, rooms: Rooms) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.com"):
        with (
            pytest.raises(UsageError, match=r"Without an API key .* Set KICKWHEEL_API_KEY"),
            running(tmp_path, rooms, host=host),
        ):
            pass


def test_with_a_key_the_server_listens_anywhere(tmp_path: Path, rooms: Rooms) -> None:
    with running(tmp_path, rooms, host="0.0.0.0", keys=[KEY]) as served:
        url = served.url.replace("0.0.0.0", "127.0.0.1")
        assert httpx2.get(url + "/v1/health/live").status_code == 200


def test_without_a_key_no_page_elsewhere_can_use_the_users_browser(served: Served) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    url = served.url + "/v1/chat/completions"
    for header in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"host": "127.0.0.1.evil.example:8000"},
        {"host": "["},
    ):
        answer = httpx2.post(url, json=body, headers=header)
        assert answer.status_code in (400, 403), header
    for header in ({"host": "localhost:1"}, {"origin": "http://localhost:3000"}, {"host": "[::1]"}):
        assert httpx2.post(url, json=body, headers=header).status_code == 200, header


def test_an_empty_key_is_no_key(tmp_path: Path) -> None:
    for key in ("", "  "):
        with pytest.raises(UsageError, match="An API key is empty"):
            Keys([key])


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_loopback_is_what_only_this_machine_reaches(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_a_key_of_the_app_file_comes_from_the_variable_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "app.yml"
    file.write_text("serve: {auth: {key: '${DOOR_KEY}'}}\n")
    serve = check_app(file).config.serve
    monkeypatch.setenv("DOOR_KEY", "a long random text")
    assert list(serve.keys()) == ["a long random text"]
    for unset in (
        lambda: monkeypatch.setenv("DOOR_KEY", ""),
        lambda: monkeypatch.delenv("DOOR_KEY"),
    ):
        unset()
        with pytest.raises(UsageError, match=r"serve\.auth\.key: \$\{DOOR_KEY\} is empty or not"):
            serve.keys()
    file.write_text("serve: {auth: {key: 'written here'}}\n")
    assert check_app(file).config.serve.keys() == {"written here": NOBODY}


def test_each_holder_of_a_key_is_known_to_what_works_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANN_KEY", "ann's own key")
    monkeypatch.setenv("ANN_TOKEN", "ann's token of the clinic")
    monkeypatch.delenv("KICKWHEEL_API_KEY", raising=False)
    file = tmp_path / "app.yml"
    file.write_text(
        "serve:\n  auth:\n    key: everybody else's\n    keys:\n"
        "      - {key: '${ANN_KEY}', user: ann, tenant: clinic, token: '${ANN_TOKEN}'}\n"
        f"      - {{key: 'sha256:{hashlib.sha256(b'bobs').hexdigest()}', user: bob}}\n"
        "      - {key: bob's other one, user: bob}\n"
    )
    seen: list[Caller] = []

    class Asks:
        name = "asks"

        async def stream(self, request: ChatRequest) -> AsyncIterator[Delta]:
            seen.append(caller())
            yield TextDelta("hello")
            yield Done("stop", Usage())

    rooms = Rooms()
    rooms.live["asks"] = Asks()
    with running(tmp_path, rooms, keys=check_app(file).config.serve.keys()) as served:
        for key in ("ann's own key", "bobs", "everybody else's", "bob's other one"):
            client = served.client(api_key=key)
            client.chat.completions.create(
                model="asks", messages=[{"role": "user", "content": "Who am I?"}]
            )
        with pytest.raises(openai.AuthenticationError):
            served.client(api_key="ann").models.list()
    ann, bob, other, again = seen
    assert (ann.user, ann.tenant) == ("ann", "clinic")
    assert ann.token is not None
    assert ann.token.get_secret_value() == "ann's token of the clinic"
    assert (bob.user, bob.tenant, bob.token) == ("bob", "", None)
    assert other.user.startswith("key-")
    assert again.user == "bob"
    assert len({who.credential for who in seen}) == 4


def test_two_cannot_have_one_key(tmp_path: Path) -> None:
    file = tmp_path / "app.yml"
    file.write_text(
        "serve: {auth: {keys: [{key: same, user: ann}, {key: same, user: bob}]}}\n",
    )
    with pytest.raises(UsageError, match=r"keys\[1\]\.key: somebody else has this key already"):
        check_app(file).config.serve.keys()
