"""Services that look at who asks: by digest, by certificate, by tokens of an OpenID provider."""

import asyncio
import base64
import datetime
import hashlib
import ipaddress
import json
import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.agents.tools.desk import Service, call, opened, service

from kickwheel.agents.tools.http import Http
from kickwheel.agents.tools.openapi import OpenApi
from kickwheel.core.errors import UsageError


def document(folder: Path, served: Service, scheme: dict[str, Any]) -> str:
    """A service of one operation, `x`, that wants the scheme `who`."""
    operation = {
        "operationId": "x",
        "parameters": [{"name": "q", "in": "query", "schema": {"type": "string"}}],
        "requestBody": {"content": {"text/plain": {"schema": {"type": "string"}}}},
        "responses": {},
        "security": [{"who": ["read"]}],
    }
    whole = {
        "openapi": "3.1.0",
        "servers": [{"url": served.url}],
        "paths": {"/a%20b": {"put": operation}},
        "components": {"securitySchemes": {"who": scheme}},
    }
    (folder / "service.json").write_text(json.dumps(whole))
    return "service.json"


class DigestDoor:
    """Lets in whoever answers as RFC 7616 has it; each nonce is good `times` times."""

    def __init__(self, algorithm: str, qop: str, times: int = 100) -> None:
        self.algorithm, self.qop, self.times = algorithm, qop, times
        self.nonces: list[str] = []
        self.counts: list[int] = []
        self.refused = 0

    def digest(self, *parts: str) -> str:
        name = self.algorithm.removesuffix("-sess").replace("-", "").lower()
        return hashlib.new(name, ":".join(parts).encode()).hexdigest()

    async def __call__(self, request: web.Request) -> web.Response:
        if await self.answers(request):
            return web.Response(text="let in")
        self.refused += 1
        self.nonces.append(f"nonce-{self.refused}")
        self.counts.append(0)
        asked = f'realm="the desk", qop="{self.qop}", algorithm={self.algorithm}, opaque="o"'
        challenge = f'Digest {asked}, nonce="{self.nonces[-1]}"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge}, text="who?")

    async def answers(self, request: web.Request) -> bool:
        written = request.headers.get("Authorization", "")
        said = {k: a or b for k, a, b in re.findall(r'(\w+)=(?:"([^"]*)"|([^, ]+))', written)}
        if not said or said["nonce"] != self.nonces[-1] or self.counts[-1] == self.times:
            return False
        self.counts[-1] += 1
        secret = self.digest("ann", "the desk", "p:ä")
        if self.algorithm.endswith("-sess"):
            secret = self.digest(secret, said["nonce"], said["cnonce"])
        asked = [request.method, request.raw_path]
        if said["qop"] == "auth-int":
            asked.append(self.digest(await request.text()))
        once = (said["nonce"], f"{self.counts[-1]:08x}", said["cnonce"], said["qop"])
        return (said["uri"], said["opaque"]) == (request.raw_path, "o") and said[
            "response"
        ] == self.digest(secret, *once, self.digest(*asked))


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-256-sess"])
@pytest.mark.parametrize("qop", ["auth", "auth,auth-int"])
async def test_a_login_by_digest_answers_what_the_service_asks(
    tmp_path: Path, algorithm: str, qop: str
) -> None:
    door = DigestDoor(algorithm, qop, times=3)
    login = {"who": {"user": "ann", "password": "p:ä"}}
    async with service(door) as served:
        named = document(tmp_path, served, {"type": "http", "scheme": "Digest"})
        async with opened(OpenApi, tmp_path, document=named, auth=login) as tools:
            for number in range(5):
                result = await call(tools, "x", json.dumps({"q": f"ü {number}", "body": "hi"}))
                assert result.text == "let in"
    # Asked once, and again when the nonce is used up; in between the answer comes at once.
    assert (door.refused, door.counts) == (2, [3, 2])


async def test_a_wrong_password_is_told_and_is_no_answer(tmp_path: Path) -> None:
    door = DigestDoor("SHA-256", "auth")
    options = {
        "requests": {"look": {"url": "HOST/x", "description": "Looks."}},
        "auth": {"kind": "digest", "user": "ann", "password": "wrong"},
    }
    async with service(door) as served:
        whole = json.loads(json.dumps(options).replace("HOST", served.url))
        async with opened(Http, tmp_path, **whole) as tools:
            result = await call(tools, "look")
    assert result.state == "failed"
    assert result.text == (
        f"error: {served.url} answers 401: who? (what authorises the tool is its `auth`)"
    )


