"""A TCP proxy that cuts connections after a number of bytes, or stops bringing any."""

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Self

READ_BYTES = 2**16


class CuttingProxy:
    """Each connection is cut after as many bytes of its answer as `cuts` says next; when those are used up, none is.
    `stall_after`: when so many bytes of answers came in all, no more come, and connections stay open.
    """

    def __init__(
        self,
        target: tuple[str, int],
        cuts: Iterable[int] = (),
        *,
        stall_after: int | None = None,
        on_cut: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = target
        self._cuts = deque(cuts)
        self._stall_after = stall_after
        self._on_cut = on_cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.num_bytes = 0  # of answers
        self.stalled = threading.Event()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def num_cuts_left(self) -> int:
        return len(self._cuts)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for opened in self._sockets:
            _close(opened)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                server = socket.create_connection(self._target)
                self._sockets.append(server)
            except OSError:
                return
            with self._lock:
                left = self._cuts.popleft() if self._cuts else None
            threading.Thread(target=self._bring_request, args=(client, server), daemon=True).start()
            threading.Thread(target=self._bring_answer, args=(server, client, left), daemon=True).start()

    def _bring_request(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(READ_BYTES):
                server.sendall(data)

    def _bring_answer(self, server: socket.socket, client: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while left != 0 and (data := server.recv(READ_BYTES if left is None else min(READ_BYTES, left))):
                with self._lock:
                    self.num_bytes += len(data)
                    if self._stall_after is not None and self.num_bytes > self._stall_after:
                        self.stalled.set()
                        return
                client.sendall(data)
                left = None if left is None else left - len(data)
        if left == 0:
            self._on_cut()
        _close(client)
        _close(server)


def _close(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
    opened.close()
