"""What an app file may say: its sections and keys, with their defaults.

Docstrings here are the file's documentation: they stand in its JSON Schema and in its errors.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from kickwheel.core.config import key_from
from kickwheel.core.errors import UsageError
from kickwheel.models.caller import NOBODY, Caller
from kickwheel.trace.otlp.target import Target


class Section(BaseModel):
    """A section of the file with fixed keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Holder(Section):
    """Who has an API key of their own; one without user and tenant is the house's."""

    key: SecretStr
    """The key: write `${NAME}` for the value of a variable, or `sha256:` and its digest."""
    user: str = ""
    """Who they are: budgets, memory, runs and responses are kept apart by it."""
    tenant: str = ""
    """Whose traces, files, jobs and tuned models they see; without one only their own."""
    token: SecretStr | None = None
    """What tools that act in the caller's name (`auth: caller`, `as_caller`) show for them."""

    @field_validator("key")
    @classmethod
    def _whole_digest(cls, key: SecretStr) -> SecretStr:
        written = key.get_secret_value()
        if written.startswith("sha256:") and not re.fullmatch(r"sha256:[0-9a-f]{64}", written):
            raise ValueError(
                "sha256: wants the 64 hex digits of the key's digest: `printf %s KEY | sha256sum`"
            )
        return key


class Oauth(Section):
    """Tokens that an authorization server gives to people and programs (OAuth 2, OpenID Connect);
    signed ones (JWT), of which the `sub` says whose they are."""

    issuer: str
    """The authorization server, by its issuer URL, as it stands in the server's own metadata."""
    url: str
    """How clients reach this server, `https://agents.example.com`: a token must be meant for that,
    or for `/mcp` below it."""
    audience: str = ""
    """What a token must be meant for instead, where the authorization server does not write the
    address that it was asked for."""
    scopes: tuple[str, ...] = ()
    """What a token must allow; clients are told to ask for it."""
    tenant: str = ""
    """The claim that names the tenant; without it everybody sees what is their own."""

    @field_validator("issuer", "url")
    @classmethod
    def _safe(cls, value: str) -> str:
        parts = urlsplit(value)
        near = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if not parts.hostname or parts.scheme not in (("https", "http") if near else ("https",)):
            raise ValueError("must begin with https://, or on this machine with http://")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError("must be an address, and nothing behind it")
        return value


class Auth(Section):
    """Who may call: everybody with a key, or with a token."""

    kind: Literal["key"] = "key"
    key: SecretStr | None = None
    """The API key: write `${NAME}` for the value of a variable, not the key itself; by default
    `${KICKWHEEL_API_KEY}`."""
    keys: tuple[Holder, ...] = ()
    """Further keys, each somebody's own."""
    oauth: Oauth | None = None
    """Tokens that may be shown in place of a key."""


class A2a(Section):
    """How agents answer other agents over A2A."""

    push_to: tuple[str, ...] = ()
    """Hosts to which notifications may go although they are of this machine or a private network;
    those that anybody can reach need not stand here."""


class Mcp(Section):
    """What is offered over MCP, at `/mcp` and by `kickwheel mcp`."""

    offer: tuple[str, ...] | None = None
    """Names of agents, and of entries of `tools`, all of whose tools are meant; of kind `files`
    also the files, as resources. By default all agents."""


