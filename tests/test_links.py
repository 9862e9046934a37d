"""Every link in the docs leads somewhere, and their index knows every page."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.splitlines()
PAGES = [ROOT / name for name in TRACKED]


def written(page: Path) -> str:
    """The page without its code, in which brackets are no links and `#` begins no heading."""
    blocks = re.compile(r"^( *)(```+|~~~+).*?^\1\2", re.DOTALL | re.MULTILINE)
    return blocks.sub("", page.read_text())


def links(page: Path) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", written(page))
    return re.findall(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)", prose)


def anchors(page: Path) -> set[str]:
    """What GitHub makes of the page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", written(page), flags=re.MULTILINE):
        said = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchor = re.sub(r"[^\w\- ]", "", said).replace(" ", "-")
        again = sum(one == anchor or one.startswith(anchor + "-") for one in found)
        found.add(f"{anchor}-{again}" if anchor in found else anchor)
    return found


def near(page: Path) -> list[tuple[str, Path, str]]:
    """Links that stay in this repository: as written, the file, and the anchor."""
    found = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        found.append((link, (page.parent / name).resolve() if name else page, anchor))
    return found


@pytest.mark.parametrize("page", PAGES, ids=TRACKED)
def test_every_link_leads_to_a_file_and_every_anchor_to_a_heading(page: Path) -> None:
    for link, file, anchor in near(page):
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_every_page_stands_in_the_index() -> None:
    docs = ROOT / "docs"
    listed = {file for _, file, _ in near(docs / "README.md")}
    pages = {page for page in PAGES if page.is_relative_to(docs)} - {docs / "README.md"}
    assert not pages - listed
