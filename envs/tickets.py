"""Questions handed out as tickets, and graded apart from each other: in any order, later, from any process, once each.

For trainers that own the loop. Draw ``n`` is the ``n``-th call of the curriculum, as in the environments: it depends on
task, seed, ``n``, progress and the groups that were completed before it, in their order. So drawing ahead changes
nothing but which outcomes the curriculum knows by then; where it learns nothing (``uniform``), nothing at all.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from anatomy_r1.core import AnatomyError, Count, Image, Question, Share, build, render_prompt, requirement
from anatomy_r1.curricula import Variant
from anatomy_r1.envs.question_stream import Draw, QuestionStream, Task
from anatomy_r1.envs.reward import Score
from anatomy_r1.envs.ticket_ids import Asked, digest, read_id, write_id


@dataclass(frozen=True)
class Ticket:
    """One place of a group: a question to be answered, once."""

    id: str
    """All that an office of the same task needs to grade a response, in any process; not for who answers."""
    asked: Asked

    @property
    def variant(self) -> Variant:
        """The form of the question that this place sees, and what made it."""
        return self.asked.variant

    @property
    def question(self) -> Question:
        """The variant's question."""
        return self.asked.variant.question

    @property
    def prompt(self) -> str:
        """Instruction, stem and options, as the environments show them."""
        return render_prompt(self.question)

    @property
    def image(self) -> Image:
        """uint8 ``(H, W, 3)``, decoded anew each time; raises AnatomyError where it can't be read."""
        return self.question.pixels()

    @property
    def group(self) -> int:
        """Running number of the draw; tickets of one group are answers to one question."""
        return self.asked.group


@dataclass
class _Group:
    """What is known of a group that is not complete."""

    tickets: dict[int, Ticket] = field(default_factory=dict)
    scores: dict[int, Score] = field(default_factory=dict)


