"""What is fuzzed: bytes in, nothing out; any exception that escapes is a fault."""

import json
import tempfile
from contextlib import suppress
from pathlib import Path

from anatomy_r1.banks import JsonlBank
from anatomy_r1.core import STYLES, AnatomyError, Question, find_markup, read_jsonl, read_prompt
from anatomy_r1.envs import lenient_score, read_blocks, score

OPTIONS = (
    ("liver", "gallbladder", "gut", "omentum"),
    ("B", "A", "D", "C"),
    ("1", "2", "10"),
    ("C. difficile", "E. coli"),
    ("yes", "no"),
    ("fémur", "Bowman’s capsule", "C3–C4", "肝脏"),
    tuple(f"rib {number}" for number in range(1, 27)),
)
_FOLDER = tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)


def judges(data: bytes) -> None:
    """A response to a question, whose options and style the first two bytes choose."""
    if len(data) < 3:
        return
    options, style = OPTIONS[data[0] % len(OPTIONS)], tuple(STYLES)[data[1] % len(STYLES)]
    text = data[2:].decode("utf-8", "surrogateescape")
    question = Question(
        id="q",
        image=Path("unread.png"),
        stem="Which?",
        options=options,
        answer=data[0] % len(options),
        structure="x",
        question_type="",
        modality="",
        group_key="g",
        source="s",
        option_style=style,
    )
    strict, lenient = score(question, text), lenient_score(question, text)
    for found in (strict, lenient):
        assert found.choice is None or 0 <= found.choice < len(options)
        assert found.correct == (found.choice == question.answer) and found.format == (found.choice is not None)
        assert found.total == 0.5 * found.format + found.correct
    assert strict.choice in (None, lenient.choice), "the lenient judge reads what the strict one does"
    assert strict.choice is None or read_blocks(text) is not None
    find_markup(text)
    with suppress(AnatomyError):
        read_prompt(text)


def jsonl(data: bytes) -> None:
    """A file of questions; the first byte says whether bad rows may go."""
    if not data:
        return
    path = Path(_FOLDER.name) / "questions.jsonl"
    path.write_bytes(data[1:])
    try:
        list(read_jsonl(path))
    except AnatomyError as error:
        assert len(str(error).splitlines()) <= 2
    try:
        bank = JsonlBank(path, require_images=False, allow_bad=bool(data[0] & 1))
    except AnatomyError:
        return
    for index in range(len(bank)):
        question = bank.question(index)
        assert (
            question.stem.strip() and 2 <= len(question.options) <= 26 and 0 <= question.answer < len(question.options)
        )
        assert len({option.strip() for option in question.options}) == len(question.options)
        assert not any(find_markup(text) for text in (question.stem, *question.options))


def seeds(name: str) -> list[bytes]:
    """What a target begins with."""
    corpus = Path(__file__).parents[1] / "envs/judge_corpus.jsonl"
    rows = [json.loads(line) for line in corpus.read_text("utf-8").splitlines()]
    if name == "judges":
        return [b"\0\0" + row["response"].encode("utf-8", "surrogatepass") for row in rows]
    good = {"id": "q", "image": "a.png", "stem": "Which?", "options": ["liver", "gut"], "answer": 0}
    more = [
        {"answer": "B"},
        {"answer": "gut"},
        {"options": {"A": "liver", "B": "gut"}, "answer": "A"},
        {"options": "['liver', 'gut']"},
        {"structure": "liver", "split": "train", "group_key": "g", "distractors": ["lung"]},
        {"question": "What?", "stem": None},
        {"image": {"bytes": "iVBORw0KGgo=", "path": "a.png"}},
    ]
    lines = [json.dumps(good | extra) for extra in ({}, *more)]
    return [flag + text.encode() for flag in (b"\0", b"\1") for text in (*lines, "\n".join(lines), "[1]", "{", "")]


TARGETS = {"judges": judges, "jsonl": jsonl}
