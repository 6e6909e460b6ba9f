"""Messages between driver and worker: numbered, bounded in time, and nothing else is taken."""

import os
import socket
import threading
import time

import numpy as np
import pytest

from sbitools.campaign.channel import Broken, Channel
from sbitools.campaign.runner import _Died, _Hung, _Process


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def process(end):
    """The driver's side of a worker, without the worker."""
    made = _Process.__new__(_Process)
    made._channel, made._number, made._gone = Channel(end), 0, threading.Event()
    return made


def later(action):
    thread = threading.Thread(target=action)
    thread.start()
    return thread


def test_messages_come_whole_and_numbered(ends):
    big = {"x": np.arange(2_000_000.0)}  # more than the system buffers
    thread = later(lambda: Channel(ends[1]).send(7, big))
    number, got = Channel(ends[0]).receive()
    thread.join()
    assert number == 7
    assert np.array_equal(got["x"], big["x"])


@pytest.mark.parametrize("number", [0, 2])
def test_the_answer_to_another_question_is_refused(ends, number):
    Channel(ends[1]).send(number, ("written", [1, 0, 0]))
    with pytest.raises(_Died, match="another question"):
        process(ends[0]).ask("task", 5.0)


def test_an_answer_to_this_question_is_taken(ends):
    Channel(ends[1]).send(1, ("ready",))
    assert process(ends[0]).ask("task", 5.0) == ("ready",)


@pytest.mark.parametrize(
    "junk",
    [b"print(1)\n" * 10, b"sbitools" + b"\xff" * 16, b"sbitools" + bytes(8) + b"\4" + bytes(11)],
    ids=["text", "impossible size", "no message"],
)
def test_junk_is_no_answer(ends, junk, monkeypatch):
    monkeypatch.setattr("sbitools.campaign.runner._EXIT_SECONDS", 0.01)
    ends[1].sendall(junk)
    with pytest.raises(_Died, match="the worker process gave"):
        process(ends[0]).ask("task", 5.0)


@pytest.mark.parametrize("part", [b"", b"sbito", b"sbitools" + bytes(8) + b"\xff" + bytes(9)])
def test_waits_end_within_a_message_too(ends, part):
    ends[1].sendall(part)
    begin = time.monotonic()
    with pytest.raises(_Hung):
        process(ends[0]).ask("task", 0.2)
    assert time.monotonic() - begin < 5.0  # far above 0.2 s, and far below for ever


def test_a_reader_that_stops_reading_is_not_waited_for(ends):
    with pytest.raises(_Hung):
        process(ends[0]).ask(bytes(10_000_000), 0.2)


def test_an_end_that_another_file_replaced_is_not_written_to(ends, tmp_path):
    channel = Channel(ends[0])
    file = os.open(tmp_path / "own", os.O_RDWR | os.O_CREAT)
    os.dup2(file, ends[0].fileno())
    for act in (channel.check, lambda: channel.send(1, "answer"), channel.receive):
        with pytest.raises(Broken, match="another file"):
            act()
    os.close(file)
    assert (tmp_path / "own").read_bytes() == b""


def test_what_arrived_before_the_end_is_read(ends):
    channel = Channel(ends[0])
    Channel(ends[1]).send(1, "answer")
    channel.shutdown()
    channel.shutdown()
    assert channel.receive() == (1, "answer")
    with pytest.raises(Broken, match="end of the connection"):
        channel.receive()
