"""One turn of the whole flywheel, resumable at each step.

`Wheel` has the steps of one app, each in the journal: killed anywhere and started again, a turn
goes on after the last finished step, and inside a step where that step can (tuning goes on from its
checkpoint, evaluation from the last answer). The incumbent is read once, when the turn begins, so
that a turn that was killed after its promotion does not compare the winner with itself.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kickwheel.app import Plan, check_app, open_app, trained
from kickwheel.core.errors import UsageError
from kickwheel.core.files import only_one
from kickwheel.core.store import Store, open_store
from kickwheel.core.store.files import making
from kickwheel.flywheel import curate as curating
from kickwheel.flywheel import learning
from kickwheel.flywheel.contest import contest, opinions
from kickwheel.flywheel.evaluate.page import html
from kickwheel.flywheel.gate import decide
from kickwheel.flywheel.learning import Point
from kickwheel.flywheel.promotion import move, taken_back
from kickwheel.flywheel.snapshot import contents, pack
from kickwheel.flywheel.traffic import declared
from kickwheel.flywheel.tune import Options, Progress
from kickwheel.flywheel.tuned import tuned
from kickwheel.flywheel.watch import Silent, Watch
from kickwheel.models import catalog
from kickwheel.records import Adapter, Dataset, Report, Snapshot, wire
from kickwheel.trace import chatlog
from kickwheel.trace.store import Traces


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """What a turn came to: ids of what it made, and what the gate said."""

    ref: str
    dataset: str
    adapter: str
    report: str
    snapshot: str
    promoted: bool
    why: str


def turn(app: Path = Path(), *, full: bool = False, watch: Watch | None = None) -> Turned:
    """Turns the flywheel of an app once: traffic, dataset, adapter, report, gate, snapshot.

    Started again on the same traffic and options it goes on where it was killed, and where it had
    ended it returns the same result.

    Args:
        app: the app file, or its folder.
        full: whether the slow contestant answers every test question, instead of the number that
            the file sets, and a learning curve is measured.
        watch: who is told how far it is.
    Raises:
        KickwheelError: a step cannot be done; what was finished stays.
    """
    with wheel(app, full=full, watch=watch) as steps:
        return steps.turn()


def curate(app: Path = Path(), *, watch: Watch | None = None) -> str:
    """Id of the dataset that the app's traces make; see `Wheel.dataset`."""
    with wheel(app, watch=watch) as steps:
        steps.take_in()
        return steps.curate()


def tune(app: Path = Path(), dataset: str | None = None, *, watch: Watch | None = None) -> str:
    """Id of an adapter tuned on a dataset of the app, by default the newest."""
    with wheel(app, watch=watch) as steps:
        return steps.tune(steps.whole("dataset", dataset))


def evaluate(
    app: Path = Path(),
    adapter: str | None = None,
    *,
    full: bool = False,
    watch: Watch | None = None,
) -> str:
    """Id of the report on an adapter of the app, by default the newest; nothing is promoted."""
    with wheel(app, full=full, watch=watch) as steps:
        return steps.compared(steps.whole("adapter", adapter))


