"""How many transactions may run at once: fewer while the server lacks something, more again when it has recovered."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

# After so many good transactions in a row, one more may run at once.
GOOD_BEFORE_WIDER = 8


class Slots:
    """Up to `most` slots for any number of threads: halved by each shortage, widened one by one by success.

    The rule of additive increase and multiplicative decrease (Chiu and Jain, 1989).
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._allowed = most
        self._taken = 0
        self._good = 0
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """How many may be taken now, at least one."""
        return self._allowed

    @contextlib.contextmanager
    def take(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._taken < self._allowed)
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()

    def narrow(self) -> None:
        """After a shortage."""
        with self._changed:
            self._allowed = max(1, self._allowed // 2)
            self._good = 0

    def widen(self) -> None:
        """After a good transaction."""
        with self._changed:
            self._good += 1
            if self._good >= GOOD_BEFORE_WIDER and self._allowed < self.most:
                self._allowed, self._good = self._allowed + 1, 0
                self._changed.notify_all()