class Serve(Section):
    """How `kickwheel serve` listens."""

    host: str = "127.0.0.1"
    """Address to listen on; other than loopback only with a key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """Port to listen on; 0 takes a free one."""
    auth: Auth = Auth()
    a2a: A2a = A2a()
    mcp: Mcp = Mcp()
    record: str | None = None
    """The entry of `models`, of kind `openai`, whose server gets what programs ask at
    `/t/<project>/v1`; what passes becomes traces of the project."""

    def keys(self) -> dict[str, Caller]:
        """The keys of which callers must show one, and who shows it; none where all may come in.

        Raises:
            UsageError: a variable that one is to come from is not set, or two are the same.
        """
        found: dict[str, Caller] = {}
        if self.auth.key is not None:
            found[_secret(self.auth.key, "serve.auth.key")] = NOBODY
        elif key := os.environ.get("KICKWHEEL_API_KEY"):
            found[key] = NOBODY
        for position, holder in enumerate(self.auth.keys):
            place = f"serve.auth.keys[{position}]"
            key = _secret(holder.key, f"{place}.key")
            if key in found:
                raise UsageError(f"{place}.key: somebody else has this key already")
            token = holder.token and SecretStr(_secret(holder.token, f"{place}.token"))
            found[key] = Caller(user=holder.user, tenant=holder.tenant, token=token)
        return found


def _secret(written: SecretStr, place: str) -> str:
    value = key_from(written.get_secret_value())
    if value is None:
        raise UsageError(
            f"{place}: {written.get_secret_value() or 'it'} is empty or not set. Set that variable "
            "to a long random text, or leave the key out."
        )
    return value


class Curate(Section):
    """How traffic becomes a dataset."""

    test: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Questions that are kept unseen for the comparison: a number, or a share."""
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the rest that decides when to stop and which form of the prompt is best."""
    near: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Likeness from which two questions are near-duplicates: Jaccard of character 5-grams."""


class Tune(Section):
    """How the adapter is made; what is not set is decided by the data and the machine."""

    minutes: Annotated[float, Field(gt=0)] = 4.0
    """Training time at most."""
    epochs: Annotated[int, Field(gt=0)] | None = None
    """Passes over the training examples at most; by default as many as fit into the time."""
    rank: Annotated[int, Field(gt=0, le=256)] | None = None
    """Rank of the update: higher learns more and costs more."""
    learning_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Peak rate of the schedule."""
    batch_size: Annotated[int, Field(gt=0)] | None = None
    """Examples a step."""
    prompt: Literal["auto", "full", "signatures", "none"] = "auto"
    """What the specialist's prompt says of the tools; `auto` lets validation decide."""
    keep_system: bool | None = None
    """Whether the specialist's prompt keeps the system messages; by default validation decides."""
    seed: int = 0
    """Seed of everything random."""


class Evaluate(Section):
    """What the specialist is compared with, and on how many questions."""

    full_prompt: Annotated[int, Field(ge=0)] | None = None
    """Test questions put to the slow base with its full prompt, drawn by hash; by default all."""
    shots: Annotated[int, Field(ge=1, le=20)] = 3
    """Examples retrieved for each question of the few-shot contestant."""
    judge: str | None = None
    """Model that judges free text; it is reported, and gates only once people agree with it."""


class Gate(Section):
    """What a candidate must show before it replaces the incumbent."""

    metric: Literal["right", "right_call", "right_tool", "fields", "similarity", "judge"] | None = (
        None
    )
    """What is compared; by default `right`, for free text `similarity`."""
    kind: Literal["superiority", "non-inferiority"] = "superiority"
    """Superiority: better by more than the margin. Non-inferiority: not worse by the margin."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share, 0 to 1, that the paired difference's lower bound must clear."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the interval."""
    minimum: Annotated[int, Field(ge=1)] = 50
    """Test questions at least."""
    against: Literal["best", "full-prompt", "few-shot", "specialist-free", "incumbent"] = "best"
    """Who must be beaten; `best`: the incumbent where there is one, else the best baseline."""

    @model_validator(mode="after")
    def _margin_of_non_inferiority(self) -> "Gate":
        if self.kind == "non-inferiority" and self.margin == 0:
            raise ValueError(
                "non-inferiority needs a margin above 0: how much worse is still good?"
            )
        return self


