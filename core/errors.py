"""The one exception for mistakes a user can mend, a kind of it, and the one for being asked to stop."""

import signal

from anatomy_r1.core.markup import clean


class AnatomyError(Exception):
    """A mistake in the user's input: one or two lines saying what was expected, what came, where, and what to do.

    The command line prints it without a traceback and exits with status 2. What it quotes of files can't act on a
    terminal.
    """

    def __str__(self) -> str:
        return clean(super().__str__())


def one_line(error: Exception, most: int = 300) -> str:
    """Somebody else's error, its kind and what it says, in a line of at most so many characters."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:most]


class UnknownOptionError(AnatomyError, TypeError):
    """An option or keyword that whoever was given it does not have; a ``TypeError``, too, as Python's own is."""


class Stopped(KeyboardInterrupt):
    """Somebody asked to stop; ``signal`` is the number of the signal that asked."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.signal = int(number)


def stop_signals() -> tuple[signal.Signals, ...]:
    """What asks a process to stop: Ctrl-C, what Slurm, Kubernetes and spot machines send before they kill, and a
    terminal that is gone. Left out are those that the process was told to ignore, as ``nohup`` does.
    """
    known = (signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
    return tuple(number for number in known if signal.getsignal(number) is not signal.SIG_IGN)
