"""A watch over one download: a connection on which nothing comes to its end is shut, whatever it is waiting for.

A timeout of a socket is one of each read: a server that sends a byte of its headers now and then, or of a handshake,
or of the length of a chunk, never meets it.
"""

from __future__ import annotations

import io
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import requests
import urllib3
from requests.adapters import HTTPAdapter


class Watch:
    """Shuts the connections of the session that it makes, once `seconds` have passed since the last word of life.

    late  whether it had to
    """

    def __init__(self, seconds: float) -> None:
        self.late = False
        self._seconds, self._since = seconds, time.monotonic()
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        for own in self._sockets:
            own.close()

    def alive(self) -> None:
        """Something has come to its end: an answer's headers, a block of its body."""
        self._since = time.monotonic()

    def session(self) -> requests.Session:
        """Requests over connections that are watched. The body of a redirect is not read, however long it is."""
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Adapter(self))
        session.hooks["response"].append(_without_redirects_body)
        return session

    def add(self, connection: socket.socket) -> None:
        # A copy: wrapping it for TLS takes the descriptor away from the first one.
        self._sockets.append(connection.dup())

    def _wait(self) -> None:
        while not self._over.wait(max(0.0, self._since + self._seconds - time.monotonic())):
            if time.monotonic() - self._since >= self._seconds:
                self.late = True
                for connection in list(self._sockets):
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                self.alive()  # until whoever waited has noticed, or has opened the next one


class _Adapter(HTTPAdapter):
    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__()

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._watch)

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = _pools(self._watch)
        return manager


def _pools(watch: Watch) -> dict[str, type]:
    """urllib3's pools, whose connections tell the watch about their sockets."""

    class Plain(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            watch.add(opened)
            return opened

    class Encrypted(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            opened = super()._new_conn()
            watch.add(opened)
            return opened

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = Plain

    class EncryptedPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = Encrypted

    return {"http": PlainPool, "https": EncryptedPool}


def _without_redirects_body(response: requests.Response, *args: object, **options: object) -> None:
    """requests would take all of it into memory."""
    if response.is_redirect:
        response.close()
        response.raw = io.BytesIO()
