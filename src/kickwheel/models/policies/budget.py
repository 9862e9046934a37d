"""`kind: budget`: tokens, money and time, for a request, a user, a key, and all together.

What was used stands in the store, window by window, so that a restart and a second worker count
on. Requests under way are counted by an estimate until their answers tell.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated

from msgspec import structs
from pydantic import BaseModel, ConfigDict, Field

from kickwheel.core.errors import ModelError, StoreError, UsageError
from kickwheel.core.plugins import Context, Name, Part
from kickwheel.core.store import Connection, Database
from kickwheel.models import observed
from kickwheel.models.answer import BYTES_A_TOKEN
from kickwheel.models.caller import caller
from kickwheel.models.chat import ChatRequest, Collected, Delta, Model, Usage
from kickwheel.models.pictures import TOKENS
from kickwheel.models.policies.wrapped import Wrapped, decided, reading

_log = logging.getLogger(__name__)


class Limit(BaseModel):
    """How much may be used; what is left out is not limited."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    tokens: Annotated[int, Field(gt=0)] | None = None
    """Of prompts and answers."""
    cost_usd: Annotated[float, Field(gt=0)] | None = None
    """By the model's `prices`."""
    seconds: Annotated[float, Field(gt=0)] | None = None
    """That the model took to answer."""


