"""Policies without a model: the yardsticks beside every result, and stand-ins to test with.

All answer in the right format, and none looks at the image. A response depends on the seed, the question (its id, or
its prompt where that is all there is) and its place among the responses to that question, never on the batch around it.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from anatomy_r1.agents.policies.blind import TextClassifier, sample_questions
from anatomy_r1.agents.policies.protocol import POLICIES, Observations, Response
from anatomy_r1.banks import Bank, open_bank
from anatomy_r1.core import LETTERS, AnatomyError, Question, Seed, normalise, read_prompt

STREAM = 302
_ORDER = re.compile(r"~\d+$")
LEARNT = 2000
"""Train questions that a policy without a model learns from."""


@dataclass(frozen=True)
class Asked:
    """One place of the batch, as text."""

    key: str
    """Question id, or the prompt where no id is given."""
    stem: str
    options: tuple[str, ...]
    question_id: str | None


class Scripted:
    """Base of the scripted policies: a subclass picks an option, this puts it into words."""

    name = "scripted"
    thought = "No look at the image was taken."
    needs_controls = False
    """Evaluations need not blank the image to see what it is worth to such a policy."""

    def __init__(self, *, bank: Bank | None = None, seed: Seed = 0) -> None:
        self.bank = bank
        self.seed = seed

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """Index of the option to answer with."""
        raise NotImplementedError

    def respond(self, observations: Observations, *, n: int = 1) -> list[Response]:
        """See :meth:`Policy.respond`."""
        draws: dict[str, np.random.Generator] = {}
        responses = []
        for asked in _asked(observations):
            rng = draws.setdefault(asked.key, np.random.default_rng([self.seed, STREAM, _number(asked.key)]))
            for _ in range(n):
                letter = LETTERS[self.pick(asked, rng)]
                text = f"<think>{self.thought}</think><answer>{letter}</answer>"
                responses.append(Response(text, probabilities=self.probabilities(asked)))
        return responses

    def probabilities(self, asked: Asked) -> tuple[float, ...] | None:
        """Probability of each option, where the policy has one."""
        return None

    def _learnt_from(self, questions: Sequence[Question] | None) -> Sequence[Question]:
        """The questions given, else a sample of the bank's train questions."""
        if questions is not None:
            return questions
        if self.bank is None:
            raise AnatomyError(f"policy {self.name!r} learns from the bank's train split: pass bank=….")
        return sample_questions(self.bank, "train", LEARNT, self.seed)


class RandomPolicy(Scripted):
    """A letter at random."""

    name = "random"
    thought = "Any option is as good as another."

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """Any option."""
        return int(rng.integers(len(asked.options)))


class MajorityPolicy(Scripted):
    """The option that was most often right among (up to 2,000) train questions; the first where all are unknown."""

    name = "majority"
    thought = "This is the most frequent answer."

    def __init__(
        self, *, bank: Bank | None = None, seed: Seed = 0, questions: Sequence[Question] | None = None
    ) -> None:
        super().__init__(bank=bank, seed=seed)
        questions = self._learnt_from(questions)
        self.counts = Counter(normalise(question.options[question.answer]) for question in questions)

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The option with the highest count; the first of equals."""
        return max(range(len(asked.options)), key=lambda place: self.counts[normalise(asked.options[place])])


class LongestPolicy(Scripted):
    """The longest option: who writes questions is often most careful with the right answer. The first of equals."""

    name = "longest"
    thought = "The longest option is the most careful one."

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The option with most characters."""
        return max(range(len(asked.options)), key=lambda place: len(asked.options[place]))


