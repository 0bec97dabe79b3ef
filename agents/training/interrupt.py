"""A signal to stop that lets the step in progress finish, so that what is saved is whole."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from anatomy_r1.core import Stopped, stop_signals


class Interrupt:
    """Whether somebody asked to stop, and by which signal."""

    requested = False
    signal: int = signal.SIGINT


@contextmanager
def graceful_interrupt() -> Iterator[Interrupt]:
    """Turn the first signal into a request; the second one stops at once. Only the main thread can do this."""
    interrupt = Interrupt()

    def request(number: int, frame: FrameType | None) -> None:
        if interrupt.requested:
            raise Stopped(number)
        interrupt.requested, interrupt.signal = True, number

    try:
        before = {number: signal.signal(number, request) for number in stop_signals()}
    except ValueError:  # not the main thread: signals don't come here
        yield interrupt
        return
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
