"""Inputs in; the planned files out, archives expanded to their members."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from beam_etl.model import SourceFile
from beam_etl.sources.archives import (
    MAGIC_BYTES,
    ArchiveError,
    compressed_archive,
    container_of,
    is_archive,
    list_members,
)
from beam_etl.sources.table_names import TableRule, base_name, table_name, table_of
from beam_etl.storage import FileStat, is_transient, local_path, place_of, storage_for

__all__ = ["TableRule", "discover", "table_name"]

# Opening a file costs a round trip on an object store, so many are opened at once.
_OPEN_THREADS = 16
_OWN_DIRECTORY = "_beam_etl"


def discover(inputs: Sequence[str], rules: Sequence[TableRule], table: str | None) -> list[SourceFile]:
    """The files to load, in the order of (uri, member), each once however many inputs name it.

    An input is a file, a directory (with everything below it but hidden files and beam_etl's own), or a glob; local or
    gs://. What a file is, its first bytes tell, not its name. An archive that cannot be opened stands for itself as one
    file without member; inspection rejects it.

    Args:
      rules: the first one that matches gives a file's table.
      table: of files that no rule matches; None: each by its name (table_names.table_name).

    Raises:
      ValueError: an input matches nothing.
    """
    by_place: dict[str, tuple[str, FileStat]] = {}
    for item in inputs:
        for uri, stat in _expand(item):
            by_place.setdefault(place_of(uri), (uri, stat))
    found = dict(by_place.values())
    with ThreadPoolExecutor(_OPEN_THREADS) as pool:
        contents = pool.map(_contents, found, found.values())
        named = sorted(
            (uri, member, container)
            for uri, (container, members) in zip(found, contents, strict=True)
            for member in members
        )
    return [
        SourceFile(
            file_id=file_id,
            uri=uri,
            member=member,
            table=table_of(uri, member, rules, table),
            size_bytes=found[uri].size_bytes,
            version=found[uri].version,
            container=container,
        )
        for file_id, (uri, member, container) in enumerate(named)
    ]


def _expand(item: str) -> list[tuple[str, FileStat]]:
    """The files that one input names."""
    storage = storage_for(item)
    # A name such as data[1].csv is a file first, a glob only if there is no such file.
    is_directory = item.endswith("/") or re.fullmatch(r"gs://[^/]+", item)
    stat = None if is_directory else storage.stat(item)
    if stat is not None:
        return [(item, stat)]
    if re.search(r"[*?\[]", item):
        files = storage.glob(item)
        looked_for = "no file matches it; check the path up to the first * and the pattern, and quote it in the shell"
    else:
        below = len(local_path(item).rstrip("/")) + 1
        listed = storage.list_files(item)
        files = [(uri, stat) for uri, stat in listed if not _is_hidden(uri[below:])]
        looked_for = (
            "the directory holds no files but hidden ones and beam_etl's own; is it the right one?"
            if listed
            else "there is no such file, and no directory with files in it; check the path, and whether it is mounted"
        )
    if not files:
        raise ValueError(f"input {item!r}: {looked_for}")
    return files


def _is_hidden(relative: str) -> bool:
    return any(part.startswith(".") or part == _OWN_DIRECTORY for part in relative.split("/"))


def _contents(uri: str, stat: FileStat) -> tuple[str, list[str]]:
    """A file's container and members; [""] is the file itself."""
    buffer = bytearray(min(MAGIC_BYTES, stat.size_bytes))
    name = base_name(uri)
    container = "none"
    try:
        storage_for(uri).read_range(uri, 0, memoryview(buffer))
        container = container_of(name, stat.size_bytes, bytes(buffer))
        file = SourceFile(0, uri, "", "", stat.size_bytes, stat.version, container)
        container = compressed_archive(file, name)
        if not is_archive(container):
            return container, [""]
        return container, list_members(dataclasses.replace(file, container=container)) or [""]
    except ArchiveError:
        return container, [""]
    except OSError as error:
        if is_transient(error):
            raise
        # No permission, or gone since it was listed: inspection finds the same and rejects the file for it.
        return "none", [""]
