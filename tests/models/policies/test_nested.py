"""Policies around policies: each is a model like any other."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from kickwheel.core.errors import ConfigError, ModelError
from kickwheel.models import observed
from kickwheel.models.chat import ChatRequest, Usage
from kickwheel.models.prices import Prices
from kickwheel.records import Message, genai
from tests.models.opened import attributes, opened

from .scripted import USED, Script, says, yaml

ASKED = ChatRequest(messages=(Message(role="user", content="Who?"),), timeout_s=20.0)
NESTED = """
metered: {kind: budget, model: general, total: {tokens: 12}}
either: {kind: fallback, models: [metered, spare]}
quick: {kind: hedged, model: either, after_s: 10}
shared: {kind: coalesced, model: quick}
best: {kind: cache, model: shared}
"""


async def test_all_of_them_nest_and_the_one_span_tells_what_each_decided(tmp_path: Path) -> None:
    general = Script([0.05, *says("Me.", model="big-1")], prices=Prices(input=1, output=1))
    spare = Script([0.05, *says("Spare.", model="small-1")], prices=Prices(input=2, output=5))
    async with opened(tmp_path, yaml(general=general, spare=spare) + NESTED) as app:

        async def ask(words: str) -> str | None:
            request = ChatRequest(messages=(Message(role="user", content=words),))
            with app.recorder.trace("best", "best"):
                return (await observed.complete(app.model("best"), request)).message.content

        assert await asyncio.gather(ask("Who?"), ask("Who?")) == ["Me.", "Me."]
        assert await ask("Who?") == "Me."
        assert await ask("Where?") == "Spare."
        noted = attributes(app)
    assert (len(general.asked), len(spare.asked)) == (1, 1)
    *both, hit, refused = (one[genai.DECISIONS] for one in noted)
    first, joined = sorted(both, key=len)
    assert first == ["cache: miss"]
    assert joined == ["cache: miss", "coalesced: the same was asked already"]
    assert hit == ["cache: hit, the same words"]
    assert refused == [
        "cache: miss",
        "budget: refused, of all together, 12 of 12 tokens are used",
        "fallback: metered answers 429, spare is asked",
        "fallback: spare answers",
    ]
    # By hand: 10 tokens at 1 $ and 2 at 1 $ for a million, then 10 at 2 $ and 2 at 5 $.
    costs = [one.get(genai.COST_USD) for one in noted]
    assert sorted(costs[:2]) == pytest.approx([0.0, 12e-6])
    assert costs[2:] == pytest.approx([0.0, 30e-6])


async def test_a_request_that_may_come_whole_stays_one_through_all_of_them(tmp_path: Path) -> None:
    general, spare = Script(says("Me.")), Script(says("Spare."))
    async with opened(tmp_path, yaml(general=general, spare=spare) + NESTED) as app:
        whole = ChatRequest(messages=ASKED.messages, whole=True)
        assert (await observed.complete(app.model("best"), whole)).usage == USED
    assert general.asked[0].whole


async def test_who_leaves_stops_the_model_behind_all_of_them(tmp_path: Path) -> None:
    general = Script([60.0])
    async with opened(tmp_path, yaml(general=general, spare=Script()) + NESTED) as app:
        asking = asyncio.create_task(observed.complete(app.model("best"), ASKED))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking], timeout=5)
    assert general.stopped == 1


async def test_an_error_passes_through_all_of_them(tmp_path: Path) -> None:
    broken = [ModelError("no", status=504)]
    lines = yaml(general=Script(list(broken)), spare=Script(list(broken))) + NESTED
    async with opened(tmp_path, lines) as app:
        with pytest.raises(ModelError, match="no") as caught:
            await observed.complete(app.model("best"), ASKED)
    assert caught.value.status == 504


async def test_a_model_that_needs_itself_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    lines = "a: {kind: cache, model: b}\nb: {kind: coalesced, model: a}\n"
    with pytest.raises(ConfigError, match="circle"):
        async with opened(tmp_path, lines):
            pass


def test_costs_that_are_known_of_both_are_added() -> None:
    one, other = Usage(prompt_tokens=1, cost_usd=0.5), Usage(prompt_tokens=2, cost_usd=0.25)
    assert (one + other).cost_usd == 0.75
    assert (one + Usage(prompt_tokens=2)).cost_usd is None
    assert (Usage() + one).cost_usd == 0.5


def test_kinds_load_their_packages_only_when_they_open() -> None:
    modules = ["anthropic", "bedrock", "policies.cache", "policies.budget", "policies.hedged"]
    code = "".join(f"import kickwheel.models.{module}\n" for module in modules)
    code += "import sys; print(*{'anthropic', 'boto3', 'botocore', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
