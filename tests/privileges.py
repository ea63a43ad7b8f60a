"""Files that the process may not read, also where the tests run as root."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

_NOBODY = 65534


@contextlib.contextmanager
def forbidden_file(name: str, data: bytes) -> Iterator[str]:
    """A file in a directory that everybody may list, which nobody but root may read."""
    directory = tempfile.mkdtemp(prefix="beam_etl_forbidden_")
    try:
        os.chmod(directory, 0o755)
        path = os.path.join(directory, name)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0)
        yield path
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Acts as an ordinary user within the block."""
    user = os.geteuid()
    os.seteuid(_NOBODY if user == 0 else user)
    try:
        yield
    finally:
        os.seteuid(user)
