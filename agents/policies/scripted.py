"""Policies without a model: the yardsticks beside every result, and stand-ins to test with.

All answer in the right format, and none looks at the image. A response depends on the seed, the question (its id, or
its prompt where that is all there is) and its place among the responses to that question, never on the batch around it.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from anatomy_r1.agents.policies.blind import TextClassifier, sample_questions
from anatomy_r1.agents.policies.protocol import POLICIES, Observations, Response
from anatomy_r1.banks import Bank
from anatomy_r1.core import LETTERS, AnatomyError, Question, normalise, read_prompt

STREAM = 302
LEARNT = 2000
"""Train questions that a policy without a model learns from."""


@dataclass(frozen=True)
class Asked:
    """One place of the batch, as text."""

    key: str
    """Question id, or the prompt where the question itself is not given."""
    stem: str
    options: tuple[str, ...]
    question: Question | None


class Scripted:
    """Base of the scripted policies: a subclass picks an option, this puts it into words."""

    name = "scripted"
    thought = "No look at the image was taken."
    needs_controls = False
    """Evaluations need not blank the image to see what it is worth to such a policy."""

    def __init__(self, *, bank: Bank | None = None, seed: int = 0) -> None:
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

    def __init__(self, *, bank: Bank | None = None, seed: int = 0, questions: Sequence[Question] | None = None) -> None:
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
    """Always right; needs ``observations["question"]``."""

    name = "oracle"
    thought = "The answer is known."

    def pick(self, asked: Asked, rng: np.random.Generator) -> int:
        """The right option; raises AnatomyError where the question is not given."""
        if asked.question is None:
            raise AnatomyError(f"policy {self.name!r} needs observations['question'], which evaluation gives it.")
        return asked.question.answer


class NoisyOraclePolicy(OraclePolicy):
    """Right with a given probability, else one of the wrong options at random (``noisy-oracle:0.6``)."""

    thought = "The answer is known, more or less."

    def __init__(self, probability: str = "0.6", *, bank: Bank | None = None, seed: int = 0) -> None:
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

    def __init__(self, *, bank: Bank | None = None, seed: int = 0, questions: Sequence[Question] | None = None) -> None:
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
    """What is asked at each place: from the questions where they are given, else read back from the prompts."""
    questions: Sequence[Question] | None = observations.get("question")
    if questions is not None:
        for question in questions:
            yield Asked(question.id, question.stem, question.options, question)
        return
    for prompt in observations["prompt"]:
        read = read_prompt(prompt)
        yield Asked(prompt, read.stem, read.options, None)


def _number(text: str) -> int:
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


POLICIES.register("random")(RandomPolicy)
POLICIES.register("majority")(MajorityPolicy)
POLICIES.register("longest")(LongestPolicy)
POLICIES.register("odd-case")(OddCasePolicy)
POLICIES.register("oracle")(OraclePolicy)
POLICIES.register("noisy-oracle")(NoisyOraclePolicy)
POLICIES.register("blind")(BlindPolicy)
