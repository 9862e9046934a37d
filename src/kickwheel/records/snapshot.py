"""The moment to deploy: content-addressed, immutable."""

from dataclasses import dataclass

from kickwheel.records.adapter import PromptForm


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The folder beside this record holds all that serving needs but the base itself.

    `app/` the application, `adapter/` the weights, `report/` the proof, `sbom.cdx.json` what it is
    made of, `manifest.json` the SHA-256 of every file.
    """

    ref: str
    """The ref that it was made for, `concierge/specialist`."""
    model: str
    """The name in the app file that the adapter answers under."""
    base: str
    base_sha256: str
    adapter: str
    """Id of the adapter."""
    form: PromptForm
    report: str
    """Id of the report."""
    version: int = 1
