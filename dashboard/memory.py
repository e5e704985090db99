"""Objects of one session, loaded together before they are shown; the oldest are forgotten."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from dashboard import store
from dashboard.objects import ReviewObject, load_objects

AHEAD = 24
"""Objects loaded in one go."""
KEEP_OBJECTS = 160


class ObjectMemory:
    """Objects of a database, from memory where they are."""

    def __init__(self, db: str | None) -> None:
        self.db = db
        self.loading: threading.Thread | None = None
        self._objects: OrderedDict[int, ReviewObject] = OrderedDict()
        self._lock = threading.Lock()

    def held(self, target_ids: Sequence[int]) -> dict[int, ReviewObject]:
        """Those that are in memory."""
        with self._lock:
            return {t: self._objects[t] for t in target_ids if t in self._objects}

    def objects(self, target_ids: Sequence[int]) -> dict[int, ReviewObject]:
        """Those that there are; what is not in memory is loaded."""
        have = self.held(target_ids)
        missing = [t for t in target_ids if t not in have]
        return have | self._load(missing) if missing else have

    def _load(self, target_ids: list[int]) -> dict[int, ReviewObject]:
        found = store.reading(self.db, lambda conn: load_objects(conn, target_ids))
        with self._lock:
            self._objects |= found
            while len(self._objects) > KEEP_OBJECTS:
                self._objects.popitem(last=False)
        return found

    @property
    def is_loading(self) -> bool:
        """Whether something is loaded in the background just now."""
        return self.loading is not None and self.loading.is_alive()

    def load_ahead(self, target_ids: Sequence[int], first: Callable[[], None] | None = None) -> None:
        """Load these in the background when little of them is in memory, or after what has to come first."""
        have = self.held(target_ids)
        missing = [t for t in target_ids if t not in have]
        if first is None and len(missing) <= AHEAD // 2:
            return
        self.loading = threading.Thread(target=self._load_quietly, args=(missing, first), daemon=True)
        self.loading.start()

    def _load_quietly(self, target_ids: list[int], first: Callable[[], None] | None) -> None:
        try:
            if first is not None:
                first()
            self._load(target_ids)
        except Exception:
            return  # the page will load it itself, and say what is wrong
