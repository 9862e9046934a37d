"""What docs/nim.md shows is so."""

import json
import re
from pathlib import Path

import pytest

from kickwheel.app import check_app
from kickwheel.serve.customization import CustomizationBody

PAGE = (Path(__file__).parents[2] / "docs" / "nim.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_app_is_valid(tmp_path: Path) -> None:
    (tmp_path / "app.yml").write_text(blocks("yaml")[0], encoding="utf-8")
    assert check_app(tmp_path).parts


@pytest.mark.parametrize("asked", blocks("json"))
def test_each_shape_on_the_page_is_the_same_job(asked: str) -> None:
    job = CustomizationBody.model_validate(json.loads(asked)).job("file-1")
    chosen = job.chosen()
    assert (job.model, job.suffix) == ("smollm2-135m", "mine")
    assert chosen.lora is not None
    assert chosen.lora.adapter_dim == 16
