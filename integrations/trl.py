"""Training with TRL's GRPOTrainer: the curriculum's questions as a data set, our reward as a reward function.

TRL asks for a row ``num_generations`` times over, all at once. A row is a group, and each time it is asked for is a
place: so the places of a group may see different variants of its question, as GDQA has it. A streamed data set could
not: TRL copies its rows.
"""

from collections import Counter, OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from PIL import Image as Pil

from anatomy_r1.core import AnatomyError, image_key
from anatomy_r1.envs import Ticket, TicketOffice
from anatomy_r1.integrations.rows import require

OLDEST = "1.16"
ROWS = 1_000_000
_KEPT = 10_000  # rows whose tickets are known; TRL asks for a row again while it learns from its responses


class TRLSource:
    """A data set and a reward function for ``GRPOTrainer(train_dataset=…, reward_funcs=…)``.

    The data set has a million rows, drawn as they are asked for: say in ``GRPOConfig(max_steps=…)`` when to stop. For
    one process, without loader's workers: the curriculum lives where the rewards are.

    Args:
        group_size: responses to each question, as ``GRPOConfig(num_generations=…)`` has it.
        task: the fields of :class:`Task`, as keywords.

    Raises:
        AnatomyError: a task that can't be built.
    """

    def __init__(self, *, group_size: int = 8, **task: Any) -> None:
        self.group_size = group_size
        self.office = TicketOffice(**task)
        self.progress = 0.0
        self._rows: OrderedDict[int, list[Ticket]] = OrderedDict()

    @property
    def dataset(self) -> Any:
        """A ``datasets.Dataset`` of ``prompt`` (conversational), ``image`` (PIL) and ``ticket`` (its id).

        Raises:
            AnatomyError: TRL or datasets is missing, or TRL is older than 1.16.
        """
        require("trl", OLDEST, "trl", "TRLSource")
        require("datasets", "0", "trl", "TRLSource")
        import datasets

        return datasets.Dataset.from_dict({"row": range(ROWS)}).with_transform(self._asked)

    def reward(
        self, completions: Sequence[Any], ticket: Sequence[str], trainer_state: Any = None, **_: Any
    ) -> list[float]:
        """Rewards of B completions; the curriculum hears of their groups.

        Args:
            completions: text, or messages of which the last one is the response.
            ticket: ids, from the data set's column.
            trainer_state: has ``global_step`` and ``max_steps``, from which the curriculum knows the progress.

        Raises:
            AnatomyError: a group that is not whole, which is another ``group_size`` than TRL's, or what
                :meth:`TicketOffice.grade` raises. Nothing is graded then.
        """
        if trainer_state is not None and trainer_state.max_steps > 0:
            self.progress = min(1.0, trainer_state.global_step / trainer_state.max_steps)
        asked = [self.office.read(one) for one in ticket]
        for group, count in Counter(one.group for one in asked).items():
            self._check_size(count, f"group {group} came with {count} responses")
        return [found.total for found in self.office.grade_all(zip(asked, map(_text, completions), strict=True))]

    def _asked(self, batch: Mapping[str, Sequence[int]]) -> dict[str, list[Any]]:
        """The columns of rows; the ``k``-th time that a row is in a batch is its group's place ``k``."""
        _check_process()
        times: Counter[int] = Counter()
        tickets = []
        for row in batch["row"]:
            if times[row] == self.group_size:
                self._check_size(times[row] + 1, f"a row was asked for more than {times[row]} times")
            tickets.append(self._group(row)[times[row]])
            times[row] += 1
        pictures: dict[Hashable, Pil.Image] = {}
        for ticket in tickets:
            if (key := image_key(ticket.question.image)) not in pictures:
                pictures[key] = Pil.fromarray(ticket.image)
        return {
            "prompt": [[{"role": "user", "content": ticket.prompt}] for ticket in tickets],
            "image": [pictures[image_key(ticket.question.image)] for ticket in tickets],
            "ticket": [ticket.id for ticket in tickets],
        }

    def _group(self, row: int) -> list[Ticket]:
        if row not in self._rows:
            self._rows[row] = self.office.draw(1, self.group_size, progress=self.progress)
            if len(self._rows) > _KEPT:
                self._rows.popitem(last=False)
        return self._rows[row]

    def _check_size(self, count: int, what: str) -> None:
        if count != self.group_size:
            raise AnatomyError(
                f"TRLSource: {what}, but group_size is {self.group_size}.\n"
                "Give GRPOConfig(num_generations=…) and TRLSource(group_size=…) the same number."
            )


def _text(completion: Any) -> Any:
    """The response of a completion: itself, or the content of its last message."""
    return completion[-1].get("content") if completion and isinstance(completion, list) else completion


def _check_process() -> None:
    """Refuse processes that would draw by a curriculum of their own."""
    import torch

    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if torch.utils.data.get_worker_info() is not None or (several and torch.distributed.get_world_size() > 1):
        raise AnatomyError(
            "TRLSource: the curriculum learns in one process, and this is one of several.\n"
            "Train in one process, with GRPOConfig(dataloader_num_workers=0)."
        )
