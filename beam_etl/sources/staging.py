"""Plain copies of sources that the kernels cannot read as they are: made once, whoever asks, from the planned bytes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from collections.abc import Iterable
from typing import BinaryIO

from beam_etl.model import SourceFile
from beam_etl.sources.archives import DEFAULT_LIMITS, SourceReadError, UnpackLimits, plain_blocks
from beam_etl.sources.encoding import Encoding, first_high_byte, transcode
from beam_etl.storage import FileStat, join_path, place_of, storage_for


class SourceChangedError(Exception):
    """A source is not, or no longer, the planned version."""


@dataclasses.dataclass(frozen=True)
class StagedFile:
    """The plain copy of a source.

    Attributes:
      path: where it is.
      high_byte: offset of its first byte that is not ASCII, -1 without one.
    """

    path: str
    high_byte: int


def stage_plain(
    source: SourceFile, target_dir: str, limits: UnpackLimits = DEFAULT_LIMITS, rewrite: Encoding | None = None
) -> StagedFile:
    """Writes the plain bytes of a source below target_dir, once.

    Retry story: at least once; exactly once in effect. Every attempt writes a file of its own, then a record that names
    it; the first record wins, and whoever comes second deletes its own file and returns the first one's. A staged file
    is never replaced, because its version is checked whenever it is read.

    Args:
      target_dir: belongs to one plan, so that a file_id there always means the same bytes.
      rewrite: the encoding to rewrite as UTF-8, None to keep the bytes.

    Raises:
      ArchiveError, SourceReadError: as plain_blocks.
      SourceChangedError: the source changed while it was read.
    """
    storage = storage_for(target_dir)
    record_path = join_path(target_dir, f"{source.file_id:06d}.json")
    while (winner := _read_record(record_path)) is None:
        attempt = join_path(target_dir, f"{source.file_id:06d}-{uuid.uuid4().hex[:8]}.plain")
        blocks = plain_blocks(source, limits)
        with storage.open_new(attempt) as file:
            high_byte = _write_blocks(transcode(blocks, rewrite) if rewrite else blocks, file)
            check_version(source)
        staged = StagedFile(attempt, high_byte)
        if storage.create_if_absent(record_path, json.dumps(dataclasses.asdict(staged)).encode()):
            return staged
        storage.delete_files([attempt])
    return winner


def unpacked_archive(source: SourceFile, target_dir: str, limits: UnpackLimits = DEFAULT_LIMITS) -> SourceFile:
    """The source, a member of a compressed tar archive, as a member of a plain copy of the archive.

    Its members come from one pass through the archive instead of one each; workers that begin with the same archive at
    the same moment each unpack it, and one copy is kept. Any other source is itself.

    Raises: as stage_plain.
    """
    if not source.container.startswith("tar."):
        return source
    packing = source.container.removeprefix("tar.")
    archive = dataclasses.replace(source, file_id=0, member="", container=packing)
    place = hashlib.sha256(place_of(source.uri).encode(errors="surrogateescape")).hexdigest()[:16]
    staged = stage_plain(archive, join_path(target_dir, "archives", place), limits)
    stat = storage_for(staged.path).stat(staged.path)
    if stat is None:
        raise FileNotFoundError(f"{staged.path} was deleted while the load was running")
    return dataclasses.replace(
        source, uri=staged.path, container="tar", size_bytes=stat.size_bytes, version=stat.version
    )


def check_version(source: SourceFile) -> FileStat:
    """The source's present state.

    Raises:
      SourceChangedError: it is not the planned version.
      SourceReadError: it is gone, or cannot be looked at.
    """
    try:
        stat = storage_for(source.uri).stat(source.uri)
    except OSError as error:
        raise SourceReadError(error.errno, error.strerror or str(error)) from error
    if stat is None:
        raise SourceReadError(None, "the file is gone")
    if (stat.size_bytes, stat.version) != (source.size_bytes, source.version):
        raise SourceChangedError(f"was version {source.version} when the load was planned, is {stat.version}")
    return stat


def _read_record(record_path: str) -> StagedFile | None:
    storage = storage_for(record_path)
    try:
        staged = StagedFile(**json.loads(storage.read_bytes(record_path)))
    except FileNotFoundError:
        return None
    if storage.stat(staged.path) is not None:
        return staged
    storage.delete_files([record_path])
    return None


def _write_blocks(blocks: Iterable[bytes], file: BinaryIO) -> int:
    """Writes blocks; returns the offset of the first high byte among them, -1 without one."""
    written_bytes, high_byte = 0, -1
    for block in blocks:
        if high_byte < 0 and (found := first_high_byte(block)) >= 0:
            high_byte = written_bytes + found
        file.write(block)
        written_bytes += len(block)
    return high_byte
