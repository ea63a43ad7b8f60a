"""Archives and compressed files with every fault, made from scratch."""

import bz2
import functools
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from pathlib import Path

import zstandard

from beam_etl.model import SourceFile
from beam_etl.storage import storage_for

PACK = {
    "gzip": functools.partial(gzip.compress, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}


def zip_of(members, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip archive of (name, data) pairs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return buffer.getvalue()


def tar_of(members, form=tarfile.PAX_FORMAT):
    """Bytes of a tar archive of (name, data) pairs; data of type bytes is a file, else it is the type of the entry."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            else:
                info.type, info.linkname = data.encode(), "a.csv"
                archive.addfile(info)
    return buffer.getvalue()


def tar_with_size(packed, member, size_field):
    """An archive with the size of one member overwritten, and the checksum of its header made good."""
    packed = bytearray(packed)
    start = packed.index(member) // 512 * 512
    packed[start + 124 : start + 136] = size_field
    packed[start + 148 : start + 156] = b" " * 8
    packed[start + 148 : start + 156] = b"%06o\0 " % sum(packed[start : start + 512])
    return bytes(packed)


def _patched(data, local_offset, central_offset, layout, value):
    """A one-member archive with one header value overwritten, in the member's own header and in the directory."""
    data = bytearray(data)
    struct.pack_into(layout, data, local_offset, value)
    struct.pack_into(layout, data, data.index(b"PK\x01\x02") + central_offset, value)
    return bytes(data)


def encrypted_zip(data):
    return _patched(zip_of([("a.csv", data)]), 6, 8, "<H", 1)


def zip_with_method(data, method):
    return _patched(zip_of([("a.csv", data)]), 8, 10, "<H", method)


def zip_with_wrong_crc(data):
    return _patched(zip_of([("a.csv", data)]), 14, 16, "<I", 0xDEADBEEF)


def zip_with_size(data, size):
    return _patched(zip_of([("a.csv", data)]), 22, 24, "<I", size)


def source_file(path: Path | str, container="none", member="", file_id=0, table="t") -> SourceFile:
    stat = storage_for(str(path)).stat(str(path))
    return SourceFile(file_id, str(path), member, table, stat.size_bytes, stat.version, container)
