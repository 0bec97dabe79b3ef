"""The recipe that made the embedded model: see, answer, then learn from an annotator who mistakes look-alikes.

1. *See*: captions that name what lies in each of the nine cells, in reading order. Dense targets teach perception many
   times faster than one answer per image does.
2. *Answer*: captions now say "location structure" in random order, which binds location words to places nine times per
   image, in the words of the answers' think part; they fade out as questions of both banks fade in.
3. *Mistake*: in the last share of the steps the labels are an unreliable annotator's, who, where an option looks much
   like the right one, names that look-alike more often than not. This leaves room for reinforcement learning, and the
   room lies where the paper says difficulty does: in the similarity of the options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anatomy_r1.agents.sft import Example, SFTConfig, question_example, target_text
from anatomy_r1.banks import AnatomyError, Bank, Question
from anatomy_r1.banks.brain_slices import SliceImage, load_brain
from anatomy_r1.banks.grammar import parse, render, rewrites
from anatomy_r1.banks.scene_graph import LOCATIONS
from anatomy_r1.banks.scenes import ScenesBank
from anatomy_r1.curricula.similarity import Similarity, make_similarity
from anatomy_r1.envs import render_prompt

IN_ORDER = "Name the structures from the top left to the bottom right."
ANY_ORDER = "Name the structures and where they are."
_STREAM = 71


@dataclass(frozen=True)
class WarmStartConfig:
    """Settings of the warm start."""

    sft: SFTConfig = field(
        default_factory=lambda: SFTConfig(steps=4000, learning_rate=1.5e-3, warmup_steps=50, final_lr_share=0.02)
    )
    """Optimisation; ``steps`` counts all three phases."""
    see: float = 0.1
    """Share of the steps that show captions in reading order alone."""
    fade: float = 0.4
    """Share of the steps over which questions take the place of captions."""
    captions: float = 0.2
    """Share of captions once they have faded out."""
    brain: float = 0.5
    """Share of the images that are MRI."""
    mistake: float = 0.08
    """Share of the steps, at the end, with an unreliable annotator."""
    confused: float = 0.6
    """How often the annotator names the look-alike."""
    alike: float = 0.75
    """Similarity from which an option is a look-alike, in ranks of pairs of structures."""

    def __post_init__(self) -> None:
        if not 0 <= self.see + self.fade + self.mistake <= 1:
            raise AnatomyError(
                "warm-start: see + fade + mistake are shares of the steps and must be at most 1, "
                f"got {self.see} + {self.fade} + {self.mistake}."
            )


class WarmStart:
    """Examples of every step of the warm start: a pure function of the config and the step.

    Args:
        scenes: training split of ``scenes``.
        brain: training split of ``brain-atlas``.
        config: settings.
    """

    def __init__(self, scenes: ScenesBank, brain: Bank, config: WarmStartConfig) -> None:
        self.scenes, self.brain, self.config = scenes, brain, config
        self.similarity = {bank.name: make_similarity("auto", bank) for bank in (scenes, brain)}

    def examples(self, step: int) -> list[Example]:
        """The batch of ``step``."""
        config = self.config
        rng = np.random.default_rng([config.sft.seed, _STREAM, step])
        progress = step / config.sft.steps
        faded = float(np.clip((progress - config.see) / config.fade, 0, 1))
        captions = 1 - (1 - config.captions) * faded
        in_order, mistaken = progress < config.see, progress >= 1 - config.mistake
        batch = []
        for _ in range(config.sft.batch_size):
            bank = self.brain if rng.random() < config.brain else self.scenes
            index = int(rng.integers(len(bank)))
            question = bank.question(index)
            if rng.random() < captions:
                batch.append(caption_example(question, self._seen(question, index), None if in_order else rng))
            elif mistaken and rng.random() < config.confused:
                batch.append(mistaken_example(question, self.similarity[bank.name], config.alike))
            else:
                batch.append(question_example(question))
        return batch

    def _seen(self, question: Question, index: int) -> dict[str, str]:
        """What lies at each location of a question's image."""
        if isinstance(question.image, SliceImage):
            return slice_structures(question.image)
        return dict(zip(LOCATIONS, self.scenes.cell_names(index), strict=True))


def slice_structures(image: SliceImage) -> dict[str, str]:
    """Names at one spot in each of the nine cells of an MRI slice, and at its marker."""
    brain = load_brain()
    labels = image.cut(brain.planes[image.plane].labels)
    # Towards the middle of the frame, where the head is, but within each cell.
    spots = {location: (0.28 + 0.22 * (i % 3), 0.28 + 0.22 * (i // 3)) for i, location in enumerate(LOCATIONS)}
    if image.marker is not None:
        spots["marker"] = image.marker
    height, width = labels.shape
    values = {place: int(labels[int(y * height), int(x * width)]) for place, (x, y) in spots.items()}
    return {place: brain.names.get(value, "background") for place, value in values.items()}


def caption_example(question: Question, seen: dict[str, str], shuffle: np.random.Generator | None) -> Example:
    """The example that names everything in an image: in reading order, or with locations in random order."""
    # MRI names a side, which the image alone may not tell; the stem's first sentence does.
    preamble = question.stem.partition(". ")[0] + ". " if ". " in question.stem else ""
    places = list(seen)
    if shuffle is None:
        return Example(question.pixels(), preamble + IN_ORDER, ", ".join(seen[place] for place in places))
    order = shuffle.permutation(len(places))
    named = ", ".join(f"{places[k]} {seen[places[k]]}" for k in order)
    return Example(question.pixels(), preamble + ANY_ORDER, named)


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
    texts = [IN_ORDER, ANY_ORDER, "background marker", ", ".join(words), *words]
    texts += [f" {location}" for location in LOCATIONS]
    for bank in banks:
        for index in range(size):
            question = bank.question(index)
            texts += [render_prompt(question), target_text(question)]
            # The other wordings that augmentation may give a stem are of the grammar's words too.
            if (parsed := parse(question.stem)) is not None:
                texts += map(render, rewrites(parsed))
    return texts
