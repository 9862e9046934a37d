import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.flywheel.evaluate.made import (
    CITIES,
    Scripted,
    called,
    dataset,
    example,
    knows,
    said,
    tables,
)

from kickwheel.flywheel import gate
from kickwheel.flywheel.evaluate import (
    Asking,
    chart,
    evaluate,
    few_shot,
    full_prompt,
    page,
    specialist,
)
from kickwheel.records import CurvePoint, Report, Split, Step

HOSTILE = "</code></td><script>alert('x')</script><img src=http://evil.example/x onerror=1>&amp;\"'"

SIDES: dict[Split, range] = {"test": range(30), "train": range(30, 40)}


class Page(HTMLParser):
    """Tags, attributes and text of a page; open tags must be closed."""

    VOID = ("meta", "br", "img", "link", "path", "circle")

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def measured(folder: Path, test: int = 60) -> Report:
    known = tables(test=test)
    asking = Asking(known)
    report = await evaluate(
        known,
        [
            full_prompt(asking, Scripted("base", knows(known, lambda e: False)), questions=20),
            few_shot(asking, Scripted("base", knows(known, lambda e: int(e.id[1:]) % 3 == 0))),
            specialist(asking, Scripted("tuned", knows(known, lambda e: int(e.id[1:]) % 5 != 0))),
        ],
        folder,
        name="tables",
    )
    report = replace(
        report,
        curve=tuple(
            CurvePoint(step=s, train_loss=2 / (s + 1), validation_loss=3 / (s + 1))
            for s in range(40)
        ),
        learning=((10, 0.2, 0.1, 0.3), (20, 0.4, 0.3, 0.5)),
        seconds={"tune": 342.0, **report.seconds},
    )
    return replace(report, verdict=gate.decide(report), status="gated")


async def test_the_page_tells_the_whole_story(tmp_path: Path) -> None:
    report = await measured(tmp_path)
    known = replace(
        tables(test=60),
        steps=(Step(name="near-duplicates", kept=72, dropped={"near-duplicate of another": 4}),),
    )
    text = Page(page.html(report, known)).text
    assert "The specialist makes the right call on 80.0 % of 60 unseen questions" in text
    assert "few-shot on 33.3 %: +46.7 points, 95 % interval +" in text
    for part in (
        "promoted",
        "What was compared on what",
        "By likeness to the training questions",
        "wrong string",
        "few-shot was right",
        "few-shot was wrong",
        "Of 60 test questions none stands word for word",
        "4 near-duplicate of another",
        "5 min 42 s",
        "processor",
        "versions",
    ):
        assert part in text, part


async def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    html = page.html(await measured(tmp_path))
    found = Page(html)
    assert {"script", "link", "img", "iframe", "object"}.isdisjoint(tag for tag, _ in found.tags)
    for tag, attributes in found.tags:
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
        # A strict Content-Security-Policy forbids styles in attributes.
        assert "style" not in attributes
    assert "http" not in html.replace("http-equiv", "")
    assert "prefers-color-scheme: dark" in html


async def test_hostile_text_stays_text(tmp_path: Path) -> None:
    known = dataset(
        [
            example(
                n,
                f"{n} {HOSTILE}",
                called(f"t{HOSTILE}", **{HOSTILE: HOSTILE}),
                split="test" if n < 4 else "train",
            )
            for n in range(8)
        ]
    )
    asking = Asking(known)
    report = await evaluate(
        known,
        [
            few_shot(asking, Scripted(HOSTILE, lambda r: said(HOSTILE))),
            specialist(asking, Scripted(HOSTILE, lambda r: called(HOSTILE, x=HOSTILE))),
        ],
        tmp_path,
        name=HOSTILE,
        dataset_id=HOSTILE,
        adapter=HOSTILE,
    )
    report = replace(
        report,
        warnings=(HOSTILE,),
        machine={HOSTILE: {HOSTILE: HOSTILE}},
        seconds={HOSTILE: 1.0},
        verdict=gate.decide(report, minimum=1),
    )
    found = Page(
        page.html(
            report,
            replace(known, name=HOSTILE, steps=(Step(name=HOSTILE, kept=1, dropped={HOSTILE: 1}),)),
        )
    )
    assert {"script", "img"}.isdisjoint(tag for tag, _ in found.tags)
    assert HOSTILE in "".join(found.words)


