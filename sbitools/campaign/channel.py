"""Numbered messages between the driver of a campaign and one of its worker processes.

An answer carries the number of its question, so that an answer to another one is noticed. Waits
have an end, in the middle of a message too, and what is no message is an error.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from typing import Any

import cloudpickle

__all__ = ["Broken", "Channel"]

_HEADER = struct.Struct("<8sQQ")  # mark, number of the question, bytes that follow
_MARK = b"sbitools"
_LONGEST_WAIT = 3600.0  # of one call of the system, which has a limit of its own


class Broken(Exception):
    """The other end is gone, or sent what is no message."""


class Channel:
    """One end of a pair of sockets.

    Args:
        end: the socket; it is closed with the channel.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end, self._file = end, _identity(end)

    def send(self, number: int, message: Any, until: float | None = None) -> None:
        """Send a message.

        Args:
            number: of the question it asks or answers.
            message: anything that can be pickled.
            until: when to give up, as `time.monotonic` counts; None to wait for ever.

        Raises:
            Broken: if the other end is gone.
            TimeoutError: at `until`.
        """
        data = memoryview(cloudpickle.dumps(message))
        for view in (memoryview(_HEADER.pack(_MARK, number, len(data))), data):
            while view:
                view = view[self._when_ready(lambda v=view: self._end.send(v), until) :]

    def receive(self, until: float | None = None) -> tuple[int, Any]:
        """Number and content of the next message; arguments and errors as for `send`."""
        mark, number, size = _HEADER.unpack(self._read(_HEADER.size, until))
        if mark != _MARK:
            raise Broken("something else than an answer")
        data = self._read(size, until)
        try:
            return number, cloudpickle.loads(data)
        except Exception as error:
            raise Broken("an answer that cannot be read") from error

    def _read(self, size: int, until: float | None) -> bytearray:
        try:
            data = bytearray(size)
        except (MemoryError, OverflowError) as error:
            raise Broken("an answer of impossible size") from error
        view = memoryview(data)
        while view:
            got = self._when_ready(lambda v=view: self._end.recv_into(v), until)
            if not got:
                raise Broken("the end of the connection")
            view = view[got:]
        return data

    def _when_ready(self, call: Any, until: float | None) -> int:
        while True:
            left = _LONGEST_WAIT if until is None else until - time.monotonic()
            self.check()
            try:
                self._end.settimeout(min(max(left, 1e-3), _LONGEST_WAIT))
                return call()
            except TimeoutError:
                if until is not None and time.monotonic() >= until:
                    raise
            except OSError as error:
                raise Broken(error.strerror or str(error)) from error

    def check(self) -> None:
        """Raise `Broken` if this end was closed, and perhaps another file has its number."""
        try:
            if _identity(self._end) == self._file:
                return
        except OSError as error:
            raise Broken(error.strerror or str(error)) from error
        raise Broken("another file in place of the connection")

    def shutdown(self) -> None:
        """Wake whoever waits at this end; what has arrived can still be received."""
        try:
            self._end.shutdown(socket.SHUT_RDWR)
        except OSError:  # the other end did it
            return

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def _identity(end: socket.socket) -> tuple[int, int]:
    status = os.fstat(end.fileno())
    return status.st_dev, status.st_ino
