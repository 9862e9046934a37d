"""What the specialist's prompt holds: as the options say, else what validation likes best."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kickwheel.core.errors import DataError
from kickwheel.core.files import write_whole
from kickwheel.flywheel.tune.base import Base
from kickwheel.flywheel.tune.examples import Batch, batches, in_batches, tokens_of
from kickwheel.flywheel.tune.learner import Learner
from kickwheel.flywheel.tune.options import OnStep, Options, Progress
from kickwheel.records import Example, PromptForm, wire

_PROBE_BATCHES = 24
_PROBE_EXAMPLES = 32
_PROBE_GAIN = 0.05
"""A longer prompt must lower the validation loss by this share, or the shorter one stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choosing:
    """The choice of the form, and what it is made with."""

    learner: Learner
    base: Base
    options: Options
    train: Sequence[Example]
    validation: Sequence[Example]
    on_step: OnStep | None

    def form(self, plan: Path, run: str) -> tuple[PromptForm, float]:
        """What the prompt holds, and the seconds that finding it took.

        Args:
            plan: the file in which the choice is kept, for when the run is killed.
            run: its id.
        """
        try:
            found = wire.from_bytes(plan.read_bytes(), _Plan)
            if found.run == run:
                return found.form, found.seconds
        except (OSError, ValueError):
            pass
        began = time.perf_counter()
        forms = self._forms()
        form = forms[0] if len(forms) == 1 else self._probe(forms)
        seconds = time.perf_counter() - began
        write_whole(plan, wire.to_bytes(_Plan(run=run, form=form, seconds=seconds)))
        return form, seconds

    def _forms(self) -> list[PromptForm]:
        """The forms in question, shortest prompt first."""
        options, everything = self.options, [*self.train, *self.validation]
        offered = any(example.tools for example in everything)
        system = any(m.role in ("system", "developer") for e in everything for m in e.messages)
        tools: list[Any] = ["none", "signatures"] if offered else ["none"]
        keeps = [False, True] if system else [True]
        if options.prompt != "auto":
            tools = [options.prompt]
        if options.keep_system is not None:
            keeps = [options.keep_system]
        return [PromptForm(tools=t, system=k) for k in keeps for t in tools]

    def _probe(self, forms: Sequence[PromptForm]) -> PromptForm:
        """A few steps with each form, of equally many tokens, and then the validation loss."""
        best: tuple[float, PromptForm] | None = None
        allowance = 0
        for number, form in enumerate(forms):
            try:
                held_out = [
                    tokens_of(e, self.base, form) for e in self.validation[:_PROBE_EXAMPLES]
                ]
                loss, used = self._probe_one(form, number, allowance, in_batches(held_out))
            except DataError:
                if number == len(forms) - 1 and best is None:
                    raise
                continue  # Too long for the context: this form is out of question.
            allowance = allowance or used
            if best is None or loss < best[0] * (1 - _PROBE_GAIN):
                best = loss, form
            self.learner.reset()
        assert best is not None
        return best[1]

    def _probe_one(
        self, form: PromptForm, number: int, allowance: int, held_out: Sequence[Batch]
    ) -> tuple[float, int]:
        began, used, steps = time.perf_counter(), 0, 0
        source = batches(
            self.train,
            self.base,
            form,
            size=self.options.batch_size,
            seed=self.options.seed,
        )
        for group in source:
            warm = min(1.0, (steps + 1) / 8)
            loss = self.learner.step(group, self.options.learning_rate * warm)
            steps, used = steps + 1, used + group.tokens
            if self.on_step is not None:
                seconds = time.perf_counter() - began
                left = max(0, _PROBE_BATCHES - steps) * seconds / steps
                self.on_step(
                    Progress(
                        phase="choosing the prompt",
                        step=steps,
                        steps=max(steps, _PROBE_BATCHES),
                        tokens=used,
                        tokens_per_s=used / seconds,
                        loss=loss,
                        validation_loss=None,
                        seconds=seconds,
                        seconds_left=left,
                    )
                )
            if used >= allowance if allowance else steps >= _PROBE_BATCHES:
                break
        return self.learner.loss(held_out), used


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What was decided before the first step."""

    run: str
    form: PromptForm
    seconds: float
