"""Where checkpoints are kept, from one setting: a directory, or the url of an object store."""

from __future__ import annotations

from pathlib import Path

from checkpoint.errors import StoreFailed
from checkpoint.store import DirectoryStore, Store


def store_at(place: str) -> Store:
    """The store at a path, a `file://` url, or `s3://bucket/prefix` and its like.

    Keys, region and endpoint come from the usual variables: `AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT_URL`.
    """
    scheme, found, rest = place.partition("://")
    if not found:
        return DirectoryStore(Path(place))
    if scheme == "file":
        return DirectoryStore(Path(rest))
    try:
        # obstore is an extra, and starts threads: only who keeps checkpoints in an object store loads it
        from checkpoint.objects import ObjectStore  # noqa: PLC0415
    except ImportError as problem:
        raise StoreFailed(f"{place} needs the package obstore: pip install triggerapp[s3]") from problem
    return ObjectStore.at(place)