def snapshot(app: Path = Path(), report: str | None = None, *, watch: Watch | None = None) -> str:
    """Id of the snapshot of what a report of the app is about, by default the newest."""
    with wheel(app, watch=watch) as steps:
        return steps.snapshot(steps.whole("report", report))


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

    def turn(self) -> Turned:
        """All steps, one after another."""
        self.take_in()
        dataset = self.curate()
        incumbent = self.incumbent(dataset)
        adapter = self.tune(dataset)
        measurement = self.evaluate(dataset, adapter, incumbent)
        report = self.gate(measurement, self.learn(dataset, adapter) if self.full else ())
        snapshot = self.snapshot(report)
        record = self.report(report)
        assert record.verdict is not None
        if record.verdict.promoted:
            self._promote(report, record)
        return Turned(
            ref=self.ref,
            dataset=dataset,
            adapter=adapter,
            report=report,
            snapshot=snapshot,
            promoted=record.verdict.promoted,
            why=record.verdict.why,
        )

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
            earlier = next(self._ours("dataset"), None)
            dataset = curating.curate(
                Traces(self.store).all(self.loop.workload),
                wanted,
                self.dataset(earlier) if earlier else None,
            )
            return self.store.artifacts.add("dataset", curating.save(dataset))

        identity = self._step("curate", inputs, do)
        made = self.dataset(identity)
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
                self.dataset(dataset),
                dataset,
                self.base,
                work,
                Options(**self.loop.tune.model_dump(exclude_none=True)),
                on_step=on_step,
                on_check=lambda: self.watch.update("tune", 1, 1, "checking the export"),
            )
            return self.store.artifacts.add("adapter", files)

        identity = self._step("tune", inputs, do)
        shutil.rmtree(work, ignore_errors=True)
        made = self.adapter(identity)
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
                    self.dataset(dataset),
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
        report = self.report(identity, "measurement")
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
        return self.gate(self.evaluate(self.adapter(adapter).dataset, adapter, incumbent))

    def learn(self, dataset: str, adapter: str) -> tuple[Point, ...]:
        """The learning curve: what the same tuning reaches on parts of the training examples."""
        inputs = {"dataset": dataset, "adapter": adapter, "shares": learning.SHARES}
        options = Options(**self.loop.tune.model_dump(exclude_none=True))
        form = self.adapter(adapter).form
        options = replace(options, prompt=form.tools, keep_system=form.system)
        made, run = self.dataset(dataset), self.store.journal.step
        points = []
        for share in learning.SHARES:
            work = self._work(f"learn-{share}", inputs)
            part = learning.part_of(made, share)

            def do(part: Dataset = part, work: Path = work) -> Point:
                folder = learning.tuned_on(part, self.base, work, options)
                return asyncio.run(learning.point(part, self.base, folder))

            points.append(run(self._run, f"learn {share}", inputs, do, Point))
            shutil.rmtree(work, ignore_errors=True)
            self.watch.step(
                "learn", f"{points[-1].examples} examples: {points[-1].share:.1%} right"
            )
        whole = self._adapter_folder(adapter)
        points.append(
            run(
                self._run,
                "learn 1",
                inputs,
                lambda: asyncio.run(learning.point(made, self.base, whole)),
                Point,
            )
        )
        self.watch.step("learn", f"{points[-1].examples} examples: {points[-1].share:.1%} right")
        return tuple(points)

    def gate(self, measurement: str, curve: tuple[Point, ...] = ()) -> str:
        """Id of the report: the measurement, what the gate says of it, and the page to look at."""
        inputs = {
            "measurement": measurement,
            "gate": self.loop.gate.model_dump(),
            "learning": curve,
        }

        def do() -> str:
            report = self.report(measurement, "measurement")
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
                curve=self.adapter(report.adapter).curve,
                learning=curve,
                seconds={**self._seconds, **report.seconds},
            )
            page = html(report, self.dataset(report.dataset))
            files = {"report.json": wire.to_bytes(report), "report.html": page.encode()}
            return self.store.artifacts.add("report", files)

        identity = self._step("gate", inputs, do)
        verdict = self.report(identity).verdict
        assert verdict is not None
        self.watch.step("gate", verdict.why)
        return identity

    def snapshot(self, report: str) -> str:
        """Id of the snapshot of what the report is about."""
        record = self.report(report)
        assert record.adapter is not None
        adapter = self.adapter(record.adapter)
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
                    report=self.store.artifacts.path("report", report),
                )
                return self.store.artifacts.add("snapshot", folder)

        inputs = {"snapshot": wanted, "app": contents(self.plan)}
        identity = self._step("snapshot", inputs, do)
        self.watch.step("snapshot", f"snapshot {identity}")
        return identity

    def _promote(self, report: str, record: Report) -> None:
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

    def dataset(self, identity: str) -> Dataset:
        """The dataset with this id."""
        return self.store.artifacts.record("dataset", identity, Dataset)

    def adapter(self, identity: str) -> Adapter:
        """The adapter with this id."""
        return self.store.artifacts.record("adapter", identity, Adapter)

    def report(self, identity: str, kind: str = "report") -> Report:
        """The report, or measurement, with this id."""
        return self.store.artifacts.record(kind, identity, Report)

    def whole(self, kind: str, identity: str | None) -> str:
        """The whole id of an artifact that begins so; of the newest, where nothing is given.

        Raises:
            UsageError: there is none, or several begin so.
        """
        if identity is not None:
            return self.store.artifacts.path(kind, identity).name
        found = next(self._ours(kind), None)
        if found is None:
            raise UsageError(
                f"there is no {kind} of {self.ref} yet: `kickwheel {_MAKES[kind]}` makes one"
            )
        return found

    def _ours(self, kind: str) -> Iterator[str]:
        """Ids of this loop's artifacts, newest first: fine-tuning jobs keep theirs here too."""
        for identity in reversed(self.store.artifacts.ids(kind)):
            dataset = identity
            if kind == "adapter":
                dataset = self.adapter(identity).dataset
            elif kind == "report":
                dataset = self.report(identity).dataset
            if self.dataset(dataset).name == self.ref:
                yield identity

    def _step(self, name: str, inputs: Any, do: Callable[[], str]) -> str:
        def watched() -> str:
            self.watch.update(name, 0, 1, "")
            return do()

        found = self.store.journal.step(self._run, name, inputs, watched, str)
        self._seconds[name] = self.store.journal.seconds(self._run, name, inputs)
        return found

    def _tuning(self, dataset: str) -> dict[str, Any]:
        """All that an adapter depends on."""
        options = self.loop.tune.model_dump()
        return {"dataset": dataset, "base": self.base.sha256, "options": options}

    def _work(self, step: str, inputs: Any) -> Path:
        return self.store.folder / "work" / f"{step}-{wire.digest(inputs)[:16]}"

    def _adapter_folder(self, target: str) -> Path:
        return self.store.artifacts.path("adapter", target.removeprefix("adapter/"))

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


_MAKES = {"dataset": "curate", "adapter": "tune", "report": "evaluate"}
"""The verb of each artifact."""


def _full(plan: Plan) -> Plan:
    whole = plan.loop.evaluate.model_copy(update={"full_prompt": None})
    loop = plan.loop.model_copy(update={"evaluate": whole})
    return replace(plan, config=plan.config.model_copy(update={"flywheel": loop}))