class OddCasePolicy(Scripted):
    """The option that alone begins with a small letter, or alone with a capital; where there is none, any."""

    name = "odd-case"
    thought = "One option is written unlike the others."

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The odd one out."""
        odd = odd_case(asked.options)
        return int(rng.integers(len(asked.options))) if odd is None else odd


def odd_case(options: Sequence[str]) -> int | None:
    """Index of the one option whose first letter is in another case than all others'; None where there is none.

    >>> odd_case(["Liver", "gallbladder", "Spleen"])
    1
    """
    small = [option[:1].islower() for option in options]
    for kind in (True, False):
        if small.count(kind) == 1 and len(options) > 2:
            return small.index(kind)
    return small.index(True) if small.count(True) == 1 else None


class OraclePolicy(Scripted):
    """Always right: it looks each question up, by its id, in the bank that it was built with.

    Args:
        bank: a bank or its spec, whole or a split of it.
        seed: not used; all scripted policies take one.
    """

    name = "oracle"
    thought = "The answer is known."

    def __init__(self, *, bank: str | Bank | None = None, seed: Seed = 0) -> None:
        super().__init__(bank=None if bank is None else open_bank(bank), seed=seed)
        self._known = lru_cache(maxsize=4096)(self._look_up)

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The right option, by its text, in whatever order the options come.

        Raises:
            AnatomyError: no bank, no id, an id that is not the bank's, or options without the bank's answer.
        """
        if self.bank is None:
            raise AnatomyError(f"policy {self.name!r} knows the answers of the bank it is built with: pass bank=….")
        if asked.question_id is None:
            raise AnatomyError(f"policy {self.name!r} needs observations['question_id'], which evaluation gives it.")
        options = [normalise(option) for option in asked.options]
        found = [(stem, right) for stem, right in self._known(asked.question_id) if right in options]
        if not found:
            raise AnatomyError(
                f"policy {self.name!r}: bank {self.bank.name!r} has no question {asked.question_id!r} whose answer is "
                f"among {list(asked.options)}; build the policy with the bank that is asked from."
            )
        # Where two ids would do ("7~1" may be a name or another order of "7"), the stem tells; an edit may change it.
        return options.index(min(found, key=lambda one: one[0] != asked.stem)[1])

    def _look_up(self, question_id: str) -> list[tuple[str, str]]:
        """Stem and answer of the bank's questions with this id, or with that of which it is another order."""
        assert self.bank is not None
        found = []
        for name in dict.fromkeys((question_id, _ORDER.sub("", question_id))):
            for part in (self.bank, *map(self.bank.split, self.bank.splits)):
                try:
                    question = part.question(part.index_of(name))
                except (AnatomyError, LookupError, ValueError):  # the last two: a bank of the user's
                    continue
                if question.id == name:
                    found.append((question.stem, normalise(question.options[question.answer])))
                    break
        return found


class NoisyOraclePolicy(OraclePolicy):
    """Right with a given probability, else one of the wrong options at random (``noisy-oracle:0.6``)."""

    thought = "The answer is known, more or less."

    def __init__(self, probability: str = "0.6", *, bank: str | Bank | None = None, seed: Seed = 0) -> None:
        super().__init__(bank=bank, seed=seed)
        try:
            self.probability = float(probability)
        except ValueError:
            self.probability = float("nan")
        if not 0 <= self.probability <= 1:
            raise AnatomyError(f"noisy-oracle:P expects a probability between 0 and 1, got {probability!r}.")
        self.name = f"noisy-oracle:{self.probability:g}"

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The right option, or a wrong one."""
        right = super().pick(asked, rng)
        if rng.random() < self.probability:
            return right
        return int((right + rng.integers(1, len(asked.options))) % len(asked.options))


class BlindPolicy(Scripted):
    """The best guess from text alone, learnt from 2,000 train questions."""

    name = "blind"
    thought = "This is what the words of the question suggest."

    def __init__(
        self, *, bank: Bank | None = None, seed: Seed = 0, questions: Sequence[Question] | None = None
    ) -> None:
        super().__init__(bank=bank, seed=seed)
        questions = self._learnt_from(questions)
        self.classifier = TextClassifier([(q.stem, q.options) for q in questions], [q.answer for q in questions])
        self._last: tuple[Asked, tuple[float, ...]] | None = None

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The most probable option."""
        probabilities = self.probabilities(asked)
        return probabilities.index(max(probabilities))

    def probabilities(self, asked: Asked) -> tuple[float, ...]:
        """Those of the classifier."""
        if self._last is None or self._last[0] is not asked:
            found = self.classifier.probabilities(asked.stem, asked.options)
            self._last = (asked, tuple(found.tolist()))
        return self._last[1]


def _asked(observations: Observations) -> Iterator[Asked]:
    """What is asked at each place; stem and options are read back from the prompt where they are not given."""
    prompts = observations["prompt"]
    names = observations.get("question_id", [None] * len(prompts))
    if {"stem", "options"} <= observations.keys():
        texts = list(zip(observations["stem"], map(tuple, observations["options"]), strict=True))
    else:
        texts = [(read.stem, read.options) for read in map(read_prompt, prompts)]
    for name, prompt, (stem, options) in zip(names, prompts, texts, strict=True):
        yield Asked(prompt if name is None else name, stem, options, name)


def _number(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


POLICIES.register("random")(RandomPolicy)
POLICIES.register("majority")(MajorityPolicy)
POLICIES.register("longest")(LongestPolicy)
POLICIES.register("odd-case")(OddCasePolicy)
POLICIES.register("oracle")(OraclePolicy)
POLICIES.register("noisy-oracle")(NoisyOraclePolicy)
POLICIES.register("blind")(BlindPolicy)
