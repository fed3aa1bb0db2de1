"""The one way to move bytes between hosts: a blob is announced by its digest, and pulled from a `BlobServer`.

The two sides prove to each other that they hold the installation's key; the bytes are checked by their digest.
"""

from inril_core.blobs.protocol import (
    MAX_BLOB_BYTES,
    Blob,
    BlobCorrupt,
    BlobLost,
    BlobRefused,
    ClockOffset,
    ClocksDiffer,
)
from inril_core.blobs.pull import pull_blob
from inril_core.blobs.server import BlobServer

__all__ = [
    "MAX_BLOB_BYTES",
    "Blob",
    "BlobCorrupt",
    "BlobLost",
    "BlobRefused",
    "BlobServer",
    "ClockOffset",
    "ClocksDiffer",
    "pull_blob",
]
