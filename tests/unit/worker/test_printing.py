"""What handlers print and log is marked, line by line, with what it is about."""

from __future__ import annotations

import asyncio
import fcntl
import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import closing, redirect_stdout

import pytest

from tsd.ipc.lines import Line, unpack_line
from tsd.worker import printing
from tsd.worker.printing import MAX_PENDING_CHARACTERS, MarkedStream, RecordHandler


class Pipe:
    """What a worker's stream writes to, and what the daemon reads there."""

    def __init__(self) -> None:
        self._read_end, self.write_end = os.pipe2(os.O_NONBLOCK)
        fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, 1 << 20)
        self.stream = MarkedStream(self.write_end)

    def close(self) -> None:
        self.stream.close()
        os.close(self._read_end)
        os.close(self.write_end)

    def read(self) -> list[Line]:
        try:
            whole = os.read(self._read_end, 1 << 20)
        except BlockingIOError:
            return []
        assert whole.endswith(b"\n"), "only whole lines leave"
        return [unpack_line(line) for line in whole[:-1].split(b"\n")]

    def texts(self) -> list[str]:
        return [line.text for line in self.read()]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as made:
        yield made


def test_a_line_leaves_when_it_is_whole(pipe: Pipe) -> None:
    print("a", 1, sep="-", end="", file=pipe.stream, flush=True)
    assert pipe.read() == []
    print("b\n\nc", file=pipe.stream)
    assert pipe.texts() == ["a-1b", "", "c"]
    pipe.stream.writelines(["d\n", "e\n"])
    assert pipe.texts() == ["d", "e"]
    assert pipe.stream.write("four") == 4
    pipe.stream.finish()
    pipe.stream.finish()
    assert pipe.texts() == ["four"]


def test_a_batch_is_known_to_all_threads(pipe: Pipe) -> None:
    printing.about_batch(lambda: ["r-1", "r-2"])
    print("here", file=pipe.stream)
    other = threading.Thread(target=print, args=("there",), kwargs={"file": pipe.stream})
    other.start()
    other.join()
    printing.about_batch(tuple)
    print("after", file=pipe.stream)
    ids = [line.request_ids for line in pipe.read()]
    assert ids == ["r-1,r-2", "r-1,r-2", ""]


def test_calls_that_overlap_know_each_their_own_request(pipe: Pipe) -> None:
    async def call(request_id: str, turn: asyncio.Event, next_turn: asyncio.Event) -> None:
        printing.about_call(request_id)
        await turn.wait()
        print(request_id, file=pipe.stream)
        next_turn.set()
        await asyncio.to_thread(print, request_id, file=pipe.stream)

    async def both() -> None:
        first, second, third = asyncio.Event(), asyncio.Event(), asyncio.Event()
        second.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(call("r-1", first, third))
            group.create_task(call("r-2", second, first))

    asyncio.run(both())
    said = pipe.read()
    assert len(said) == 4
    assert all(line.text == line.request_ids for line in said)


def test_threads_do_not_mix_their_lines(pipe: Pipe) -> None:
    pipe.stream.write("begun ")
    other = threading.Thread(target=pipe.stream.write, args=("whole\n",))
    other.start()
    other.join()
    pipe.stream.write_record("logged", "info", "l")
    pipe.stream.write("ended\n")
    assert pipe.texts() == ["whole", "logged", "begun ended"]


def test_a_line_without_an_end_costs_no_memory(pipe: Pipe) -> None:
    for _ in range(1000):
        pipe.stream.write("x" * 1000)
    pipe.stream.write("\n")
    (text,) = pipe.texts()
    assert text == "x" * MAX_PENDING_CHARACTERS


def raised() -> BaseException:
    try:
        raise ValueError("of the handler")
    except ValueError as error:
        return error


def test_a_printed_traceback_is_one_record(pipe: Pipe) -> None:
    print("before", file=pipe.stream)
    traceback.print_exception(raised(), file=pipe.stream)
    print("after", file=pipe.stream)
    before, of_error, after = pipe.texts()
    assert (before, after) == ("before", "after")
    assert of_error.startswith("Traceback (most recent call last):\n  File ")
    assert of_error.endswith("\nValueError: of the handler")


def test_a_traceback_that_does_not_end_leaves_at_the_end(pipe: Pipe) -> None:
    pipe.stream.write("Traceback (most recent call last):\n  File\n")
    assert pipe.read() == []
    pipe.stream.finish()
    assert pipe.texts() == ["Traceback (most recent call last):\n  File"]


def test_bytes_and_descriptors_work_as_ever(pipe: Pipe) -> None:
    pipe.stream.buffer.write(b"bytes\n")
    pipe.stream.flush()
    os.write(pipe.stream.fileno(), b"raw\n")
    assert pipe.read() == [Line("bytes"), Line("raw")]
    assert pipe.stream.fileno() == pipe.write_end
    assert not pipe.stream.isatty()
    assert pipe.stream.encoding == "utf-8"
    pipe.stream.write("\ud800 \u00fc\n")
    assert pipe.texts() == ["\\ud800 \u00fc"]
    with pytest.raises(TypeError):
        pipe.stream.write(b"")  # type: ignore[arg-type]  # as a handler may by mistake


@pytest.fixture
def logger(pipe: Pipe) -> Iterator[logging.Logger]:
    made = logging.getLogger("tests.handler")
    handler = RecordHandler(pipe.stream, 5_000)
    made.addHandler(handler)
    made.propagate = False
    made.setLevel(1)
    yield made
    made.removeHandler(handler)


def test_records_keep_their_level_and_their_logger(pipe: Pipe, logger: logging.Logger) -> None:
    for number in (5, 10, 20, 25, 30, 40, 50, 90):
        logger.log(number, "at %d", number)
    said = pipe.read()
    assert [line.level for line in said] == [
        *("debug", "debug", "info", "info", "warning", "error", "critical", "critical"),
    ]
    assert {line.logger for line in said} == {"tests.handler"}
    assert said[0].text == "at 5"


def test_a_logged_traceback_is_one_record_and_keeps_both_ends(
    pipe: Pipe, logger: logging.Logger
) -> None:
    logger.error("it broke", exc_info=raised())
    logger.error("%s\nlast words", "x" * 10_000)
    first, second = pipe.read()
    assert first.text.startswith("it broke\nTraceback ")
    assert second.text.startswith("xxx")
    assert second.text.endswith("x\nlast words")
    assert len(second.text) <= 5_000


def test_a_record_that_cannot_be_made_costs_itself_only(
    pipe: Pipe, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = RecordHandler(pipe.stream, 200)
    of_library = {"name": "l", "levelno": logging.INFO}
    handler.handle(logging.makeLogRecord(of_library | {"msg": "%d", "args": ("no number",)}))
    handler.handle(logging.makeLogRecord(of_library | {"msg": "next"}))
    assert pipe.texts() == ["next"]
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_last_words_are_written_wherever_the_streams_are(pipe: Pipe) -> None:
    pipe.stream.write("begun")
    stderr, sys.stderr = sys.stderr, pipe.stream
    try:
        with redirect_stdout(io.StringIO()):
            printing.finish()
    finally:
        sys.stderr = stderr
    assert pipe.texts() == ["begun"]
