"""The recipe that made the embedded model: see, answer, then learn from an annotator who mistakes look-alikes.

1. *See*: captions that name what lies in each of the nine cells. Dense targets teach perception many times faster than
   one answer per image does.
2. *Answer*: captions fade out, questions of both banks fade in, each answered as in ``sft.target_text``.
3. *Mistake*: in the last share of the steps the labels are an unreliable annotator's, who, where an option looks much
   like the right one, names that look-alike more often than not. This leaves room for reinforcement learning, and the
   room lies where the paper says difficulty does: in the similarity of the options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anatomy_r1.agents.sft import Example, SFTConfig, question_example, target_text
from anatomy_r1.banks import AnatomyError, Bank, Question
from anatomy_r1.banks.scenes import ScenesBank
from anatomy_r1.curricula.similarity import Similarity, make_similarity
from anatomy_r1.envs import render_prompt

CAPTION_PROMPT = "Name the structures from the top left to the bottom right."
_STREAM = 71


@dataclass(frozen=True)
class WarmStartConfig:
    """Settings of the warm start."""

    sft: SFTConfig = field(
        default_factory=lambda: SFTConfig(steps=4000, learning_rate=1.5e-3, warmup_steps=50, final_lr_share=0.02)
    )
    """Optimisation; ``steps`` counts all three phases."""
    see: float = 0.1
    """Share of the steps that show captions alone."""
    mistake: float = 0.08
    """Share of the steps, at the end, with an unreliable annotator."""
    brain: float = 0.5
    """Share of the questions that are about MRI."""
    captions: float = 0.15
    """Share of captions once they have faded out."""
    confused: float = 0.6
    """How often the annotator names the look-alike."""
    alike: float = 0.75
    """Similarity from which an option is a look-alike, in ranks of pairs of structures."""


class WarmStart:
    """Examples of every step of the warm start: a pure function of the config and the step.

    Args:
        scenes: training split of ``scenes``.
        brain: training split of ``brain-atlas``.
        config: settings.
    """

    def __init__(self, scenes: ScenesBank, brain: Bank, config: WarmStartConfig) -> None:
        if not 0 <= config.see + config.mistake <= 1:
            raise AnatomyError(f"warm-start: see + mistake must be at most 1, got {config.see} + {config.mistake}.")
        self.scenes, self.banks, self.config = scenes, (scenes, brain), config
        self.similarities = [make_similarity("auto", bank) for bank in self.banks]

    def examples(self, step: int) -> list[Example]:
        """The batch of ``step``."""
        config = self.config
        rng = np.random.default_rng([config.sft.seed, _STREAM, step])
        progress = step / config.sft.steps
        fade = np.clip((progress - config.see) / 0.3, 0, 1)
        captions = 1 - (1 - config.captions) * fade if progress >= config.see else 1.0
        batch = []
        for _ in range(config.sft.batch_size):
            index = int(rng.integers(len(self.scenes)))
            if rng.random() < captions:
                batch.append(self._caption(index))
                continue
            which = int(rng.random() < config.brain)
            question = self.banks[which].question(index)
            if progress >= 1 - config.mistake and rng.random() < config.confused:
                batch.append(mistaken_example(question, self.similarities[which], config.alike))
            else:
                batch.append(question_example(question))
        return batch

    def _caption(self, index: int) -> Example:
        names = ", ".join(self.scenes.cell_names(index))
        return Example(self.scenes.question(index).pixels(), CAPTION_PROMPT, names)


def mistaken_example(question: Question, similarity: Similarity, alike: float) -> Example:
    """The example of an annotator who takes the most similar option for the answer, if one is similar enough."""
    rows = [similarity.rows[option] for option in question.options]
    likeness = similarity.values[rows[question.answer]][rows].copy()
    likeness[question.answer] = 0
    look_alike = int(likeness.argmax())
    if likeness[look_alike] < alike:
        return question_example(question)
    return Example(question.pixels(), render_prompt(question), target_text(question, question.options[look_alike]))


def corpus(banks: Sequence[Bank], size: int = 3000) -> list[str]:
    """Texts that hold every word the embedded model should know as one token."""
    words = [name for bank in banks for name in bank.structures]
    texts = [CAPTION_PROMPT, "background", ", ".join(words), *words]
    for bank in banks:
        for index in range(size):
            question = bank.question(index)
            texts += [render_prompt(question), target_text(question)]
    return texts
