"""The windows in which a slice may be shown, and what each of them shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from anatomy_r1.banks.masks.questions import View
from anatomy_r1.banks.masks.tables import Entry
from anatomy_r1.banks.masks.volumes import Packed
from anatomy_r1.banks.masks.windows import AUTO, WINDOWS, Window, clipped_shares

VISIBLE = 0.5
"""Share of a structure's pixels from which on, all black or all white, it is not asked about."""
_TRIED = ("soft-tissue", "lung", "bone")


@dataclass(frozen=True)
class Look:
    """A window on a slice."""

    name: str
    called: str
    """What the preface calls it; empty: nothing."""
    window: Window
    """Black and white in the scan's unit (CT: Hounsfield units)."""
    stored: Window
    """Black and white as the file counts."""
    hidden: frozenset[str] = frozenset()
    """Structures not to be asked about in it."""
    kin: frozenset[str] = frozenset()
    """Structures that would be shown in it as well, here or elsewhere."""

    def details(self) -> dict[str, Any]:
        """What a question records of it."""
        return {"window": {"name": self.name, "low": self.window[0], "high": self.window[1]}}


def looks_at(
    case: Packed, at: int, view: View, modality: str, option: str | Window, table: Mapping[int, Entry]
) -> list[Look]:
    """The looks in which at least one structure may be asked about.

    CT is shown in the window of the option; by ``auto`` each structure in the one that shows it. Other scans are shown
    in the robust range of the body, all structures in it. What a window makes all black, all white or all alike is not
    asked about in it.
    """
    air = case.values.air_of(modality)
    if air is None and (isinstance(option, str)):
        window = (case.values.low, case.values.high)
        return [Look("", "", window, window)]
    shift = air or 0.0
    choices = (
        dict(WINDOWS) if option == AUTO else {option: WINDOWS[option]} if isinstance(option, str) else {"": option}
    )
    stored = {name: _moved(window, -shift) for name, window in {**WINDOWS, **choices}.items()}
    clipped = _clipped(case, at, view, stored)
    names = set(view.names.values())
    preferred = {entry.name: entry.window for entry in table.values()}
    best = {name: _best(preferred.get(name, ""), clipped[name]) for name in names}
    looks = []
    for name, window in choices.items():
        own = option == AUTO or name in ("lung", "bone")  # in these all soft tissue looks the same
        shown = {item for item in names if (best[item] == name if own else clipped[item][name] < VISIBLE)}
        kin = frozenset(item for item, own_window in preferred.items() if own and (own_window or "soft-tissue") == name)
        called = "" if option == AUTO else name  # a window that suits the answer would tell of it
        if shown:
            looks.append(Look(name, called, window, _moved(window, -shift), frozenset(names - shown), kin))
    return looks


def _moved(window: Window, by: float) -> Window:
    return window[0] + by, window[1] + by


def _best(preferred: str, clipped: Mapping[str, float]) -> str:
    """The window that shows a structure: its own, or else the first of soft tissue, lung, bone; empty: none does.

    The gas in a bowel is seen best in a lung window, but nobody would look for it there.
    """
    tried = (preferred,) if preferred else _TRIED
    return next((name for name in tried if clipped[name] < VISIBLE), "")


def _clipped(case: Packed, at: int, view: View, windows: Mapping[str, Window]) -> dict[str, dict[str, float]]:
    """Structure → window → share of its pixels that are all black or all white."""
    values = case.image(at)
    step = -(-max(values.shape) // max(view.codes.shape))
    values = values[step // 2 :: step, step // 2 :: step]
    count = int(view.codes.max()) + 1
    shares = {name: clipped_shares(values, view.codes, count, window) for name, window in windows.items()}
    return {name: {window: float(found[code]) for window, found in shares.items()} for code, name in view.names.items()}
