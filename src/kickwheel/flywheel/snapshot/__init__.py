"""Report → Snapshot: all that serving needs but the base, packed and never changed.

pack  the folder of a snapshot
sbom  what it is made of, in CycloneDX
"""

from kickwheel.flywheel.snapshot.pack import contents, pack

__all__ = ["contents", "pack"]
