"""Image intake: a stranger's bytes in, a safe photo or a reason out; decoding happens in processes that may die.

This side never looks inside a file. It counts bytes, hands the file to a `decode_worker`, holds the clock, and replaces
workers that were killed by a limit, crashed, or have served long enough.
"""

import contextlib
import hashlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from types import TracebackType
from typing import IO, Self

import numpy as np

from sameitem.core.decode_worker import FRAME, PHOTO, Limits
from sameitem.core.errors import ConflictError, ImageError, TooLargeError, UnavailableError
from sameitem.core.records import ContentHash, Photo
from sameitem.core.settings import IntakeSettings

START_DEADLINE_S = 30.0  # importing Pillow on a busy machine; a photo's own deadline starts after it
TURN_DEADLINE_S = 30.0  # waiting for a free worker
PHOTOS_PER_WORKER = 2_000  # then the process is replaced, so that nothing can pile up in it
MAX_ANSWER_BYTES = 256 << 20  # more than any stored copy and thumbnail; a worker that claims more is broken


class ImageIntake:
    """Decodes photos in worker processes; safe to share between threads. A context manager.

    Workers start when they are first needed. More calls at once than workers wait for their turn.
    """

    def __init__(self, settings: IntakeSettings) -> None:
        self._settings = settings
        self._closed = False
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # a place without a worker yet is None
        for _ in range(settings.workers):
            self._idle.put(None)

    def take(self, data: bytes) -> Photo:
        """Return the photo in a file of any accepted format: upright, sRGB, without metadata, re-encoded.

        Raises:
            ImageError: the file is no picture that is accepted, or damaged; the message says why.
            TooLargeError: more bytes, pixels, scans, time or memory than accepted; the message says which.
            UnavailableError: no decoding process could be started, or all were busy for long.
            ConflictError: the intake was closed.
        """
        if len(data) > self._settings.max_file_bytes:
            raise TooLargeError(
                f"the file has {len(data):,} bytes, accepted are at most {self._settings.max_file_bytes:,}; "
                "send a smaller copy"
            )
        try:
            worker = self._idle.get(timeout=TURN_DEADLINE_S)
        except queue.Empty as error:
            raise UnavailableError(
                f"all {self._settings.workers} decoding processes were busy for {TURN_DEADLINE_S:g} s; try again"
            ) from error
        try:
            if self._closed:
                raise ConflictError("the image intake is closed; open another one")
            if worker is None:
                worker = _Worker(self._settings)
            ends = time.monotonic() + self._settings.deadline_s
            kind, payload = worker.ask(data, ends)
            if kind in (b"M", b"X") and worker.photos > 1:  # what a used worker fails at, a fresh one may still do
                worker.close()
                worker = _Worker(self._settings)
                kind, payload = worker.ask(data, ends)
        finally:
            if worker is not None and not worker.is_fit:
                worker.close()
                worker = None
            self._idle.put(worker)
        if kind == b"P":
            return _photo(payload)
        if kind == b"I":
            raise ImageError(payload.decode())
        if kind == b"L":
            raise TooLargeError(payload.decode())
        if kind == b"M":
            raise TooLargeError(
                f"decoding the photo needed more than {self._settings.memory_mb:,} MiB, which is accepted at most; "
                "send a smaller copy"
            )
        if kind == b"T":
            raise TooLargeError(
                f"decoding the photo took more than {self._settings.deadline_s:g} s, which is accepted at most; "
                "send a smaller or simpler copy"
            )
        raise ImageError(f"the file made its decoder fail ({payload.decode()}); save the picture again as JPEG")

    def close(self) -> None:
        """End the workers, each after the photo it is at; later calls of `take` are refused."""
        self._closed = True
        for _ in range(self._settings.workers):
            worker = self._idle.get()
            if worker is not None:
                worker.close()
        for _ in range(self._settings.workers):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Worker:
    """One decoding process and its pipes; used by one thread at a time."""

    def __init__(self, settings: IntakeSettings) -> None:
        self.photos = 0
        self.is_fit = True
        limits = json.dumps({name: getattr(settings, name) for name in Limits.__slots__})
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sameitem.core.decode_worker", limits],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
        )
        kind, _ = self._read(time.monotonic() + START_DEADLINE_S)
        if kind != b"A":
            self.close()
            raise UnavailableError(
                "a decoding process did not start; check that memory is free and that "
                "`python -m sameitem.core.decode_worker` finds Pillow"
            )

    def ask(self, data: bytes, ends: float) -> tuple[bytes, bytes]:
        """Return kind and payload of the answer to a file; T when the clock passed `ends`, X when the process died."""
        self.photos += 1
        self.is_fit = False  # until it has answered: an interrupted call would leave its answer to the next one
        kind, payload = self._read(ends, FRAME.pack(b"F", len(data)), data)
        self.is_fit = kind in (b"P", b"I", b"L") and self.photos < PHOTOS_PER_WORKER
        return kind, payload

    def _read(self, ends: float, *sent: bytes) -> tuple[bytes, bytes]:
        late = threading.Event()

        def stop() -> None:
            late.set()
            self._process.kill()

        clock = threading.Timer(max(0.0, ends - time.monotonic()), stop)
        clock.daemon = True
        clock.start()
        try:
            stdin, stdout = _open_pipe(self._process.stdin), _open_pipe(self._process.stdout)
            for part in sent:
                stdin.write(part)
            stdin.flush()
            kind, length = FRAME.unpack(_exactly(stdout, FRAME.size))
            if length > MAX_ANSWER_BYTES:
                raise EOFError
            payload = _exactly(stdout, length)
        except (OSError, EOFError):
            kind, payload = b"X", b""
        finally:
            clock.cancel()
            clock.join()
        if late.is_set():
            return b"T", b""
        if kind == b"X":
            self._process.kill()
            code = self._process.wait()
            if code == -getattr(signal, "SIGXCPU", 0):
                return b"T", b""
            return b"X", (signal.Signals(-code).name if code < 0 else f"exit status {code}").encode()
        return kind, payload

    def close(self) -> None:
        """End the process, at once."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what was still to be written to a dead process
                _open_pipe(pipe).close()
        self._process.wait()


def _open_pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # Popen was asked for it
    return pipe


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    data = pipe.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _environment() -> dict[str, str]:
    """Return the environment of a worker: what Python needs to find the same modules, and none of the secrets."""
    kept = {
        name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TMPDIR") if name in os.environ
    }
    modules = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return {**kept, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}


def _photo(payload: bytes) -> Photo:
    width, height, original_width, original_height, across, down, size = PHOTO.unpack_from(payload)
    encoded = payload[PHOTO.size : PHOTO.size + size]
    pixels = np.frombuffer(payload, np.uint8, offset=PHOTO.size + size)
    return Photo(
        content_hash=ContentHash(hashlib.sha256(encoded).hexdigest()),
        encoded=encoded,
        width=width,
        height=height,
        thumbnail=pixels.reshape(down, across, 3),
        original_width=original_width,
        original_height=original_height,
    )
