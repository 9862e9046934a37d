"""Tokens of a real authorization server, good and bad."""

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from kickwheel.app import check_app
from kickwheel.appfile import Oauth
from kickwheel.core.errors import ConfigError
from kickwheel.models.caller import caller
from kickwheel.models.chat import ChatRequest, Done, TextDelta, Usage
from kickwheel.serve import issuer as issuers
from kickwheel.serve.errors import Refused
from kickwheel.serve.tokens import Tokens
from tests.issuing import Issuer, issuing
from tests.serve.conftest import Rooms, Served, running

URL = "https://agents.example.com"
KEY = "kw-a-long-random-text"


class Whose:
    """Says who asks, of which tenant, and whether with a token to pass on."""

    name = "whose"

    async def stream(self, request: ChatRequest) -> Any:
        who = caller()
        yield TextDelta(f"{who.user}|{who.tenant}|{who.token}")
        yield Done("stop", Usage(prompt_tokens=1, output_tokens=1))


@pytest.fixture(scope="module")
def shared() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def issuer(shared: Issuer, monkeypatch: pytest.MonkeyPatch) -> Issuer:
    monkeypatch.setattr(issuers, "AGAIN_S", -1.0)
    shared.keys_up = True
    return shared


@pytest.fixture
def serving(tmp_path: Path, rooms: Rooms, issuer: Issuer) -> Callable[..., Any]:
    rooms.live["whose"] = Whose()

    def serving(keys: Any = (), **options: Any) -> Any:
        oauth = Oauth(issuer=issuer.url, url=URL, **options)
        return running(tmp_path / "store", rooms, keys=keys, tokens=Tokens(oauth))

    return serving


def asked(served: Served, token: str) -> httpx2.Response:
    """What a chat with this token is answered."""
    return httpx2.post(
        f"{served.url}/v1/chat/completions",
        json={"model": "whose", "messages": [{"role": "user", "content": "me?"}]},
        headers={"authorization": f"Bearer {token}"},
    )


def test_a_good_token_says_who_asks_and_is_not_passed_on(serving: Any, issuer: Issuer) -> None:
    with serving(keys=[KEY]) as served:
        for meant_for in (URL, f"{URL}/", f"{URL}/mcp", ["https://other", URL]):
            answer = asked(served, issuer.token(aud=meant_for))
            assert answer.json()["choices"][0]["message"]["content"] == "ann||None"
        # Any client of OpenAI's protocol takes it in place of a key; keys are good beside it.
        assert served.client(api_key=issuer.token(aud=URL)).models.list().data
        assert asked(served, KEY).status_code == 200


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "https://agents.example.com.evil.example"}, "meant for another server"),
        ({"aud": None}, "leaves out what it must say"),
        ({"iss": "https://login.evil.example"}, "comes from another issuer"),
        ({"iss": None}, "leaves out what it must say"),
        ({"exp": 1}, "has expired"),
        ({"exp": None}, "leaves out what it must say"),
        ({"nbf": time.time() + 3600}, "not valid yet"),
        ({"sub": None}, "leaves out what it must say"),
        ({"sub": ""}, "names nobody"),
        ({"sub": "a" * 256}, "names nobody"),
        ({"headers": {"typ": "logout+jwt"}}, "of another kind"),
        ({"headers": {"kid": "nobodys"}}, "signed by a key that its issuer does not have"),
    ],
)
def test_a_token_that_says_the_wrong_thing_is_refused(
    serving: Any, issuer: Issuer, claims: dict[str, Any], why: str
) -> None:
    token = issuer.token(**{"aud": URL} | claims)
    with serving() as served:
        answer = asked(served, token)
    assert answer.status_code == 401
    assert why in answer.json()["error"]["message"]
    assert answer.json()["error"]["code"] == "invalid_token"
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert token not in answer.text


