"""The steps of one app's flywheel, each in the journal.

Killed anywhere and started again, a step that had ended gives the same result, and inside a step
work goes on where it can (tuning from its checkpoint, evaluation from the last answer).
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kickwheel.app import Plan, check_app, open_app, trained
from kickwheel.core.files import only_one
from kickwheel.core.store import Store, open_store
from kickwheel.core.store.files import making
from kickwheel.flywheel import curate as curating
from kickwheel.flywheel import learning
from kickwheel.flywheel.contest import contest, opinions
from kickwheel.flywheel.evaluate.page import html
from kickwheel.flywheel.gate import decide
from kickwheel.flywheel.learning import Point
from kickwheel.flywheel.made import Made
from kickwheel.flywheel.promotion import move, taken_back
from kickwheel.flywheel.snapshot import contents, pack
from kickwheel.flywheel.traffic import declared
from kickwheel.flywheel.tune import Options, Progress
from kickwheel.flywheel.tuned import tuned
from kickwheel.flywheel.watch import Silent, Watch
from kickwheel.models import catalog
from kickwheel.records import Report, Snapshot, wire
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces


@contextmanager
def wheel(
    app: Path = Path(), *, full: bool = False, watch: Watch | None = None
) -> Iterator["Wheel"]:
    """The steps of an app's flywheel, while no other process turns its store.

    Raises:
        ConfigError: the app file has mistakes.
        StoreError: another process turns it, or the store cannot be used.
    """
    plan = check_app(app)
    if full:
        plan = _full(plan)
    with (
        only_one(plan.store / "turn.lock", f"a turn of {plan.folder.name}"),
        open_store(plan.store, plan.database) as store,
    ):
        yield Wheel(plan, store, watch or Silent(), full=full)


class Wheel:
    """The steps of one app's flywheel, each journaled."""

    def __init__(self, plan: Plan, store: Store, watch: Watch, *, full: bool = False) -> None:
        self.full = full
        self.plan = plan
        self.loop = plan.loop
        self.store = store
        self.watch = watch
        found = trained(plan)
        self.ref, self._base_name = found.adapter, found.base
        self.made = Made(store, self.ref)
        self._run = f"turn/{self.ref}"
        self._base: catalog.Base | None = None
        self._seconds: dict[str, float] = {}

    @property
    def base(self) -> catalog.Base:
        """The base that is tuned, fetched when it is first needed."""
        if self._base is None:
            self._base = catalog.pull(
                self._base_name,
                lambda done, total, note: self.watch.update("pull", done, total, note),
            )
        return self._base

    def take_in(self) -> None:
        """Lands the traffic that the file names; what is there already is not landed twice."""
        for file in declared(self.plan):
            landed = chatlog.import_(file, Traces(self.store), workload=self._workload)
            self.watch.step("import", landed.short())

    def curate(self) -> str:
        """Id of the dataset that the traces of now make."""
        options = self.loop.curate
        wanted = curating.Options(
            name=self.ref,
            test=options.test,
            validation=options.validation,
            near=options.near,
            prompts=self._prompts(),
            agent=self.loop.workload,
            pupils=(self.loop.model, self.ref),
        )
        inputs = {
            "traces": Traces(self.store).fingerprint(self.loop.workload),
            "options": wanted,
            "kickwheel": version("kickwheel"),
        }

        def do() -> str:
            earlier = self.made.newest("dataset")
            dataset = curating.curate(
                Traces(self.store).all(self.loop.workload),
                wanted,
                self.made.dataset(earlier) if earlier else None,
            )
            return self.store.artifacts.add("dataset", curating.save(dataset))

        identity = self._step("curate", inputs, do)
        made = self.made.dataset(identity)
        sizes = ", ".join(
            f"{len(made.part(side))} {side}" for side in ("train", "validation", "test")
        )
        self.watch.step("curate", f"dataset {identity}: {sizes}")
        return identity

    def incumbent(self, dataset: str) -> str | None:
        """What the ref named when the adapter of this dataset was begun, `adapter/<id>`."""
        inputs = self._tuning(dataset)
        found = self._step("begin", inputs, lambda: self.store.refs.read(self.ref) or "")
        return found or None

    def tune(self, dataset: str) -> str:
        """Id of an adapter tuned on the dataset, whose export was checked."""
        inputs = self._tuning(dataset)
        work = self._work("tune", inputs)

        def on_step(now: Progress) -> None:
            self.watch.update(
                "tune",
                now.seconds,
                now.seconds + now.seconds_left,
                f"{now.phase}: step {now.step} of {now.steps}, loss {now.loss:.3f}, "
                f"{now.tokens_per_s:.0f} tokens/s, {now.seconds_left:.0f} s left",
            )

        def do() -> str:
            files = tuned(
                self.made.dataset(dataset),
                dataset,
                self.base,
                work,
                self._tuning_options(),
                on_step=on_step,
                on_check=lambda: self.watch.update("tune", 1, 1, "checking the export"),
            )
            return self.store.artifacts.add("adapter", files)

        identity = self._step("tune", inputs, do)
        shutil.rmtree(work, ignore_errors=True)
        made = self.made.adapter(identity)
        # A run that was killed goes on; only the run itself knows what it took in all.
        self._seconds["tune"] = max(self._seconds["tune"], made.config.get("seconds", 0.0))
        losses = [p.validation_loss for p in made.curve if p.validation_loss]
        self.watch.step("tune", f"adapter {identity}: validation loss {min(losses):.3f}")
        return identity

    def evaluate(self, dataset: str, adapter: str, incumbent: str | None) -> str:
        """Id of the measurement: the adapter beside all that it would replace."""
        inputs = {
            "dataset": dataset,
            "adapter": adapter,
            "incumbent": incumbent,
            "options": self.loop.evaluate.model_dump(),
            "gate": self.loop.gate.confidence,
        }
        work = self._work("evaluate", inputs)

        async def measured() -> Report:
            async with open_app(self.plan, only=self._judges()) as app:
                return await contest(
                    self.made.dataset(dataset),
                    self.base,
                    self._adapter_folder(adapter),
                    self._adapter_folder(incumbent) if incumbent else None,
                    work,
                    options=self.loop.evaluate,
                    confidence=self.loop.gate.confidence,
                    judge=app.model(self.loop.evaluate.judge) if self.loop.evaluate.judge else None,
                    opinions=opinions(app.traces, self.loop.workload),
                    on_progress=lambda done, total, who: self.watch.update(
                        "evaluate", done, total, who
                    ),
                )

        def do() -> str:
            report = replace(
                asyncio.run(measured()), dataset=dataset, adapter=adapter, incumbent=incumbent
            )
            return self.store.artifacts.add("measurement", {"report.json": wire.to_bytes(report)})

        identity = self._step("evaluate", inputs, do)
        shutil.rmtree(work, ignore_errors=True)
        report = self.made.measurement(identity)
        rates = ", ".join(
            f"{c.name} {c.rates['right'].right} of {c.rates['right'].n}" for c in report.contestants
        )
        self.watch.step("evaluate", rates)
        return identity

    def compared(self, adapter: str) -> str:
        """Id of the report on an adapter beside what the ref names now."""
        incumbent = self.store.refs.read(self.ref)
        if incumbent == f"adapter/{adapter}":
            incumbent = None
        return self.gate(self.evaluate(self.made.adapter(adapter).dataset, adapter, incumbent))

    def learn(self, dataset: str, adapter: str) -> tuple[Point, ...]:
        """The learning curve: what the same tuning reaches on parts of the training examples."""
        inputs = {"dataset": dataset, "adapter": adapter, "shares": learning.SHARES}
        form = self.made.adapter(adapter).form
        options = replace(self._tuning_options(), prompt=form.tools, keep_system=form.system)
        made = self.made.dataset(dataset)

        def of_a_part(share: float) -> Point:
            work = self._work(f"learn-{share}", inputs)
            part = learning.part_of(made, share)
            folder = learning.tuned_on(part, self.base, work, options)
            found = asyncio.run(learning.point(part, self.base, folder))
            shutil.rmtree(work, ignore_errors=True)
            return found

        def of_all() -> Point:
            return asyncio.run(learning.point(made, self.base, self._adapter_folder(adapter)))

        points = [
            self._point(f"{share}", inputs, partial(of_a_part, share)) for share in learning.SHARES
        ]
        return (*points, self._point("1", inputs, of_all))

    def gate(self, measurement: str, curve: tuple[Point, ...] = ()) -> str:
        """Id of the report: the measurement, what the gate says of it, and the page to look at."""
        inputs = {
            "measurement": measurement,
            "gate": self.loop.gate.model_dump(),
            "learning": curve,
        }

        def do() -> str:
            report = self.made.measurement(measurement)
            assert report.adapter is not None
            rule = self.loop.gate
            verdict = decide(
                report,
                metric=rule.metric,
                kind=rule.kind,
                margin=rule.margin,
                confidence=rule.confidence,
                minimum=rule.minimum,
                against=rule.against,
            )
            report = replace(
                report,
                verdict=verdict,
                status="gated",
                curve=self.made.adapter(report.adapter).curve,
                learning=curve,
                seconds={**self._seconds, **report.seconds},
            )
            page = html(report, self.made.dataset(report.dataset))
            files = {"report.json": wire.to_bytes(report), "report.html": page.encode()}
            return self.store.artifacts.add("report", files)

        identity = self._step("gate", inputs, do)
        verdict = self.made.report(identity).verdict
        assert verdict is not None
        self.watch.step("gate", verdict.why)
        return identity

    def snapshot(self, report: str) -> str:
        """Id of the snapshot of what the report is about."""
        record = self.made.report(report)
        assert record.adapter is not None
        adapter = self.made.adapter(record.adapter)
        wanted = Snapshot(
            ref=self.ref,
            model=self.loop.model,
            base=adapter.base,
            base_sha256=adapter.base_sha256,
            adapter=record.adapter,
            form=adapter.form,
            report=report,
        )

        def do() -> str:
            with making(self.store.artifacts, "snapshot") as folder:
                pack(
                    folder,
                    wanted,
                    plan=self.plan,
                    adapter=self._adapter_folder(wanted.adapter),
                    report=self.made.folder("report", report),
                )
                return self.store.artifacts.add("snapshot", folder)

        inputs = {"snapshot": wanted, "app": contents(self.plan)}
        identity = self._step("snapshot", inputs, do)
        self.watch.step("snapshot", f"snapshot {identity}")
        return identity

    def promote(self, report: str) -> None:
        """Moves the ref to the report's adapter, unless that was taken back."""
        record = self.made.report(report)
        back = taken_back(self.store, self.plan, record)
        if back is not None:
            self.watch.step(
                "promote",
                f"adapter/{record.adapter} was taken back ({back.why}) and stays so: "
                f"`kickwheel promote --adapter {record.adapter}` puts it to work again",
            )
            return
        target = self._step(
            "promote", {"report": report}, lambda: move(self.store, self.plan, record, report)
        )
        if self.store.refs.read(self.ref) == target:
            self.watch.step("promote", f"{self.ref} → {target}")
        else:
            self.watch.step(
                "promote",
                f"{self.ref} was promoted to {target} by this turn and moved on since: "
                f"`kickwheel promote --adapter {record.adapter}` puts it back",
            )

    def _step(self, name: str, inputs: Any, do: Callable[[], str]) -> str:
        def watched() -> str:
            self.watch.update(name, 0, 1, "")
            return do()

        found = self.store.journal.step(self._run, name, inputs, watched, str)
        self._seconds[name] = self.store.journal.seconds(self._run, name, inputs)
        return found

    def _point(self, share: str, inputs: Any, do: Callable[[], Point]) -> Point:
        found = self.store.journal.step(self._run, f"learn {share}", inputs, do, Point)
        self.watch.step("learn", f"{found.examples} examples: {found.share:.1%} right")
        return found

    def _tuning_options(self) -> Options:
        return Options(**self.loop.tune.model_dump(exclude_none=True))

    def _tuning(self, dataset: str) -> dict[str, Any]:
        """All that an adapter depends on."""
        options = self.loop.tune.model_dump()
        return {"dataset": dataset, "base": self.base.sha256, "options": options}

    def _work(self, step: str, inputs: Any) -> Path:
        return self.store.folder / "work" / f"{step}-{wire.digest(inputs)[:16]}"

    def _adapter_folder(self, target: str) -> Path:
        return self.made.folder("adapter", target.removeprefix("adapter/"))

    @property
    def _workload(self) -> str:
        return self.loop.workload or self.loop.model

    def _judges(self) -> list[str]:
        return [self.loop.evaluate.judge] if self.loop.evaluate.judge else []

    def _prompts(self) -> tuple[str, ...]:
        """What the agent is told in any case: no test question may stand in it."""
        agent = self.plan.parts.get(("agents", self.loop.agent or ""))
        told = getattr(agent, "instructions", None)
        return (told,) if told else ()


def _full(plan: Plan) -> Plan:
    whole = plan.loop.evaluate.model_copy(update={"full_prompt": None})
    loop = plan.loop.model_copy(update={"evaluate": whole})
    return replace(plan, config=plan.config.model_copy(update={"flywheel": loop}))
