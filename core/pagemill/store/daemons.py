"""Work on threads that never hold up the end of the process. Owns no state."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def begin(work: Callable[[], Result], name: str) -> "Future[Result]":
    """Its result, on a thread of that name."""
    future: Future[Result] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()  # from here on, a cancelled wait can't cancel the future itself
        try:
            result = work()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], num_threads: int) -> list[Result]:
    """The same work on several things at once: the results, in the items' order. What a work raises is raised here, the
    first of them if there are several.
    """
    waiting: SimpleQueue[int] = SimpleQueue()
    for index in range(len(items)):
        waiting.put(index)
    results: dict[int, Result] = {}
    failures: list[Exception] = []

    def run() -> None:
        while not failures:
            try:
                index = waiting.get_nowait()
            except Empty:
                return
            try:
                results[index] = work(items[index])
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(num_threads, len(items)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(items))]