async def test_a_page_of_labels_has_the_confusion_table(tmp_path: Path) -> None:
    labels = ["billing", "delivery", "other"]
    known = dataset(
        [
            example(
                n, f"m{n}", said(labels[n % 3]), kind="label", split="test" if n < 30 else "train"
            )
            for n in range(40)
        ]
    )
    asking = Asking(known)
    report = await evaluate(
        known,
        [
            full_prompt(asking, Scripted("base", lambda r: said("delivery"))),
            specialist(asking, Scripted("tuned", lambda r: said("Billing"))),
        ],
        tmp_path,
    )
    text = Page(page.html(report)).text
    assert "Which label is taken for which" in text
    assert "billing 10 0 0 0 delivery 10 0 0 0" in text
    assert "The specialist gives the right answer on 33.3 % of 30 unseen questions" in text


async def test_a_page_of_free_text_compares_similarity(tmp_path: Path) -> None:
    known = dataset(
        [
            example(
                n,
                f"q{n}",
                said(f"{CITIES[n % 6]} is far"),
                kind="text",
                split="test" if n < 10 else "train",
            )
            for n in range(20)
        ]
    )
    asking = Asking(known)
    report = await evaluate(
        known,
        [
            full_prompt(asking, Scripted("base", lambda r: said("no"))),
            specialist(asking, Scripted("tuned", lambda r: said("Rome is far"))),
        ],
        tmp_path,
    )
    text = Page(page.html(report)).text
    assert "The specialist reaches a similarity of" in text


async def test_the_page_says_what_is_not_clean_and_what_to_beware_of(tmp_path: Path) -> None:
    report = await measured(tmp_path)
    seen = replace(report.cleanliness, clean=False, exact=3)
    dirty = replace(report, cleanliness=seen, warnings=("few-shot failed often",))
    dirty = replace(dirty, verdict=gate.decide(dirty))
    text = Page(page.html(dirty)).text
    assert "The test is not clean" in text
    assert "may have been seen" in text
    assert "None of the questions" not in text
    assert "not promoted" in text
    assert "few-shot failed often" in text


async def test_regressions_come_first(tmp_path: Path) -> None:
    report = await measured(tmp_path)
    wrong = page.side_by_side(report, right=False)
    marks = [row.mark for row in wrong]
    # 60 questions: 12 wrong, of which those that 3 divides were right with few-shot.
    assert marks == ["regression"] * 4 + [""] * 6
    right = page.side_by_side(report, right=True)
    assert len(right) == 10
    assert {row.mark for row in right} == {"gain"}


async def test_the_terminal_s_table_has_a_row_for_each(tmp_path: Path) -> None:
    rows = page.table(await measured(tmp_path))
    assert rows[0][1:4] == ("right call", "right tool", "n")
    assert [row[0] for row in rows[1:]] == ["full-prompt", "few-shot", "specialist"]
    assert rows[3][1] == "80.0 % [68.2, 88.2]"
    assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize(
    "drawn",
    [
        chart.dots([chart.Dot(label=HOSTILE, value=0.5, low=0.4, high=0.6, note=HOSTILE)], HOSTILE),
        chart.dots([chart.Dot(label="same", value=0, low=0, high=0)], "zero", percent=False),
        chart.spread([chart.Values(label=HOSTILE, values=[0.1, 5, 70])], HOSTILE),
        chart.spread([chart.Values(label="one", values=[0.3])], "one"),
        chart.lines(
            [chart.Line(label=HOSTILE, points=[(1, 2), (2, 1)])], "t", x=HOSTILE, y=HOSTILE
        ),
        chart.lines([chart.Line(label="flat", points=[(1, 0.0)])], "t", x="x", y="y"),
        chart.lines(
            [chart.Line(label="b", points=[(1, 0.2), (3, 0.4)], band=[(0.1, 0.3), (0.3, 0.5)])],
            "t",
            x="x",
            y="y",
            percent=True,
        ),
    ],
)
def test_a_chart_is_well_formed_and_holds_no_script_or_style(drawn: str) -> None:
    root = ET.fromstring(drawn)
    assert {"script", "style"}.isdisjoint(node.tag for node in root.iter())
    assert not any("style" in node.attrib for node in root.iter())
    assert "nan" not in drawn
    assert root.find("title") is not None


def test_nothing_to_draw_is_no_chart() -> None:
    assert chart.spread([chart.Values(label="none", values=[])], "t") == ""
    assert chart.lines([chart.Line(label="none", points=[])], "t", x="x", y="y") == ""


def test_figures_read_as_people_write_them() -> None:
    assert page.points(-0.0213) == "−2.1"
    assert page.points(0.00001) == "0.0"
    assert page.duration(372.4) == "6 min 12 s"
    assert page.amount(None) == "–"
    assert page.amount(0.00123) == "$0.0012"
