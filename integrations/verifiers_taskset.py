"""Rollouts with verifiers: a bank's questions as a taskset with images, our reward, and a harness that asks once.

Not imported by the face of this room: its classes are verifiers' own, so importing it needs verifiers. A module that
exports both classes in its ``__all__`` is what ``vf-eval`` and prime-rl load (``examples/with_verifiers.py``).
"""

from collections.abc import Iterator
from typing import Any

from anatomy_r1.banks import open_bank
from anatomy_r1.core import Question, render_prompt
from anatomy_r1.envs import Score, score
from anatomy_r1.integrations.rows import Asked, data_uri, facts_of, question_of_facts, require

require("verifiers", "0.4", "verifiers", "verifiers_taskset")
import verifiers.v1 as vf  # noqa: E402 (whether it can be imported is asked first)
from verifiers.v1.dialects.chat import message_to_wire  # noqa: E402

__all__ = ["AnatomyHarness", "AnatomyTaskset", "anatomy_task"]


class AnatomyData(vf.TaskData):  # type: ignore[misc]
    """A question; its prompt has the image, as a PNG, and the text."""

    question: dict[str, Any]
    """Facts of the question, for the reward; the model is not shown them."""


class AnatomyTask(vf.Task[AnatomyData]):  # type: ignore[misc]
    """Pays a response as the environments do."""

    @vf.reward  # type: ignore[untyped-decorator]
    async def reward(self, trace: Any) -> float:
        """Total reward of the model's last message."""
        return self._score(trace).total

    @vf.metric  # type: ignore[untyped-decorator]
    async def correct(self, trace: Any) -> float:
        """1.0 for the right option in the right form."""
        return self._score(trace).correct

    @vf.metric  # type: ignore[untyped-decorator]
    async def format(self, trace: Any) -> float:
        """1.0 for the right form."""
        return self._score(trace).format

    def _score(self, trace: Any) -> Score:
        question = question_of_facts(self.data.question, f"task {self.data.id!r}")
        said = [message.content or "" for message in trace.assistant_messages]
        return score(question, said[-1] if said else "")


class AnatomyConfig(vf.TasksetConfig):  # type: ignore[misc]
    """What is asked; flags ``--env.taskset.bank`` and so on."""

    bank: str = "scenes"
    split: str = "train"
    limit: int | None = 100
    """How many distinct questions, drawn at random; None: all."""
    seed: int = 0


class AnatomyTaskset(vf.Taskset[AnatomyTask, AnatomyConfig]):  # type: ignore[misc]
    """The questions of a bank's split, in the order that ``evaluate`` asks them."""

    def load(self) -> Iterator[Any]:
        """A task per question."""
        config = self.config
        for question, _ in Asked(open_bank(config.bank, config.split), config.limit, config.seed):
            yield anatomy_task(question, config.task)


def anatomy_task(question: Question, config: Any = None) -> Any:
    """The task of a question."""
    image = vf.ImageUrlContentPart(image_url=vf.ImageUrlSource(url=data_uri(question.pixels())))
    content = [image, vf.TextContentPart(text=render_prompt(question))]
    data = AnatomyData(id=question.id, prompt=[vf.UserMessage(content=content)], question=facts_of(question))
    return AnatomyTask(data, config)


class AnatomyHarness(vf.Harness[vf.HarnessConfig]):  # type: ignore[misc]
    """One message there, one back: no tools, no program in a sandbox."""

    APPENDS_SYSTEM_PROMPT = True
    EXECUTES_CODE = False
    NEEDS_CONTAINER = False

    async def launch(
        self, ctx: Any, trace: Any, runtime: Any, endpoint: str, secret: str, mcp_urls: Any, data: Any, **_: Any
    ) -> Any:
        """Send the prompt to the endpoint, which records the exchange."""
        from openai import AsyncOpenAI

        system, prompt = self.resolve_prompt(data)
        messages: Any = [{"role": "system", "content": system}] if system else []
        messages += [message_to_wire(message) for message in prompt]
        async with AsyncOpenAI(base_url=endpoint, api_key=secret, max_retries=0) as client:
            await client.chat.completions.create(model=ctx.model, messages=messages)
        return vf.ProgramResult(exit_code=0, stdout="", stderr="")
