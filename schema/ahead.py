"""One thread ahead: make the next items of a sequence while the caller works on the last."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T]:
    """The same items, made in a thread; numpy, Arrow and the drivers work without Python's lock.

    Parameters
    ----------
    items : iterator
        Runs in the thread alone. What it raises is raised here.
    depth : int
        Items kept ready, besides the one being made.
    """
    queue: Queue[Any] = Queue(maxsize=depth)
    stop = threading.Event()
    end = object()

    def put(item: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(Full):
                queue.put(item, timeout=0.2)
                return

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stop.is_set():
                    return
            put((end, None))
        except BaseException as exc:
            put((end, exc))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, failure = queue.get()
            if failure is not None:
                raise failure
            if item is end:
                return
            yield item
    finally:
        stop.set()
        thread.join()
