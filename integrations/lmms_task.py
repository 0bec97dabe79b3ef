"""Evaluating with lmms-eval: the questions of a bank as a task, our judge, our controls beside it.

Not imported by the face of this room: its class is lmms-eval's own, so importing it needs lmms-eval. A YAML file that
names the class is a task; ``lmms-eval --include_path FOLDER`` finds it (``examples/with_lmms.py`` has one).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image as Pil

from anatomy_r1.agents import Policy
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.envs import score
from anatomy_r1.integrations.rows import LOGGED, Asked, facts_of, open_asked, require

OLDEST = "0.7.3"
require("lmms-eval", OLDEST, "lmms", "lmms_task")
from lmms_eval.api.model import lmms  # noqa: E402 (whether it can be imported is asked first)
from lmms_eval.api.task import ConfigurableMessagesTask, ConfigurableTask  # noqa: E402
from lmms_eval.models import get_model  # noqa: E402

__all__ = ["AnatomyTask", "PolicyModel", "lmms_document"]
_AT_ONCE = 64  # images in memory
_METRICS = ("correct", "format", "reward")
_CONFIG = {
    "output_type": "generate_until",
    "doc_to_text": "prompt",
    "doc_to_target": "letter",
    # A blank line ends no response: thoughts may have some.
    "generation_kwargs": {"max_new_tokens": 1024, "temperature": 0, "do_sample": False, "until": []},
    # lmms-eval would take the thoughts out of what is judged.
    "reasoning_tags": "none",
}


class AnatomyTask(ConfigurableMessagesTask):  # type: ignore[misc]
    """Asks what ``evaluate`` asks, in the same words and order; ``anatomy-r1 import`` reads its logs.

    Metrics are ``correct``, ``format`` and ``reward``, and the same under each control (``correct_blank``). From
    Python, with no command line to read, it asks as lmms-eval's chat models want it, not its simple ones.

    Args:
        config: ``task`` (the name), ``dataset_kwargs`` and whatever else lmms-eval's tasks have. ``dataset_kwargs``
            are those of :func:`inspect_task`: ``bank``, ``split``, ``limit``, ``seed``, ``controls``, a bank's own.

    Raises:
        AnatomyError: a bank, split, limit, seed, control or option that is none.
    """

    args: Any = None
    """Of the command line; lmms-eval sets them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        settings = config.get("dataset_kwargs") or {}
        if not isinstance(settings, Mapping):
            raise AnatomyError(
                f"lmms_task: expected names and values as dataset_kwargs, got {settings!r}.\n"
                "Write them like {bank: scenes, split: test, limit: 100}."
            )
        self.about, self.asked = open_asked(**settings)
        names = [name + _under(control) for control in (None, *self.asked.controls) for name in _METRICS]
        ours = {
            **_CONFIG,
            "test_split": self.about["split"],
            "doc_to_visual": lmms_image,
            "process_results": lmms_judge,
            "metric_list": [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in names],
            "metadata": {LOGGED: self.about},
        }
        super().__init__(config=ours | {name: value for name, value in config.items() if name != "class"})

    def download(self, dataset_kwargs: Any = None) -> None:
        """Nothing is: the documents are made as they are looked at."""
        self.dataset = self.dataset_no_image = {self.about["split"]: _Documents(self.asked)}

    def construct_requests(self, doc_id: int, ctx: str, **kwargs: Any) -> Any:
        """A request for a model of the kind that the command line names."""
        kind = ConfigurableTask if self._for_a_simple_model else ConfigurableMessagesTask
        return kind.construct_requests(self, doc_id, ctx, **kwargs)

    @cached_property
    def _for_a_simple_model(self) -> bool:
        return self.args is not None and bool(get_model(self.args.model, self.args.force_simple).is_simple)

    def process_results(self, doc: Mapping[str, Any], results: Sequence[Any], full_docs: Any = None) -> dict[str, Any]:
        """What :func:`lmms_judge` finds; lmms-eval's own would strip the response first, and try five times."""
        return lmms_judge(doc, results)


class PolicyModel(lmms):  # type: ignore[misc]
    """A policy of ours as a model of lmms-eval's, for tasks that show an image and then a text."""

    is_simple = False

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """A response to each request."""
        asked, said = [request.args for request in requests], list[str]()
        for start in range(0, len(asked), _AT_ONCE):
            shown = [
                to_messages(self.task_dict[task][split][number])[0]["content"]
                for _, to_messages, _, number, task, split in asked[start : start + _AT_ONCE]
            ]
            images, prompts = [np.asarray(image["url"]) for image, _ in shown], [text["text"] for _, text in shown]
            said += [response.text for response in self.policy.respond({"image": images, "prompt": prompts})]
        return said

    def loglikelihood(self, requests: Any) -> Any:
        """Policies answer in text alone."""
        raise NotImplementedError

    generate_until_multi_round = loglikelihood


def lmms_document(question: Question, control: str | None = None) -> dict[str, Any]:
    """A question as a document of lmms-eval's; its image is rendered when a model is to see it."""
    return {"prompt": render_prompt(question), "letter": question.letter, "question": question, "control": control}


def lmms_image(document: Mapping[str, Any]) -> list[Pil.Image]:
    """The image of a document, every pixel as it is."""
    return [Pil.fromarray(document["question"].pixels())]


def lmms_judge(document: Mapping[str, Any], results: Sequence[Any]) -> dict[str, Any]:
    """The strict judge's metrics of a response, and what it takes to judge it again."""
    question, control = document["question"], document["control"]
    found = score(question, results[0] if isinstance(results[0], str) else "")  # some models answer None
    paid = zip(_METRICS, (found.correct, found.format, found.total), strict=True)
    metrics = {name + _under(control): value for name, value in paid}
    return {**metrics, LOGGED: {"question": facts_of(question), "control": control}}


def _under(control: str | None) -> str:
    return "" if control is None else f"_{control}"


class _Documents(Sequence[dict[str, Any]]):
    """What lmms-eval takes for a data set."""

    features = dict.fromkeys(("prompt", "letter", "question", "control"))

    def __init__(self, asked: Asked) -> None:
        self.asked = asked

    def __len__(self) -> int:
        return len(self.asked)

    def __getitem__(self, number: Any) -> Any:
        return lmms_document(*self.asked[number])
