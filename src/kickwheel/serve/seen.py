"""The house as each caller sees it: models that a job of others made are not there.

An adapter by its own name, `adapter/<id>`, is the house's: it may have learnt from all traces.
"""

import asyncio
from collections.abc import Sequence

from kickwheel.core.errors import UsageError
from kickwheel.core.plugins import nearest
from kickwheel.core.store import EVERYTHING, Sight
from kickwheel.models.caller import caller
from kickwheel.models.chat import Model
from kickwheel.serve.house import ADAPTER, House, ModelCard
from kickwheel.serve.job import TUNED, Jobs


class SeenHouse:
    """A `House`, asked for whoever the work is done for right now."""

    def __init__(self, house: House, jobs: Jobs) -> None:
        self._house = house
        self._jobs = jobs

    def models(self) -> Sequence[ModelCard]:
        """All that answers them now; reads the disk."""
        cards, sight = self._house.models(), caller().sight
        if sight == EVERYTHING:
            return cards
        theirs = {job.spec.output for job in self._jobs.all(sight)}
        return [
            card for card in cards if not card.id.startswith((ADAPTER, TUNED)) or card.id in theirs
        ]

    async def model(self, name: str) -> Model:
        """What answers them under this name.

        Raises:
            UsageError: nothing does; the text names the nearest that they see.
            EngineError: it exists but cannot be opened.
        """
        sight = caller().sight
        if sight == EVERYTHING:
            return await self._house.model(name)
        if await self._shown(name, sight):
            try:
                return await self._house.model(name)
            except UsageError:
                # Its text may name what only others see.
                pass
        known = [card.id for card in await asyncio.to_thread(self.models)]
        raise UsageError(f'no model "{name}" here. {nearest(name, known)}')

    def ready(self) -> str | None:
        """`None` when all can answer, otherwise what is not ready yet."""
        return self._house.ready()

    async def _shown(self, name: str, sight: Sight) -> bool:
        if name.startswith(TUNED):
            return await asyncio.to_thread(self._jobs.made, name, sight)
        return not name.startswith(ADAPTER)