class Budget(Part):
    """Refuses requests (429) to a model when what may be used of it is used up."""

    model: Annotated[str, Name("models")]
    window_s: Annotated[float, Field(ge=1)] = 86_400.0
    """After that time counting starts again; a day begins at midnight UTC."""
    request: Limit | None = None
    """For one request: its answer is cut to what is left after the prompt."""
    user: Limit | None = None
    """For one user in a window; those whom nobody knows are one together."""
    key: Limit | None = None
    """For one key of a caller in a window; those without are one together."""
    total: Limit | None = None
    """For all together in a window."""

    @asynccontextmanager
    async def open(self, context: Context) -> AsyncGenerator["BudgetModel"]:
        """The model within its budget."""
        model = context.part("models", self.model)
        limits = [limit for limit in (self.request, self.user, self.key, self.total) if limit]
        priced = observed.cost_usd(model, Usage(prompt_tokens=1)) is not None
        if any(limit.cost_usd for limit in limits) and not priced:
            raise UsageError(
                f"models.{context.name}: counts money, but {self.model} has no prices. Give it "
                "some, for example prices: {input: 0.25, output: 2.0}"
            )
        ledger = Ledger(context.store.database, context.name, self.window_s)
        yield BudgetModel(context.name, model, self, ledger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What was used."""

    tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Spent") -> "Spent":
        """Both together."""
        return Spent(
            tokens=self.tokens + other.tokens,
            cost_usd=self.cost_usd + other.cost_usd,
            seconds=self.seconds + other.seconds,
        )

    def above(self, limit: Limit) -> str | None:
        """What of it is used up, in words."""
        if limit.tokens is not None and self.tokens >= limit.tokens:
            return f"{self.tokens:,} of {limit.tokens:,} tokens are used"
        if limit.cost_usd is not None and self.cost_usd >= limit.cost_usd:
            return f"{self.cost_usd:.4g} of {limit.cost_usd:.4g} dollars are used"
        if limit.seconds is not None and self.seconds >= limit.seconds:
            return f"{self.seconds:.4g} of {limit.seconds:.4g} seconds are used"
        return None


class Ledger:
    """What was used in each window, kept in the store."""

    def __init__(self, database: Database, name: str, window_s: float) -> None:
        self._database, self._name, self._window_s = database, name, window_s

    def window(self) -> tuple[int, float]:
        """When the window that is open now began, in Unix seconds, and how long it still is."""
        now = time.time()
        since = now // self._window_s * self._window_s
        return int(since), since + self._window_s - now

    def read(self, who: str, since: int) -> Spent:
        """What `who` has used in the window."""
        rows = self._database.read(
            "SELECT tokens, cost_usd, seconds FROM spent "
            "WHERE budget = ? AND who = ? AND since = ?",
            (self._name, who, since),
        )
        return (
            Spent(tokens=rows[0][0], cost_usd=rows[0][1], seconds=rows[0][2]) if rows else Spent()
        )

    def add(self, whose: list[str], since: int, spent: Spent) -> None:
        """Adds to what each of them has used in the window; forgets windows that are over."""
        rows = [
            (self._name, who, since, spent.tokens, spent.cost_usd, spent.seconds) for who in whose
        ]

        def write(connection: Connection) -> None:
            connection.execute(
                "DELETE FROM spent WHERE budget = ? AND since < ?",
                (self._name, since - 2 * self._window_s),
            )
            connection.executemany(
                "INSERT INTO spent VALUES (?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (budget, who, since) DO UPDATE SET "
                "tokens = spent.tokens + excluded.tokens, "
                "cost_usd = spent.cost_usd + excluded.cost_usd, "
                "seconds = spent.seconds + excluded.seconds",
                rows,
            )

        self._database.write(write)


class BudgetModel(Wrapped):
    """A model of which so much may be used and no more."""

    def __init__(self, name: str, model: Model, options: Budget, ledger: Ledger) -> None:
        super().__init__(name, model)
        self._options, self._ledger = options, ledger
        self._under_way: dict[str, list[Spent]] = {}

    @property
    def personal(self) -> bool:
        """Whether users or keys have budgets of their own; see `wrapped.personal`."""
        own = self._options.user is not None or self._options.key is not None
        return own or super().personal

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Delta]:
        """The model's answer.

        Raises:
            ModelError: 429 where a budget is used up; else as the model.
        """
        prompt = Usage(prompt_tokens=_estimate(request))
        request = self._within(request, prompt)
        since, left_s = self._ledger.window()
        limits = dict(self._limits())
        held = Spent(
            tokens=prompt.prompt_tokens + (request.max_tokens or 0),
            cost_usd=self._cost(replace(prompt, output_tokens=request.max_tokens or 0)),
        )
        for who, limit in limits.items():
            used = sum(self._under_way.get(who, []), self._ledger.read(who, since))
            above = used.above(limit)
            if above is not None:
                raise self._refusal(f"{_whose(who)} {above}", left_s)
        for who in limits:
            self._under_way.setdefault(who, []).append(held)
        started = time.perf_counter()
        collected = Collected()
        try:
            async with reading(self.model.stream(request)) as deltas:
                async for delta in deltas:
                    collected.add(delta)
                    yield delta
        finally:
            for who in limits:
                self._under_way[who].remove(held)
                if not self._under_way[who]:
                    del self._under_way[who]
            usage = collected.done.usage if collected.done else _so_far(prompt, collected)
            spent = Spent(
                tokens=usage.prompt_tokens + usage.output_tokens,
                cost_usd=self._cost(usage),
                seconds=time.perf_counter() - started,
            )
            if limits:
                # Shielded: what was used is counted, also where nobody waits for the answer.
                await asyncio.shield(asyncio.to_thread(self._count, list(limits), since, spent))

    def _count(self, whose: list[str], since: int, spent: Spent) -> None:
        try:
            self._ledger.add(whose, since, spent)
        except StoreError as error:
            # The answer was given; what it used is lost to the budget, and that is told.
            _log.warning("%s: %d tokens were not counted. %s", self.name, spent.tokens, error)

    def _limits(self) -> Iterator[tuple[str, Limit]]:
        options, who = self._options, caller()
        if options.total is not None:
            yield "total", options.total
        # Two tenants may each have an Ann.
        user = f"{who.tenant}\0{who.user}" if who.tenant else who.user
        if options.user is not None:
            yield f"user {_hash(user)}", options.user
        if options.key is not None:
            token = who.token.get_secret_value() if who.token else user
            yield f"key {_hash(who.credential or token)}", options.key

    def _within(self, request: ChatRequest, prompt: Usage) -> ChatRequest:
        limit = self._options.request
        if limit is None:
            return request
        most: float = float("inf") if request.max_tokens is None else request.max_tokens
        if limit.tokens is not None:
            most = min(most, limit.tokens - prompt.prompt_tokens)
        if limit.cost_usd is not None:
            thousand = self._cost(Usage(output_tokens=1000))
            left = limit.cost_usd - self._cost(prompt)
            if left <= 0 or thousand:
                most = min(most, left / (thousand or 1.0) * 1000)
        if most < 1:
            text = f"the prompt alone has some {prompt.prompt_tokens:,} tokens"
            raise self._refusal(f"the request is above its budget: {text}", None)
        return structs.replace(
            request,
            max_tokens=None if most == float("inf") else int(most),
            timeout_s=min(request.timeout_s, limit.seconds or request.timeout_s),
        )

    def _cost(self, usage: Usage) -> float:
        return self.cost_usd(usage) or 0.0

    def _refusal(self, why: str, left_s: float | None) -> ModelError:
        decided(f"budget: refused, {why}")
        when = "" if left_s is None else f"; counting starts again in {left_s:,.0f} s"
        return ModelError(f"{self.name}: {why}{when}.", status=429, retry_after_s=left_s)


def _estimate(request: ChatRequest) -> int:
    length = sum(
        len((message.content or "").encode(errors="replace")) for message in request.messages
    )
    length += sum(
        len(call.arguments) for message in request.messages for call in message.tool_calls
    )
    length += sum(len(str(tool.parameters)) + len(tool.description) for tool in request.tools)
    shown = sum(len(message.images or ()) for message in request.messages)
    return -(-length // BYTES_A_TOKEN) + shown * TOKENS


def _so_far(prompt: Usage, collected: Collected) -> Usage:
    """The usage of an answer that broke off, or was left: nobody counted it."""
    if collected.first is None:
        return Usage()
    message = collected.message()
    length = len((message.content or "").encode(errors="replace"))
    length += sum(len(call.arguments) for call in message.tool_calls)
    return replace(prompt, output_tokens=-(-length // BYTES_A_TOKEN), estimated=True)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:16] if name else "unknown"


def _whose(who: str) -> str:
    return {"total": "of all together,", "user": "of this user,", "key": "of this key,"}[
        who.partition(" ")[0]
    ]