class Export(Section):
    """Where traces are sent as they are made, as OTLP."""

    url: str = "${OTEL_EXPORTER_OTLP_ENDPOINT}"
    """The collector's base URL, `http://collector:4318`; `/v1/traces` is put behind it. Or
    `${NAME}` for the value of a variable."""
    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """Headers of each request, such as `authorization`; write `${NAME}` for the value of a
    variable, not the key itself."""

    def target(self) -> Target:
        """The collector.

        Raises:
            UsageError: a variable that something is to come from is not set.
        """
        headers = {
            name: self._set(f"headers.{name}", value.get_secret_value())
            for name, value in self.headers.items()
        }
        return Target(self._set("url", self.url), headers)

    def _set(self, what: str, written: str) -> str:
        value = key_from(written)
        if value is None:
            raise UsageError(
                f"trace.export.{what}: {written or 'it'} is empty or not set. Set that variable, "
                "or leave trace.export out: then nothing is sent."
            )
        return value


class Tracing(Section):
    """What happens to traces beside being kept."""

    export: Export | None = None
    """Sends them to a collector, too. Without this section nothing leaves, whatever the
    environment says."""


class Flywheel(Section):
    """One loop from traffic to a promoted specialist."""

    model: str
    """Which of `models` becomes the specialist; it must be of kind `local` with a ref."""
    agent: str | None = None
    """Whose traffic is used; by default all traffic in the store."""
    project: str | None = None
    """In place of an agent: the project whose recorded traffic is used."""
    training_type: Literal["lora", "sft"] = "lora"
    """`lora`, or NeMo's `sft` together with `finetuning_type: lora`."""
    finetuning_type: Literal["lora"] | None = None
    traffic: tuple[str, ...] = ()
    """Files that are imported before a turn, or `module:function` of a function that writes one
    into the folder it is given and returns its path."""
    curate: Curate = Curate()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    gate: Gate = Gate()

    @property
    def workload(self) -> str | None:
        """Whose traffic is used; `None` for all."""
        return self.agent or self.project

    @model_validator(mode="after")
    def _one_workload(self) -> "Flywheel":
        if self.agent and self.project:
            raise ValueError("give either an agent or a project: whose traffic is used?")
        return self

    @model_validator(mode="after")
    def _known_type(self) -> "Flywheel":
        if self.training_type == "sft" and self.finetuning_type != "lora":
            raise ValueError(
                "training_type: sft is understood with finetuning_type: lora; "
                "training of all weights is not offered"
            )
        return self


class AppFile(Section):
    """The whole file."""

    models: Mapping[str, Any] = Field(default_factory=dict)
    """What answers a prompt."""
    tools: Mapping[str, Any] = Field(default_factory=dict)
    """What agents can do."""
    memory: Mapping[str, Any] = Field(default_factory=dict)
    """What agents remember."""
    agents: Mapping[str, Any] = Field(default_factory=dict)
    """Who does the work."""
    serve: Serve = Serve()
    trace: Tracing = Tracing()
    flywheel: Flywheel | None = None
    store: str = Field(default=".kickwheel", repr=False)
    """Folder of traces, datasets, adapters and reports; relative to the file. Or the URL of a
    Postgres database, `postgresql://user@host/name`, or `${NAME}` for the value of a variable: then
    traces, refs, jobs and runs are there, and only artifacts and other files in `.kickwheel`."""

    @field_validator("store")
    @classmethod
    def _folder_or_postgres(cls, store: str) -> str:
        scheme, parts, _ = store.partition("://")
        if parts and scheme not in ("postgresql", "postgres"):
            raise ValueError(f"no store on {scheme}: give a folder, or postgresql://user@host/name")
        return store

    def place(self) -> tuple[Path, str | None]:
        """The store's folder, and the URL of its database where that is no file in the folder.

        Raises:
            UsageError: the variable that it is to come from is not set.
        """
        written = key_from(self.store)
        if written is None:
            raise UsageError(
                f"store: {self.store or 'it'} is empty or not set. Set that variable, or leave "
                "store out: then it is the folder .kickwheel beside the file."
            )
        if written.startswith(("postgresql://", "postgres://")):
            return Path(".kickwheel"), written
        return Path(written), None
