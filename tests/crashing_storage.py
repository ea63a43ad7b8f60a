"""A storage that dies at a chosen step, to prove that the next attempt completes what was begun."""

from typing import Any

from beam_etl.storage import Storage


class Crash(BaseException):
    """Not an Exception: nothing may handle it, as nothing handles a kill."""


class CrashingStorage:
    """Does what its inner storage does, and dies before or after one of the calls that change something."""

    CHANGES = ("create_if_absent", "write_atomic", "open_new", "move_files", "delete_files", "delete_tree")

    def __init__(self, inner: Storage, at: int, after: bool) -> None:
        self.inner, self.at, self.after, self.calls = inner, at, after, 0

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.inner, name)
        return self._counted(call) if name in self.CHANGES else call

    def _counted(self, call: Any) -> Any:
        def run(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self.at and not self.after:
                raise Crash
            result = call(*arguments)
            if self.calls == self.at:
                raise Crash
            return result

        return run