class TicketOffice:
    """Draws groups of tickets, grades them, and tells the curriculum of each group that is complete.

    Several threads may share one. A copy in another process grades the same tickets to the same scores, and hears of
    the groups that are graded there: have all of a training's tickets graded by the office that draws.

    Args:
        task: the fields of :class:`Task`, as keywords.

    Raises:
        AnatomyError: a task that can't be built.
    """

    def __init__(self, **task: Any) -> None:
        self.stream = QuestionStream(build(Task, "the ticket office", **task))
        self._open: dict[int, _Group] = {}
        self._known: dict[str, Ticket] = {}
        """By id, the tickets of the open groups."""
        self._closed, self._closed_below = set[int](), 0
        self._lock = threading.RLock()

    def draw(self, groups: int = 1, group_size: int = 8, *, progress: float | None = None) -> list[Ticket]:
        """Draw ``groups`` questions, each for ``group_size`` responses: the tickets, group after group.

        Args:
            groups: number of questions.
            group_size: responses to each.
            progress: share of training done, in [0, 1]; None: as it was told last, 0 at first.

        Raises:
            AnatomyError: numbers out of range, a question that can't be had, or an augmentation that waits for some of
                a group to answer before it asks the others.
        """
        numbers = {"groups": (groups, Count), "group_size": (group_size, Count), "progress": (progress, Share | None)}
        for name, (value, hint) in numbers.items():
            if (wanted := requirement(value, hint)) is not None:
                raise AnatomyError(f"draw: {name} must be {wanted}, got {value!r}.")
        with self._lock:
            if self.stream.probes(group_size):
                raise AnatomyError(
                    "draw: the augmentation waits for some of a group to answer, and tickets are drawn all at once.\n"
                    "Choose another trigger for it, or train with the vector environment."
                )
            self.stream.prepare(None, progress)
            return [ticket for _ in range(groups) for ticket in self._issue(self.stream.draw(group_size))]

    def _issue(self, draw: Draw) -> list[Ticket]:
        bank, size, group = self.stream.bank, len(draw.variants), _Group()
        own = bank.question(bank.index_of(draw.choice.question.id))
        for place, variant in enumerate(draw.variants):
            asked = Asked(draw.index, place, size, draw.choice.question, variant)
            group.tickets[place] = Ticket(write_id(asked, own, bank.name, self._run()), asked)
        self._open[draw.index] = group
        self._known |= {ticket.id: ticket for ticket in group.tickets.values()}
        return list(group.tickets.values())

    def read(self, ticket: Ticket | str) -> Ticket:
        """The ticket of an id.

        Raises:
            AnatomyError: no id, a damaged one, or one of another version, bank, task or seed.
        """
        text = ticket.id if isinstance(ticket, Ticket) else ticket
        known = self._known.get(text) if isinstance(text, str) else None
        return known or Ticket(text, read_id(text, self.stream.bank, self._run()))

    def grade(self, ticket: Ticket | str, text: str) -> Score:
        """Score a response; with the last of its group, curriculum and augmentation observe the outcome.

        Raises:
            AnatomyError: what :meth:`read` raises, a ticket graded before or whose group is closed, or a response that
                is not text. Nothing has changed then.
        """
        return self.grade_all([(ticket, text)])[0]

    def grade_all(self, pairs: Iterable[tuple[Ticket | str, str]]) -> list[Score]:
        """Score responses, all or none of them: where one raises, as :meth:`grade` does, none is taken for graded."""
        with self._lock:
            found = [(ticket := self.read(one), self.stream.score(ticket.question, text)) for one, text in pairs]
            places = set[tuple[int, int]]()
            for ticket, _ in found:
                group, place = ticket.group, ticket.asked.place
                if place in self._group(ticket).scores or (group, place) in places:
                    raise AnatomyError(
                        f"ticket: place {place} of group {group} (question {ticket.asked.question.id!r}) is graded "
                        "already.\nEach ticket is graded once; draw() gives more."
                    )
                places.add((group, place))
            for ticket, score in found:
                self._take(ticket, score)
            return [score for _, score in found]

    def _take(self, ticket: Ticket, score: Score) -> None:
        """Write a score down; with the last of its group, let curriculum and augmentation hear of it."""
        asked = ticket.asked
        group = self._open.setdefault(asked.group, self._group(ticket))
        group.tickets[asked.place], group.scores[asked.place] = ticket, score
        if len(group.scores) == asked.size:
            self._shut(asked.group)
            places = range(asked.size)
            variants = [group.tickets[place].variant for place in places]
            self.stream.tell(asked.question, variants, [group.scores[place] for place in places])

    def close(self, ticket: Ticket | str) -> None:
        """Give up the group of a ticket: the curriculum does not hear of it, and its tickets are void.

        Raises:
            AnatomyError: what :meth:`read` raises, or a group that is closed already.
        """
        with self._lock:
            ticket = self.read(ticket)
            self._group(ticket)
            self._shut(ticket.group)

    @property
    def out(self) -> list[Ticket]:
        """Tickets that were drawn here and not graded, as far as their groups are open; of others' groups, none."""
        with self._lock:
            return [
                ticket
                for group in self._open.values()
                for place, ticket in group.tickets.items()
                if place not in group.scores
            ]

    def _group(self, ticket: Ticket) -> _Group:
        """The open group of a ticket; that of another's draw is new here."""
        number = ticket.group
        if number < self._closed_below or number in self._closed:
            raise AnatomyError(
                f"ticket: group {number} (question {ticket.asked.question.id!r}) is closed: it is graded or given up.\n"
                "Each ticket is graded once, while its group is open; draw() gives more."
            )
        return self._open.get(number, _Group())

    def _shut(self, number: int) -> None:
        if number in self._open:
            for ticket in self._open.pop(number).tickets.values():
                self._known.pop(ticket.id, None)
        self._closed.add(number)
        while self._closed_below in self._closed:
            self._closed.remove(self._closed_below)
            self._closed_below += 1

    def _run(self) -> str:
        """Digest of what all offices of one training have in common."""
        task, stream, reward = self.stream.task, self.stream, self.stream.reward
        asked = [task.curriculum, task.curriculum_options, task.augmentation, task.augmentation_options]
        extra = {name: weight for name, (weight, _) in reward.extra.items()}
        paid = [reward.format_weight, reward.correct_weight, reward.cap, extra]
        return digest([stream.seed, len(stream.bank), *asked, *paid])

    def state_dict(self) -> dict[str, Any]:
        """Everything that further draws and grades depend on (JSON values), what is out included."""
        with self._lock:
            open_groups = [
                [ticket.id, asdict(group.scores[place]) if place in group.scores else None]
                for group in self._open.values()
                for place, ticket in group.tickets.items()
            ]
            closed = {"below": self._closed_below, "groups": sorted(self._closed)}
            return {"stream": self.stream.state_dict(), "open": open_groups, "closed": closed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave; :attr:`out` are then the tickets to be answered.

        Raises:
            AnatomyError: an entry is missing, or it is another task's state.
        """
        expected = {"stream", "open", "closed"}
        if missing := sorted(expected - state.keys()):
            raise AnatomyError(f"tickets' state: expected {sorted(expected)}, missing {missing}; is it another state?")
        with self._lock:
            self.stream.load_state_dict(state["stream"])
            self._open, self._known = {}, {}
            for text, score in state["open"]:
                ticket = self.read(text)
                group = self._open.setdefault(ticket.group, _Group())
                group.tickets[ticket.asked.place] = ticket
                self._known[text] = ticket
                if score is not None:
                    group.scores[ticket.asked.place] = Score(**score)
            self._closed, self._closed_below = set(state["closed"]["groups"]), state["closed"]["below"]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.RLock()
