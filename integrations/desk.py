"""Tickets for sessions: what a server hands out whose clients come one by one, and may leave without an answer."""

import threading
from collections import OrderedDict
from typing import Any

from anatomy_r1.core import AnatomyError, Count, requirement
from anatomy_r1.envs import Ticket, TicketOffice

_KEPT = 10_000  # named groups with places that nobody took


class Desk:
    """Hands the places of groups to sessions; what a session leaves unanswered is handed out again.

    Args:
        group_size: responses to each question, as the trainer has it.
        task: the fields of :class:`Task`, as keywords; curriculum and augmentation by name.

    Raises:
        AnatomyError: a size that is none, or a task that can't be built.
    """

    def __init__(self, *, group_size: int = 8, **task: Any) -> None:
        if (wanted := requirement(group_size, Count)) is not None:
            raise AnatomyError(f"group_size must be {wanted}, got {group_size!r}.")
        for name in ("curriculum", "augmentation"):
            if not isinstance(task.get(name, ""), str):
                raise AnatomyError(
                    f"{name}: expected a name, got an object ({type(task[name]).__name__}).\n"
                    "reset(seed=…) builds the task anew: register yours, or give it as 'module:attribute'."
                )
        self.group_size, self.task = group_size, task
        self.office = TicketOffice(**task)
        self._free: OrderedDict[str, list[Ticket]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, name: str, progress: float | None) -> Ticket:
        """A place of the group of this name; where all are taken, of a new one.

        Raises:
            AnatomyError: what :meth:`TicketOffice.draw` raises.
        """
        with self._lock:
            ticket, *rest = self._free.pop(name, None) or self.office.draw(1, self.group_size, progress=progress)
            if rest:
                self._free[name] = rest
            if len(self._free) > _KEPT:
                self.office.close(self._free.popitem(last=False)[1][0])
            return ticket

    def give_back(self, name: str, ticket: Ticket) -> None:
        """Take a place back that will not be answered; one whose group was closed is void."""
        with self._lock:
            if ticket in self.office.out:
                self._free.setdefault(name, []).append(ticket)

    def give_up(self, name: str, ticket: Ticket) -> None:
        """Close the group of a ticket that can't be shown."""
        with self._lock:
            self.office.close(ticket)
            if rest := [one for one in self._free.pop(name, []) if one.group != ticket.group]:
                self._free[name] = rest

    def alone(self, seed: int, progress: float | None) -> tuple[Ticket, TicketOffice]:
        """The first question of this task with another seed, and an office that grades it.

        Raises:
            AnatomyError: a seed or a progress that is none.
        """
        office = TicketOffice(**self.task | {"bank": self.office.stream.bank, "split": None, "seed": seed})
        return office.draw(1, 1, progress=progress)[0], office