def test_a_token_that_is_signed_by_nobody_or_somebody_else_is_refused(
    serving: Any, issuer: Issuer
) -> None:
    public = issuer.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    good = issuer.token(aud=URL)
    head, body, signature = good.split(".")
    forged = {
        "none": unsigned(good, {"alg": "none", "kid": issuer.kid}),
        "None": unsigned(good, {"alg": "None", "kid": issuer.kid}),
        "other": issuer.token(aud=URL, key=other),
        "public": hs256(good, public, issuer.kid),
        "shared": hs256(good, b"secret-secret-secret-secret", "shared"),
        "cut": f"{head}.{body}.{signature[:-8]}",
        "no signature": f"{head}.{body}.",
        "two parts": f"{head}.{body}",
        "text": "none of yours",
    }
    with serving() as served:
        for name, token in forged.items():
            answer = asked(served, token)
            assert answer.status_code == 401, name
            assert answer.json()["error"]["code"] == "invalid_token"
        assert asked(served, good).status_code == 200


def unsigned(token: str, header: dict[str, str]) -> str:
    head = jwt.utils.base64url_encode(json.dumps(header).encode()).decode()
    return f"{head}.{token.split('.')[1]}."


def hs256(token: str, secret: bytes, kid: str) -> str:
    """The token, signed with a secret that everybody knows."""
    head = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).decode()
    signed = f"{head}.{token.split('.')[1]}"
    mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{jwt.utils.base64url_encode(mac).decode()}"


@pytest.mark.parametrize("path", ["/v1/models", "/mcp"])
def test_who_comes_without_a_token_is_told_where_to_get_one(
    serving: Any, issuer: Issuer, path: str
) -> None:
    with serving(scopes=("agents.use", "offline_access")) as served:
        answer = httpx2.get(served.url + path)
        place = "/mcp" if path == "/mcp" else ""
        told = f"/.well-known/oauth-protected-resource{place}"
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == (
            'Bearer realm="kickwheel", scope="agents.use offline_access", '
            f'resource_metadata="{URL}{told}"'
        )
        assert httpx2.get(served.url + told).json() == {
            "resource": URL + place,
            "authorization_servers": [issuer.url],
            "bearer_methods_supported": ["header"],
            "resource_name": "kickwheel",
            "scopes_supported": ["agents.use", "offline_access"],
        }


def test_a_token_must_allow_what_the_file_says(serving: Any, issuer: Issuer) -> None:
    with serving(scopes=("use", "read")) as served:
        for said in ({"scope": "read use more"}, {"scp": ["use", "read"]}, {"scp": "use read"}):
            assert asked(served, issuer.token(aud=URL, **said)).status_code == 200
        for less in ({}, {"scope": "use"}, {"scp": ["used", "read"]}, {"scope": 7}):
            answer = asked(served, issuer.token(aud=URL, **less))
            assert answer.status_code == 403
            told = answer.headers["www-authenticate"]
            assert 'error="insufficient_scope", scope="use read"' in told


def test_a_claim_names_the_tenant_and_must_be_there(serving: Any, issuer: Issuer) -> None:
    with serving(tenant="org") as served:
        answer = asked(served, issuer.token(aud=URL, org="clinic"))
        assert answer.json()["choices"][0]["message"]["content"] == "ann|clinic|None"
        for said in ({}, {"org": ""}, {"org": ["clinic"]}):
            refused = asked(served, issuer.token(aud=URL, **said))
            assert refused.status_code == 401
            assert 'no claim "org"' in refused.json()["error"]["message"]


def test_people_without_a_tenant_see_what_is_their_own(serving: Any, issuer: Issuer) -> None:
    with serving(keys=[KEY]) as served:
        tokens = {sub: issuer.token(aud=URL, sub=sub) for sub in ("ann", "bob")}
        traces = {
            key: asked(served, key).json()["id"].removeprefix("chatcmpl-")
            for key in (*tokens.values(), KEY)
        }

        def listed(key: str) -> list[str]:
            headers = {"authorization": f"Bearer {key}"}
            found = httpx2.get(f"{served.url}/v1/traces", headers=headers).json()["data"]
            return [line["id"] for line in reversed(found)]

        for token in tokens.values():
            assert listed(token) == [traces[token]]
        assert listed(KEY) == list(traces.values())


def test_an_audience_of_the_file_is_the_only_one(serving: Any, issuer: Issuer) -> None:
    with serving(audience="agents-api") as served:
        assert asked(served, issuer.token(aud="agents-api")).status_code == 200
        assert asked(served, issuer.token(aud=URL)).status_code == 401


