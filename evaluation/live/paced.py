"""Pages made once for all who watch, and so seldom that the run hardly notices."""

from threading import Lock
from time import perf_counter

from anatomy_r1.core import AnatomyError

PAUSE = 1.0
"""Seconds for which a page stays as it is, at least."""
SPARE = 40
"""Times what it cost that a page or a diagnosis stays as it is: together they take a twentieth of a processor."""
SMOOTHING: dict[str, float | None] = {"": None, "none": 0.0, "more": 0.3}
"""Share of the run that curves are averaged over, by what the page calls it; None: as each chart has it."""


class Pace:
    """When something is to be done again.

    Args:
        least: seconds in between at least; 0: at any time.
        spare: and so many times what it cost.
    """

    def __init__(self, least: float, spare: float) -> None:
        self._least, self._spare = least, spare if least else 0.0
        self._next, self._begun = 0.0, 0.0

    @property
    def due(self) -> bool:
        """Whether it is time."""
        return self.rest <= 0

    @property
    def rest(self) -> float:
        """Seconds until it is."""
        return self._next - perf_counter()

    def __enter__(self) -> None:
        self._begun = perf_counter()

    def __exit__(self, *error: object) -> None:
        end = perf_counter()
        self._next = end + max(self._least, self._spare * (end - self._begun))


class LivePage:
    """A page of something that grows.

    Args:
        pause: seconds for which it stays as it is; 0: none.
    """

    def __init__(self, pause: float = 0.0) -> None:
        self._pace = Pace(pause, SPARE)
        self._mark: str | None = None
        self._pages: dict[str, str] = {}
        self._lock = Lock()

    def html(self, smooth: str = "") -> tuple[str, str]:
        """The page, and a mark that changes whenever it does.

        Args:
            smooth: one of ``SMOOTHING``.

        Raises:
            AnatomyError: it is none.
        """
        if smooth not in SMOOTHING:
            raise AnatomyError(f"smooth: expected one of {', '.join(filter(None, SMOOTHING))} or nothing.")
        with self._lock:
            if self._mark is None or self._pace.due:
                with self._pace:
                    if self._mark != (mark := self.look()):
                        self._mark, self._pages = mark, {smooth: self.render(SMOOTHING[smooth])}
            if smooth not in self._pages:
                self._pages[smooth] = self.render(SMOOTHING[smooth])
            return self._mark or "", self._pages[smooth]

    @property
    def rest(self) -> float:
        """Seconds for which the page stays as it is."""
        return max(0.0, self._pace.rest)

    def look(self) -> str:
        """A mark of what there is now."""
        raise NotImplementedError

    def render(self, window: float | None) -> str:
        """The page of what there is now."""
        raise NotImplementedError
