"""The default base, really tuned a little, and asked through llama.cpp."""

from pathlib import Path

import pytest

from kickwheel.flywheel.tune import Options
from kickwheel.flywheel.tuned import tuned
from kickwheel.models import catalog
from kickwheel.records import Adapter, Dataset, wire

pytestmark = pytest.mark.slow(minutes=1)


def test_the_default_base_tuned_a_little_answers_the_same_in_the_engine(
    events: Dataset, tmp_path: Path
) -> None:
    base = catalog.pull("smollm2-135m", lambda done, total, note: None)
    files = tuned(
        events,
        "events",
        base,
        tmp_path,
        Options(minutes=None, epochs=3, prompt="none", keep_system=False, evaluations=1),
        on_step=lambda now: None,
        on_check=lambda: None,
    )
    adapter = wire.from_bytes(files["adapter.json"], Adapter)
    assert adapter.curve[-1].validation_loss is not None
    assert adapter.curve[-1].validation_loss < 0.5
    assert adapter.export_check["unquantised"]["equal"] >= 0.95
    assert adapter.export_check["served"]["losses"] <= 1