def test_a_new_key_of_the_issuer_is_fetched_once_and_may_be_of_another_kind(
    serving: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as served:
        assert asked(served, issuer.token(aud=URL)).status_code == 200
        issuer.turn("second", curve=True)
        token = issuer.token(aud=URL, alg="ES256")
        before = issuer.fetched
        assert asked(served, token).status_code == 200
        assert asked(served, issuer.token(aud=URL, alg="ES256")).status_code == 200
        assert issuer.fetched == before + 1
        # However many tokens name keys that nobody has.
        monkeypatch.setattr(issuers, "AGAIN_S", 3600.0)
        for number in range(5):
            strange = issuer.token(aud=URL, alg="ES256", headers={"kid": str(number)})
            assert asked(served, strange).status_code == 401
        assert issuer.fetched == before + 1
    issuer.turn("third")


def test_while_the_keys_cannot_be_fetched_known_ones_are_good_and_others_are_told_so(
    serving: Any, issuer: Issuer
) -> None:
    with serving() as served:
        issuer.keys_up = False
        answer = asked(served, issuer.token(aud=URL))
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "issuer_unavailable"
        assert f"{issuer.url}/keys answers 500" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"]
        issuer.keys_up = True
        assert asked(served, issuer.token(aud=URL)).status_code == 200
        issuer.keys_up = False
        assert asked(served, issuer.token(aud=URL)).status_code == 200
        assert asked(served, issuer.token(aud=URL, headers={"kid": "new"})).status_code == 503


def test_whose_key_is_known_waits_for_no_fetch(
    serving: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as served:
        assert asked(served, issuer.token(aud=URL)).status_code == 200
        monkeypatch.setattr(issuers, "GOOD_FOR_S", -1.0)
        issuer.goes_on.clear()
        try:
            before = issuer.fetched
            for _ in range(3):
                assert asked(served, issuer.token(aud=URL)).status_code == 200
            assert issuer.fetched <= before + 1
        finally:
            issuer.goes_on.set()


def test_an_issuer_that_is_another_than_it_should_be_is_not_believed(
    tmp_path: Path, rooms: Rooms, issuer: Issuer
) -> None:
    oauth = Oauth(issuer=issuer.url.replace("127.0.0.1", "localhost"), url=URL)
    with running(tmp_path / "store", rooms, tokens=Tokens(oauth)) as served:
        answer = asked(served, issuer.token(aud=URL, iss=oauth.issuer))
    assert answer.status_code == 503
    assert f'that of "{issuer.url}"; serve.auth.oauth.issuer must' in answer.text.replace("\\", "")


def test_health_and_the_metadata_are_open_and_nothing_else(serving: Any) -> None:
    with serving() as served:
        metadata = "/.well-known/oauth-protected-resource"
        for path in ("/v1/health/live", "/v1/health/ready", metadata, f"{metadata}/mcp"):
            assert httpx2.get(served.url + path).status_code == 200
        for path in (f"{metadata}/v1", f"{metadata}/", "/v1/models", "/openapi.json"):
            assert httpx2.get(served.url + path).status_code == 401
        # A token keeps others out as well as a key does: any page may call, none comes in.
        assert (
            httpx2.get(f"{served.url}/v1/models", headers={"host": "a.example"}).status_code == 401
        )


@given(
    token=st.text()
    | st.lists(st.binary(), min_size=3, max_size=3).map(
        lambda parts: ".".join(jwt.utils.base64url_encode(part).decode() for part in parts)
    )
)
async def test_whatever_is_shown_is_refused_with_a_reason(token: str) -> None:
    tokens = Tokens(Oauth(issuer="http://127.0.0.1:9", url=URL))
    with pytest.raises(Refused) as refused:
        await tokens.caller(token, "/mcp")
    assert refused.value.status in (401, 503)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{issuer: http://login.example.com, url: https://a}", "must begin with https://"),
        ("{issuer: https://login.example.com, url: ftp://a}", "must begin with https://"),
        ("{issuer: https://login.example.com/?a=b, url: https://a}", "nothing behind it"),
        ("{issuer: https://login.example.com}", "url"),
    ],
)
def test_an_address_that_cannot_be_trusted_is_told_with_the_file(
    tmp_path: Path, written: str, told: str
) -> None:
    file = tmp_path / "app.yml"
    file.write_text(f"serve:\n  auth:\n    oauth: {written}\n")
    with pytest.raises(ConfigError, match=told):
        check_app(file)