async def test_a_name_that_no_digest_can_hold_is_told_at_the_start(tmp_path: Path) -> None:
    async with service(DigestDoor("MD5", "auth")) as served:
        named = document(tmp_path, served, {"type": "http", "scheme": "digest"})
        auth = {"who": {"user": "a:b", "password": "p"}}
        with pytest.raises(UsageError, match='the user "a:b" cannot log in by digest'):
            async with opened(OpenApi, tmp_path, document=named, auth=auth):
                pass


class Authority:
    """Signs certificates for servers and clients, and is one itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(_pem(self.signed(name, self.key.public_key(), authority=True)))

    def signed(
        self, name: str, key: ec.EllipticCurvePublicKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, self.name)])
        host = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        issued = self.key.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
            .issuer_name(issuer)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([host]), critical=False)
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issued), critical=False
            )
            .sign(self.key, hashes.SHA256())
        )

    def files(self, name: str, password: bytes | None = None) -> tuple[Path, Path]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate, file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(_pem(self.signed(name, key.public_key())))
        locked = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password)
        )
        form = serialization.PrivateFormat.PKCS8
        file.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, locked))
        return certificate, file


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def strict(authority: Authority) -> ssl.SSLContext:
    """A server that speaks only with whom the authority knows."""
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.file)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(*authority.files("server"))
    return tls


async def whom(request: web.Request) -> web.Response:
    assert request.transport is not None
    (((_, name),),) = request.transport.get_extra_info("peercert")["subject"]
    return web.Response(text=f"let in: {name}")


async def test_a_certificate_is_shown_to_the_service_that_wants_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    authority.files("ann")
    shown = {"certificate": "ann.crt", "key": "ann.key", "authority": "ca.pem"}
    async with service(whom, strict(authority)) as served:
        named = document(tmp_path, served, {"type": "mutualTLS"})
        async with opened(OpenApi, tmp_path, document=named, auth={"who": shown}) as tools:
            assert (await call(tools, "x")).text == "let in: ann"
        requests = {"look": {"url": f"{served.url}/x", "description": "Looks."}}
        auth = {"kind": "certificate", **shown}
        async with opened(Http, tmp_path, requests=requests, auth=auth) as tools:
            assert (await call(tools, "look")).text == "let in: ann"


async def test_a_certificate_of_another_authority_lets_nobody_in(tmp_path: Path) -> None:
    authority, other = Authority(tmp_path, "ca"), Authority(tmp_path, "other")
    other.files("eve")
    shown = {"certificate": "eve.crt", "key": "eve.key", "authority": "ca.pem"}
    async with service(whom, strict(authority)) as served:
        named = document(tmp_path, served, {"type": "mutualTLS"})
        async with opened(OpenApi, tmp_path, document=named, auth={"who": shown}) as tools:
            refused = await call(tools, "x")
        # Nor does a service that only says that it is the one we mean.
        believed = {"who": {**shown, "authority": "other.pem"}}
        async with opened(OpenApi, tmp_path, document=named, auth=believed) as tools:
            unknown = await call(tools, "x")
    assert refused.text.startswith(f"error: {served.url} cannot be reached: ")
    assert "its certificate is not trusted here" in unknown.text
    assert served.asked == []


async def test_no_certificate_goes_where_none_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    authority.files("ann")
    async with service(whom) as served:
        named = document(tmp_path, served, {"type": "mutualTLS"})
        auth = {"who": {"certificate": "ann.crt", "key": "ann.key"}}
        async with opened(OpenApi, tmp_path, document=named, auth=auth) as tools:
            result = await call(tools, "x")
    assert "is no https, and without it no certificate is shown" in result.text
    assert served.asked == []


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"certificate": "ann.crt"}, "ann.crt: no certificate with its key in PEM"),
        ({"certificate": "ann.crt", "key": "eve.key"}, "ann.crt and .*eve.key: no certificate"),
        ({"certificate": "bob.crt", "key": "bob.key"}, "bob.key: the key is locked by a password"),
        (
            {"certificate": "ann.crt", "key": "ann.key", "authority": "ann.key"},
            "ann.key: no certificates in PEM",
        ),
        ("${KEY}", "the scheme who takes `certificate` and `key`, files in PEM"),
    ],
)
async def test_files_that_show_nobody_are_told_at_the_start(
    tmp_path: Path, files: Any, told: str
) -> None:
    authority = Authority(tmp_path, "ca")
    authority.files("ann")
    authority.files("eve")
    authority.files("bob", b"locked")
    named = document(tmp_path, Service("https://127.0.0.1:1"), {"type": "mutualTLS"})
    with pytest.raises(UsageError, match=told):
        async with opened(OpenApi, tmp_path, document=named, auth={"who": files}):
            pass


def test_files_that_are_not_there_are_told_by_check(tmp_path: Path) -> None:
    document(tmp_path, Service("https://127.0.0.1:1"), {"type": "mutualTLS"})
    files = {"certificate": "ann.crt", "key": "ann.key"}
    part = OpenApi.model_validate({"document": "service.json", "auth": {"who": files}})
    assert list(part.absent(tmp_path)) == [
        ("auth", f"who: there is no file {tmp_path / 'ann.crt'}"),
        ("auth", f"who: there is no file {tmp_path / 'ann.key'}"),
    ]
    requests = {"look": {"url": "https://127.0.0.1/x", "description": "Looks."}}
    asking = Http.model_validate({"requests": requests, "auth": {"kind": "certificate", **files}})
    assert [key for key, _ in asking.absent(tmp_path)] == ["auth", "auth"]


class Provider:
    """An OpenID provider whose tokens are good for `lasts_s`, and the service that believes it."""

    def __init__(self, lasts_s: float = 3600.0, **configuration: Any) -> None:
        self.lasts_s = lasts_s
        self.configuration = configuration
        self.given: list[str] = []
        self.good: set[str] = set()

    async def __call__(self, request: web.Request) -> web.Response:
        if request.path == "/.well-known/openid-configuration":
            here = f"http://{request.host}"
            told = {"issuer": here, "token_endpoint": f"{here}/token", **self.configuration}
            return web.json_response(told)
        if request.path == "/token":
            return self.token(request, parse_qs(await request.text()))
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return web.Response(text=f"let in by {token}", status=200 if token in self.good else 401)

    def token(self, request: web.Request, form: dict[str, list[str]]) -> web.Response:
        signed = request.headers.get("Authorization", "")
        shown = base64.b64decode(signed.removeprefix("Basic ")).decode() or ":".join(
            form.get("client_id", []) + form.get("client_secret", [])
        )
        if (shown, form["grant_type"]) != ("us:s3cret", ["client_credentials"]):
            return web.json_response({"error": "invalid_client"}, status=401)
        assert form["scope"] == ["read"]
        self.given.append(f"t-{len(self.given)}")  # Too short to be cut out of answers.
        self.good.add(self.given[-1])
        return web.json_response({"access_token": self.given[-1], "expires_in": self.lasts_s})


US = {"who": {"client_id": "us", "client_secret": "s3cret"}}


def openid(folder: Path, served: Service) -> str:
    where = f"{served.url}/.well-known/openid-configuration"
    return document(folder, served, {"type": "openIdConnect", "openIdConnectUrl": where})


@pytest.mark.parametrize("ways", [None, ["private_key_jwt", "client_secret_post"]])
async def test_a_providers_token_is_fetched_kept_and_fetched_anew(
    tmp_path: Path, ways: list[str] | None
) -> None:
    more: dict[str, Any] = {} if ways is None else {"token_endpoint_auth_methods_supported": ways}
    provider = Provider(**more)
    async with service(provider) as served:
        named = openid(tmp_path, served)
        async with opened(OpenApi, tmp_path, document=named, auth=US) as tools:
            results = await asyncio.gather(*(call(tools, "x") for _ in range(4)))
            assert {result.text for result in results} == {"let in by t-0"}
            provider.good.clear()  # The provider takes it back.
            assert (await call(tools, "x")).text == "let in by t-1"
    assert provider.given == ["t-0", "t-1"]


async def test_a_token_that_has_ended_is_fetched_anew(tmp_path: Path) -> None:
    provider = Provider(lasts_s=0.01)
    async with service(provider) as served:
        named = openid(tmp_path, served)
        async with opened(OpenApi, tmp_path, document=named, auth=US) as tools:
            for number in range(2):
                assert (await call(tools, "x")).text == f"let in by t-{number}"
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("configuration", "told"),
    [
        ({"token_endpoint": None}, "gave no OpenID configuration: it answers 200"),
        (
            {"token_endpoint_auth_methods_supported": ["private_key_jwt"]},
            "takes clients by private_key_jwt only, not by a secret",
        ),
    ],
)
async def test_a_provider_that_cannot_be_asked_is_told(
    tmp_path: Path, configuration: dict[str, Any], told: str
) -> None:
    async with service(Provider(**configuration)) as served:
        named = openid(tmp_path, served)
        async with opened(OpenApi, tmp_path, document=named, auth=US) as tools:
            result = await call(tools, "x")
    assert result.state == "failed"
    assert told in result.text
    assert all("s3cret" not in asked.body for asked in served.asked)
