"""Paraphrases of stems by a language model behind an OpenAI-compatible endpoint, checked before use.

An answer is kept on disk, so a question is paraphrased once and a resumed run sees the same wordings. A paraphrase
counts only if numbers, negations, words of side and place, colours, modalities and anatomy are those of the original;
refused ones are logged with the reason. While the endpoint is down, stems are rewritten by the grammar instead.
"""

import json
import os
import re
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np

from anatomy_r1.core import AnatomyError, Question, append_json, find_markup, normalise, open_regular
from anatomy_r1.curricula.edits.images import COLOURS, PLACES
from anatomy_r1.curricula.edits.variants import GrammarRewrite

PROMPT = (
    "Reword this question about a medical image in {count} different ways, one per line, without numbering. Keep its "
    "meaning exactly: every number, negation, direction, side, colour, modality and anatomical term must stay, and "
    "none may be added. Do not answer it.\n\n{stem}"
)
PAUSE = 32
"""Questions that are not sent after a failure; the endpoint may be back by then."""
KEY = "OPENAI_API_KEY"
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_KEPT = {
    "negations": r"no|not|none|never|neither|nor|without|except|absent|cannot|[a-z]+n['’]t",
    "words of side or place": PLACES,
    "colours": COLOURS,
    "modalities": r"ct|mri|mr|pet|x-?ray|ultrasound|sonogra[a-z]+|endoscop[a-z]+|radiograph[a-z]*|oct|microscop[a-z]+",
}
_LISTED = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.)])\s+|^\s*\"|\"\s*$")


def check_paraphrase(original: str, text: str, anatomy: Sequence[str]) -> str:
    """Why a paraphrase is no safe stand-in for the original; empty if it is.

    Args:
        original: the stem.
        text: the paraphrase.
        anatomy: names of structures; those in the original must stay and no other may come.
    """
    if not normalise(text) or find_markup(text) or "\n" in text:
        return "it is empty, holds markup or has several lines"
    if normalise(text) == normalise(original):
        return "nothing changed"
    if len(text) > 2 * len(original) + 80:
        return "it is much longer"
    if Counter(_NUMBER.findall(original)) != Counter(_NUMBER.findall(text)):
        return "numbers differ"
    for what, words in _KEPT.items():
        if _words(original, words) != _words(text, words):
            return f"{what} differ"
    plain, reworded = (f" {re.sub(r'[^a-z0-9]+', ' ', normalise(stem))} " for stem in (original, text))
    for name in anatomy:
        key = f" {re.sub(r'[^a-z0-9]+', ' ', normalise(name)).strip()} "
        if (key in plain) != (key in reworded):
            return f"anatomy differs ({name!r})"
    return "" if ("?" in original) == ("?" in text) else "one asks and the other does not"


def _words(text: str, pattern: str) -> Counter[str]:
    return Counter(re.findall(rf"(?<![a-z])(?:{pattern})(?![a-z])", text.lower()))


class Paraphrase:
    """Another wording of the stem by a language model.

    Args:
        endpoint: ``MODEL@URL`` of a chat-completions service, as ``qwen3@http://127.0.0.1:8000/v1``. Its key, if it
            needs one, is in the environment variable ``OPENAI_API_KEY`` and is written nowhere.
        anatomy: names of the bank's structures.
        folder: holds ``paraphrases.jsonl`` (the cache) and ``refused.jsonl`` (the log).
        count: paraphrases asked for per stem.
        timeout: seconds to wait for an answer.

    Raises:
        AnatomyError: the endpoint is not of that form, or the cache can't be read or written.
    """

    name = "llm"

    def __init__(
        self,
        endpoint: str,
        *,
        anatomy: Sequence[str] = (),
        folder: str | Path = "runs/paraphrases",
        count: int = 4,
        timeout: float = 20.0,
    ) -> None:
        self.model, _, url = endpoint.partition("@")
        if not self.model or not url.startswith(("http://", "https://")):
            raise AnatomyError(f"llm: expected MODEL@URL, as llm:qwen3@http://127.0.0.1:8000/v1; got {endpoint!r}.")
        self.url = f"{url.rstrip('/')}/chat/completions"
        self.anatomy, self.count, self.timeout = tuple(anatomy), count, timeout
        self.folder = Path(folder)
        self.counts: Counter[str] = Counter()
        """``asked``, ``cached``, ``refused`` paraphrases, and stems for which the endpoint was ``unreachable``."""
        self._pause = 0
        self._grammar = GrammarRewrite()
        self._known = self._read_cache()

    def refuses(self, question: Question) -> str:
        """Every stem may be paraphrased; what comes back is checked."""
        return ""

    def apply(self, question: Question, rng: np.random.Generator) -> tuple[Question, str] | None:
        """Reword the stem; by the grammar, where there is no paraphrase to be had because the endpoint is down."""
        wordings = self._wordings(question)
        if wordings is None:
            return self._grammar.apply(question, rng)
        at = int(rng.integers(len(wordings) + 1))
        return None if at == len(wordings) else (replace(question, stem=wordings[at]), f"{self.name}:{at}")

    def _wordings(self, question: Question) -> list[str] | None:
        """Checked paraphrases; None if the endpoint is down."""
        key = sha256(json.dumps([self.model, PROMPT, question.stem]).encode()).hexdigest()[:24]
        if (answers := self._known.get(key)) is not None:
            self.counts["cached"] += 1
        elif self._pause:
            self._pause -= 1
            self.counts["unreachable"] += 1
            return None
        else:
            try:
                answers = self._ask(question.stem)
            except (OSError, ValueError, KeyError, IndexError, TypeError):
                self._pause = PAUSE
                self.counts["unreachable"] += 1
                return None
            self.counts["asked"] += 1
            self._known[key] = answers
            row = {"key": key, "model": self.model, "stem": question.stem, "answers": answers}
            append_json(self.folder / "paraphrases.jsonl", row)
            self._log_refused(question, answers)
        return [text for text in answers if not self._check(question, text)]

    def _check(self, question: Question, text: str) -> str:
        return check_paraphrase(question.stem, text, (*self.anatomy, *question.options))

    def _log_refused(self, question: Question, answers: Sequence[str]) -> None:
        for text in answers:
            if reason := self._check(question, text):
                self.counts["refused"] += 1
                row = {"stem": question.stem, "paraphrase": text, "reason": reason}
                append_json(self.folder / "refused.jsonl", row)

    def _ask(self, stem: str) -> list[str]:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": PROMPT.format(count=self.count, stem=stem)}],
            "temperature": 0.8,
        }
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as response:
            content = json.loads(response.read(1 << 20))["choices"][0]["message"]["content"]
        lines = [_LISTED.sub("", _LISTED.sub("", line)).strip() for line in content.splitlines()]
        return [line for line in dict.fromkeys(lines) if line][: 2 * self.count]

    def _read_cache(self) -> dict[str, list[str]]:
        path, known = self.folder / "paraphrases.jsonl", {}
        if path.exists():
            with open_regular(path) as lines:
                for line in lines:
                    try:
                        row = json.loads(line.decode("utf-8", "replace"))
                        known[str(row["key"])] = [str(text) for text in row["answers"]]
                    except (ValueError, KeyError, TypeError):
                        continue  # a line torn by a kill is asked for again
        return known
