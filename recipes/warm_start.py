"""The recipe that made the embedded model: see, answer, then learn from an annotator who mistakes look-alikes.

1. *See*: captions that name what lies in each of the nine cells, in reading order. Dense targets teach perception many
   times faster than one answer per image does.
2. *Answer*: captions now say "location structure" in random order, which binds location words to places nine times per
   image, in the words of the answers' think part; they fade out as questions of both banks fade in.
3. *Mistake*: in the last share of the steps the labels are an unreliable annotator's, who mostly takes a structure for
   its better known look-alike. This leaves room for reinforcement learning, and the room lies where the paper says
   difficulty does: in the similarity of the options.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from anatomy_r1.agents import SFTConfig
from anatomy_r1.agents.training import Example, question_example
from anatomy_r1.agents.training.sft import target_text
from anatomy_r1.banks import Bank, ScenesBank
from anatomy_r1.banks.brain.slices import SliceImage, load_brain
from anatomy_r1.banks.generate import LOCATIONS, parse, render
from anatomy_r1.banks.generate.grammar import rewrites
from anatomy_r1.banks.generate.questions import with_options
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.curricula.similarity import make_similarity

IN_ORDER = "Name the structures from the top left to the bottom right."
ANY_ORDER = "Name the structures and where they are."
_STREAM = 71


@dataclass(frozen=True)
class WarmStartConfig:
    """Settings of the warm start."""

    sft: SFTConfig = field(
        default_factory=lambda: SFTConfig(steps=2800, learning_rate=1.5e-3, warmup_steps=50, final_lr_share=0.15)
    )
    """Optimisation; ``steps`` counts all three phases."""
    seed: int = 0
    """Seed of the examples, and of the weights that training begins with."""
    see: float = 0.1
    """Share of the steps that show captions in reading order alone."""
    fade: float = 0.4
    """Share of the steps over which questions take the place of captions."""
    captions: float = 0.2
    """Share of captions once they have faded out."""
    brain: float = 0.5
    """Share of the images that are MRI, until captions have faded out."""
    brain_late: float = 0.85
    """Share of the images that are MRI from then on: scenes are learnt first."""
    mistake: float = 0.08
    """Share of the steps, at the end, with an unreliable annotator."""
    confused: float = 0.8
    """How often the annotator takes a structure for its look-alike."""
    alike: float = 0.75
    """Similarity from which structures are look-alikes, in ranks of pairs of structures."""

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
        self.annotators = {bank.name: Annotator(bank, config.alike) for bank in (scenes, brain)}

    def examples(self, step: int) -> list[Example]:
        """The batch of ``step``."""
        config = self.config
        rng = np.random.default_rng([config.seed, _STREAM, step])
        progress = step / config.sft.steps
        faded = float(np.clip((progress - config.see) / config.fade, 0, 1))
        captions = 1 - (1 - config.captions) * faded
        brain = config.brain if faded < 1 else config.brain_late
        in_order, mistaken = progress < config.see, progress >= 1 - config.mistake
        batch = []
        for _ in range(config.sft.batch_size):
            bank = self.brain if rng.random() < brain else self.scenes
            index = int(rng.integers(len(bank)))
            question = bank.question(index)
            if rng.random() < captions:
                batch.append(caption_example(question, self._seen(question, index), None if in_order else rng))
            elif mistaken and rng.random() < config.confused:
                batch.append(self.annotators[bank.name].label(question, rng))
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


class Annotator:
    """Who labels the last phase: takes a structure for its look-alike, where that one comes first in the bank's list.

    Of each pair of look-alikes so one is always known and the other mostly mistaken, and about half the answers of a
    model that learns from this annotator are wrong, confidently so.

    Args:
        bank: whose structures.
        alike: least similarity of a look-alike.
    """

    def __init__(self, bank: Bank, alike: float) -> None:
        values = make_similarity("auto", bank).values - np.eye(len(bank.structures))
        nearest = values.argmax(axis=1)
        self.taken_for = {
            name: bank.structures[other]
            for row, (name, other) in enumerate(zip(bank.structures, nearest, strict=True))
            if other < row and values[row, other] >= alike
        }

    def label(self, question: Question, rng: np.random.Generator) -> Example:
        """The example this annotator gives: the look-alike as the answer, put among the options if need be."""
        other = self.taken_for.get(question.structure)
        if other not in question.distractors:
            return question_example(question)
        options = list(question.options)
        if other not in options:
            options[(question.answer + int(rng.integers(1, len(options)))) % len(options)] = other
        shown = with_options(question, options, question.answer)
        return Example(question.pixels(), render_prompt(shown), target_text(shown, other))


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
