"""Evaluating with Inspect AI: the questions of a bank as a task, our judge as its scorer, our controls beside it."""

from collections.abc import Sequence
from typing import Any

from anatomy_r1.core import Question, render_prompt
from anatomy_r1.envs import score
from anatomy_r1.integrations.rows import ASKED, LOGGED, data_uri, facts_of, open_asked, question_of_facts, require

OLDEST = "0.3.285"
_SPOKEN = ("text", "reasoning")


def inspect_task(
    bank: str = "scenes",
    split: str = "test",
    limit: int | None = 100,
    seed: int = 0,
    controls: str = "blank,other-image",
    **bank_options: Any,
) -> Any:
    """An ``inspect_ai.Task`` that asks what ``evaluate`` asks, in the same words and order.

    Its metrics are ``correct``, ``format`` and ``reward``, each for the questions as they are (``asked``) and under
    each control. ``anatomy-r1 import`` reads its logs.

    Args:
        bank: of questions.
        split: whose questions are asked.
        limit: how many distinct questions, drawn at random; None: all.
        seed: of the draw.
        controls: names, by commas: ``blank`` (image blanked), ``other-image``; empty: none.
        bank_options: of the bank.

    Raises:
        AnatomyError: inspect-ai is missing or too old, or a bank, split, limit or control that is none.
    """
    require("inspect-ai", OLDEST, "inspect", "inspect_task")
    from inspect_ai import Task
    from inspect_ai.dataset import MemoryDataset

    about, asked = open_asked(bank, split, limit, seed, controls, **bank_options)
    samples = [inspect_sample(*pair) for pair in asked]
    return Task(
        dataset=MemoryDataset(samples, name=f"{about['bank']}-{split}"),
        scorer=inspect_judge(),
        metadata={LOGGED: about},
    )


def inspect_sample(question: Question, control: str | None = None) -> Any:
    """An ``inspect_ai`` sample: image, then prompt; what it takes to grade is in its metadata."""
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageUser, ContentImage, ContentText

    image, text = ContentImage(image=data_uri(question.pixels())), ContentText(text=render_prompt(question))
    return Sample(
        input=[ChatMessageUser(content=[image, text])],
        target=question.letter,
        id=question.id if control is None else f"{question.id}|{control}",
        metadata={"question": facts_of(question), "control": control or ASKED},
    )


def inspect_judge() -> Any:
    """The strict judge, as an ``inspect_ai`` scorer."""
    from inspect_ai.log import transcript
    from inspect_ai.scorer import Score, grouped, mean, scorer

    metrics = {name: [grouped(mean(), "control", all=False)] for name in ("correct", "format", "reward")}

    @scorer(metrics=metrics, name="anatomy")  # type: ignore[untyped-decorator]
    def anatomy() -> Any:
        async def grade(state: Any, target: Any) -> Any:
            question = question_of_facts(state.metadata["question"], f"sample {state.sample_id!r}")
            found = score(question, inspect_text(state.output, transcript().events))
            return Score(
                value={"correct": found.correct, "format": found.format, "reward": found.total},
                answer=None if found.choice is None else question.options[found.choice],
                metadata={"parts": dict(found.parts)},
            )

        return grade

    return anatomy()


def inspect_text(output: Any, events: Sequence[Any]) -> str:
    """A response as the model gave it.

    Inspect takes the first ``<think>`` block out of the text, wherever it stood, so the text is read from what the
    endpoint sent; where that is not kept, or the endpoint itself sends thoughts apart, the parts are put together.

    Args:
        output: ``inspect_ai.model.ModelOutput``.
        events: of its sample.
    """
    called = [event.call for event in events if event.event == "model" and event.call is not None]
    try:
        sent = called[-1].response["choices"][0]["message"]["content"]
    except (IndexError, KeyError, TypeError):
        sent = None
    if isinstance(sent, str) and "<think" in sent:
        return sent
    content = output.choices[0].message.content if output.choices else ""
    parts = [content] if isinstance(content, str) else [part.text for part in content if part.type in _SPOKEN]
    return "".join(parts)
