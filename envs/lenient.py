r"""A second judge, for benchmarks of models that were never told our form: it reads the answer wherever it plainly is.

What the strict judge reads is read the same here. Other responses may leave out the thought, and put the answer into
``<answer>`` or ``\boxed{}``, behind ``Answer:`` or "the answer is", into bold, or on a line of its own; as ``**B**``,
``B: liver``, ``liver (B)``, "the liver". A response that answers twice, and differently, has no answer, and so has one
whose thought never ends. Options are not looked for within sentences: to be talked about is not to be chosen.

Training is paid by the strict judge alone. Every pass is linear in the length of the text: what is looked at again is
never longer than ``_LONGEST``.
"""

import re
from collections.abc import Iterator

from anatomy_r1.core import LETTERS, Question, canonical, is_visible, normalise, read_label, read_option
from anatomy_r1.envs.reward import DEFAULT_REWARD, RewardConfig, Score, graded, read_response

_LONGEST = 400
"""Characters within which an answer must have ended."""
_ORNAMENT = 80
"""Characters by which it may be longer than the longest option."""
_TAG = re.compile(
    r"[<◁\[][ ]{0,3}(/?)[ ]{0,3}(think|thinking|thought|reasoning|(?:final_)?answer|conclusion)[ ]{0,3}[>▷\]]",
    re.IGNORECASE,
)
_ANSWERS = {"answer", "final_answer", "conclusion"}
_END_OF_TURN = re.compile(r"<\|(?:im_end|endoftext|eot_id|end|return)\|>|</s>|<eos>|<end_of_(?:turn|utterance)>")
_STRONG = re.compile(r"<\|(?:begin|end)_of_box\|>|</?(?:b|strong)>|__")
_FENCE = re.compile(r"```[a-z]{0,12}")
_BOX = re.compile(r"\\f?box(?:ed)?[ ]{0,3}\{")
_BOLD = re.compile(r"(?:([A-Za-z']{1,12}) )?\*\*([^*\n]{1,400})\*\*")
_CUE = re.compile(
    r"(?:\b(?:answers?|réponse|respuesta|antwort|resposta|risposta)|ответ|答案|答え"
    r"|\b(?:correct|right|best|final|chosen) (?:option|choice|letter))"
    r"[ \"'*_`)]{0,4}(?::|=|- |\b(?:is|est|es|ist|é|(?:would|should|must|will) be)\b(?!n't)|為|为|是|は)[ ]{0,3}:?"
    r"|\b(?:I|we)(?:'ll|'d| will| would)? (?:choose|pick|select|go with|opt for)\b:?",
    re.IGNORECASE,
)
_CONFIRMED = re.compile(
    r"(?<![\w'])(?:option |choice )?\(?([A-Z])[).:]? is (?:clearly )?(?:the )?(?:correct|right|best)\b"
)
_DENIAL = re.compile(r"(?:\b(?:not|never|no|wrong|incorrect|except|neither|nor|without|unlike)|n't)\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:never|no|wrong|incorrect|except|neither|nor|without|unlike) $", re.IGNORECASE)
_SUPPOSED = re.compile(r"(?:\b(?:if|whether|unless|not)|n't)(?: [a-z]{1,10}){0,3} ?$", re.IGNORECASE)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|f?boxed|f?box)[ ]{0,3}\{")
_NAMED = re.compile(
    r"(?:the )?(?:correct |final )?(?:answer|option|choice|letter|选项|选择|选|答案)[ :]{0,3}", re.IGNORECASE
)
_SENTENCE = re.compile(r"(?:it|this|that)(?:'s| is) (?:clearly )?(?=\S)", re.IGNORECASE)
_ARTICLE = re.compile(r"(?:[Tt]he|[Aa]n|a) ")
_LABEL = r"\(?([A-Za-z]|[1-9][0-9]?)\)?"
_LABEL_AND_TEXT = re.compile(_LABEL + r"(?:[ ]{0,3}[.:,、=-]|[ ])[ ]{0,3}(?=\S)")
_CONFIRMATION = re.compile(r"(.*\S) is (?:the )?(?:correct|right|best)(?: (?:answer|option|choice))?", re.DOTALL)
_TEXT_AND_LABEL = re.compile(r"(.*\S)[ ]{0,3}\(([A-Za-z])\)", re.DOTALL)
_LED = re.compile(r"\(?[A-Z](?:\)|[.):,])[ \n]")
_OTHER_LABEL = re.compile(r"(?<!\w)(?:\(([A-Z])\)|([A-Z])[.):](?=\s|$))")
_CLAUSE = re.compile(r"[,;.?](?=\s|$)| (?:because|since|as|due to|which|given) ", re.IGNORECASE)
_NEXT = re.compile(r"\s*(?:(or|maybe|perhaps|possibly|alternatively)\b|(?:and|but|/|&)\s+)?\s*", re.IGNORECASE)
_EDGES = " \t\r\n*_`\"'~#$[]{}<>|!?;:,、-"


def lenient_score(question: Question, text: str, config: RewardConfig = DEFAULT_REWARD) -> Score:
    """Judge a response as :func:`read_leniently` reads it; ``format`` says whether an answer was found.

    Raises:
        AnatomyError: the response is not text, or an extra part gave something other than a finite number.
    """
    return graded(question, text, config, read_leniently)


def read_leniently(question: Question, text: str) -> int | None:
    """Index of the one option that a response settles on, in whatever form; None where it settles on none or on two."""
    if (strict := read_response(question, text)) is not None:
        return strict
    plain = _FENCE.sub("\n", _STRONG.sub("**", _END_OF_TURN.split(canonical(text), maxsplit=1)[0]))
    parts, reader = _outside_thoughts(plain), _Reader(question)
    if parts is None:
        return None
    said, blocks, after = parts
    if not blocks:
        return reader.settle(said)
    found = {reader.settle(block) for block in blocks} | set(reader.marks(said))
    found |= {choice for line in after.split("\n") if (choice := reader.exact(line)) is not None}
    hedged = _NEXT.match(after.lstrip(".,; \n"))
    return found.pop() if len(found) == 1 and not (hedged and hedged[1]) else None


def _outside_thoughts(text: str) -> tuple[str, list[str], str] | None:
    """What is said outside thoughts and ``<answer>`` blocks, those blocks, and what is said after the last of them.

    What comes before a ``</think>`` that was never opened is a thought: chat templates open it in the prompt. None
    where a thought has no end and no answer.
    """
    tags = list(_TAG.finditer(text))
    last_end = max((tag.start() for tag in tags if tag[1] and tag[2].lower() not in _ANSWERS), default=-1)
    said: list[str] = []
    blocks: list[str] = []
    state, start, thoughts, seen = "said", 0, 0, 0
    for tag in tags:
        piece, start = text[start : tag.start()], tag.end()
        closing, answer = bool(tag[1]), tag[2].lower() in _ANSWERS
        if state == "thought" and (not closing or answer) and not (answer and tag.start() > last_end):
            continue  # quoted within the thought
        if state == "answer" and is_visible(piece) and (closing or not answer):
            blocks.append(piece)
            seen = len(said)
        elif state == "said":
            said.append(piece)
        if closing and not answer and not thoughts:
            said, blocks, seen = [], [], 0
        thoughts += not answer
        state = "said" if closing else "answer" if answer else "thought"
    if state == "answer" and is_visible(text[start:]):
        blocks.append(text[start:])
        seen = len(said)
    elif state == "said":
        said.append(text[start:])
    return None if state == "thought" else ("\n".join(said), blocks, "\n".join(said[seen:]))


class _Reader:
    """Reads pieces of a response to one question."""

    def __init__(self, question: Question) -> None:
        self.options, self.style = question.options, question.option_style
        self.texts = [normalise(option) for option in question.options]
        self.longest = min(_LONGEST, max(map(len, question.options)) + _ORNAMENT)

    def settle(self, text: str) -> int | None:
        """The one option that a text without tags settles on."""
        if (whole := self.exact(text)) is not None:
            return whole
        for places in (self.marks(text), self._bold(text)):
            if found := set(places):
                return found.pop() if len(found) == 1 else None
        return self._lines(text)

    def marks(self, text: str) -> Iterator[int | None]:
        """Choices of boxes, of what follows "the answer is", and of "B is correct"; None where one is not readable."""
        for box in _BOX.finditer(text):
            yield self.exact(_braced(text, box.end()))
        for cue in _CUE.finditer(text):
            if not _supposed(text, cue.start()):
                yield from self._opening(text[cue.end() : cue.end() + _LONGEST].lstrip(_EDGES))
        for found in _CONFIRMED.finditer(text):
            if not _supposed(text, found.start()):
                yield self.exact(found[1])

    def exact(self, text: str) -> int | None:
        """The option that a text names and does nothing else."""
        text = _unwrapped(text)
        if not text or len(text) > self.longest:
            return None
        if (choice := read_option(text, self.options, self.style)) is not None:
            return choice
        for prefix in (_NAMED, _SENTENCE):
            if (found := prefix.match(text)) and found.end() < len(text):
                return self.exact(text[found.end() :])
        if (found := _ARTICLE.match(text)) and (choice := self._text(text[found.end() :])) is not None:
            return choice
        if found := _LABEL_AND_TEXT.match(text):
            return self._agreed(found[1], text[found.end() :])
        if found := _TEXT_AND_LABEL.fullmatch(text):
            return self._agreed(found[2], found[1])
        found = _CONFIRMATION.fullmatch(text.removesuffix("."))
        return self.exact(found[1]) if found else None

    def _agreed(self, label: str, text: str) -> int | None:
        place = self._text(_ARTICLE.sub("", _unwrapped(text).removeprefix("(").removesuffix(")"), count=1))
        return place if place is not None and read_label(label, self.style) == (place, "") else None

    def _text(self, text: str) -> int | None:
        plain = normalise(text)
        return self.texts.index(plain) if plain in self.texts else None

    def _opening(self, text: str) -> list[int | None]:
        """The option that a text begins with, and a None where another one follows at once; empty for a question."""
        line = text.partition("\n")[0]
        if (choice := self.exact(line)) is not None:
            return [] if line.rstrip(_EDGES.replace("?", "")).endswith("?") else [choice]
        for _, end in zip(range(3), _CLAUSE.finditer(line), strict=False):
            if (choice := self.exact(line[: end.start()])) is not None:
                another = self._continues(line[end.end() :], choice)
                return [] if end[0] == "?" else [choice, None] if another else [choice]
        return []

    def _continues(self, rest: str, choice: int) -> bool:
        """Whether what follows an answer is another one."""
        found = _NEXT.match(rest)
        assert found is not None
        rest = _unwrapped(rest[found.end() :])
        label = re.match(rf"{_LABEL}(?![\w'])(?! [a-z])|([B-HJ-Z])(?!\w)", rest)
        named = read_label((label[1] or label[2]), self.style) if label else None
        if found[1] or (named is not None and named[0] != choice and named[0] < len(self.texts)):
            return True
        plain = normalise(_ARTICLE.sub("", rest, count=1))
        return any(re.match(rf"{re.escape(text)}(?!\w)", plain) for at, text in enumerate(self.texts) if at != choice)

    def _bold(self, text: str) -> Iterator[int]:
        for span in _BOLD.finditer(text):
            if not _DENIAL.search(span[1] or "") and (choice := self.exact(span[2])) is not None:
                yield choice

    def _lines(self, text: str) -> int | None:
        """The one option that lines consist of, if the first or the last does; else the one the text opens with."""
        lines = [line for line in text.split("\n") if is_visible(line)]
        choices = [self.exact(line) for line in lines]
        found = {choice for choice in choices if choice is not None}
        if found:
            return found.pop() if len(found) == 1 and (choices[0] is not None or choices[-1] is not None) else None
        first = lines[0].lstrip(_EDGES)[:_LONGEST] if lines else ""
        if not _LED.match(first) or _DENIAL.search(first):
            return None
        others = {LETTERS.index(label[1] or label[2]) for label in _OTHER_LABEL.finditer(text)}
        choices = self._opening(first)
        others = {place for place in others if place < len(self.texts)} - set(choices)
        return choices[0] if len(choices) == 1 and not others else None


def _supposed(text: str, start: int) -> bool:
    """Whether the words before ``start`` make what follows a condition, a question or what is not so."""
    before = text[max(0, start - 40) : start]
    return _SUPPOSED.search(before) is not None or _DENIED.search(before) is not None


def _unwrapped(text: str) -> str:
    r"""``text`` without white space, emphasis, quotes and ``\text{}`` around it."""
    closed, text = "}" in text, text.strip(_EDGES)
    for _ in range(3 if closed else 0):
        if not (found := _WRAPPED.match(text)):
            break
        text = text[found.end() :].strip(_EDGES)
    return text


def _braced(text: str, start: int) -> str:
    """What stands from ``start`` to the brace that closes; empty where none does."""
    depth = 1
    for at, character in enumerate(text[start : start + _LONGEST]):
        depth += (character == "{") - (character == "}")
        if not depth:
            return text[start : start + at]
    return ""
