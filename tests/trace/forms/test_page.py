"""What docs/traffic.md shows is so."""

import re
import shutil
from pathlib import Path

from click.testing import CliRunner

from kickwheel.cli import group
from kickwheel.trace.chatlog import FORMS
from tests.trace.forms.test_forms import GOLDEN

PAGE = (Path(__file__).parents[3] / "docs" / "traffic.md").read_text("utf-8")
APP = "models:\n  far: {kind: openai, model: m, api_key: none}\n"


def test_the_page_names_every_form() -> None:
    named = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(form.name for form in FORMS)


def test_the_commands_that_the_page_shows_land_an_export_and_then_its_scores(
    tmp_path: Path,
) -> None:
    (tmp_path / "app.yml").write_text(APP)
    files = re.findall(r"^kickwheel import (\S+)", PAGE, re.MULTILINE)[:2]
    assert files == ["observations.jsonl", "scores.jsonl"]
    said = []
    for name in files:
        shutil.copy(GOLDEN / f"langfuse-{name}", tmp_path / name)
        done = CliRunner().invoke(group, ["import", str(tmp_path), str(tmp_path / name)])
        assert done.exit_code == 0, done.output
        said.append(done.output)
    assert "2 new traces" in said[0]
    assert "new remarks on traces known before" in said[1]
