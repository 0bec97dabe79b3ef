"""What a step logs of ways to be paid without looking: the same letter or answer throughout, copied or empty thoughts.

Each is a count or a share of the batch's responses; ``evaluation/records/health.py`` says when it is too much.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from anatomy_r1.agents.grpo.batch import Batch
from anatomy_r1.envs import read_blocks

TOP = 5
"""Answers that are counted by name."""
WORDS = 4
"""Words in a row from the prompt that make a thought a copy of it."""
_WORD = re.compile(r"\w+")


def hack_metrics(batch: Batch) -> dict[str, int | float]:
    """Counts of letters and answers, chosen and right, and shares of responses that are copies or hold no thought.

    - ``letters/chosen/A``, ``letters/key/A``: of the responses that name an option, how often A is it, and is right;
    - ``answers/count``; ``answers/chosen/liver``, ``answers/key/liver``, ``answers/offered/liver``: the same of the
      options that are chosen most, and how often each was among the options;
    - ``completions/duplicates``: the response that is given most often, to questions that no one answer is right for;
    - ``thoughts/repeated``: the same of thoughts; ``thoughts/copied``: copied from the prompt; ``thoughts/empty``: less
      than two letters or digits.
    """
    texts = [response.text for response in batch.responses]
    thoughts = [blocks[0].strip() if (blocks := read_blocks(text)) else None for text in texts]
    words = [None if thought is None else _WORD.findall(thought.lower()) for thought in thoughts]
    return {
        **_choices(batch),
        "completions/duplicates": _repeated(batch, texts),
        "thoughts/repeated": _repeated(batch, thoughts),
        "thoughts/copied": _share(
            [found is not None and _is_copy(found, prompt) for found, prompt in zip(words, batch.prompts, strict=True)]
        ),
        "thoughts/empty": _share([found is not None and len("".join(found)) < 2 for found in words]),
    }


def _choices(batch: Batch) -> dict[str, int | float]:
    """How often each letter and the most frequent answers were chosen, and how often they were right."""
    answered = [
        (question, int(choice))
        for question, choice in zip(batch.questions, batch.info["choice"], strict=True)
        if choice >= 0
    ]
    letters = Counter(chr(ord("A") + choice) for _, choice in answered)
    right_letters = Counter(question.letter for question, _ in answered)
    answers = Counter(question.options[choice] for question, choice in answered)
    right_answers = Counter(question.options[question.answer] for question, _ in answered)
    offered = Counter(option for question, _ in answered for option in question.options)
    return {
        **{f"letters/chosen/{letter}": letters[letter] for letter in sorted(letters | right_letters)},
        **{f"letters/key/{letter}": right_letters[letter] for letter in sorted(letters | right_letters)},
        "answers/count": len(answered),
        **{f"answers/chosen/{name}": count for name, count in answers.most_common(TOP)},
        **{f"answers/key/{name}": right_answers[name] for name, _ in answers.most_common(TOP)},
        **{f"answers/offered/{name}": offered[name] for name, _ in answers.most_common(TOP)},
    }


def _repeated(batch: Batch, said: Sequence[str | None]) -> float:
    """Share of what is said most often to questions of which neither letter nor answer is the same."""
    times = Counter(text for text in said if text)
    asked: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for question, text in zip(batch.questions, said, strict=True):
        if text:
            asked[text][0].add(question.letter)
            asked[text][1].add(question.options[question.answer])
    shared = [times[text] for text, keys in asked.items() if min(map(len, keys)) > 1]
    return max(shared, default=0) / max(1, sum(text is not None for text in said))


def _is_copy(thought: Sequence[str], prompt: str) -> bool:
    """Whether a thought of some length stands in the prompt, word for word."""
    inside = f" {' '.join(_WORD.findall(prompt.lower()))} "
    return len(thought) >= WORDS and f" {' '.join(thought)} " in inside


def _share(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags) if flags else 0.0
