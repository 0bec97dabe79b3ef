"""Fixed pairs of question and response: what is shown and what is paid, the same by every way in.

python tests/integrations/contract.py 1000    # writes so many of them to contract.jsonl anew
"""

import base64
import json
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from anatomy_r1.envs import TicketOffice

FILE = Path(__file__).with_name("contract.jsonl")
SIZE = 4
COURSES = {
    "scenes": {
        "bank": "scenes",
        "curriculum": "asc",
        "augmentation": "gdqa",
        "augmentation_options": {"trigger": "always", "edits": "wordings"},
        "seed": 11,
    },
    "brain-atlas": {"bank": "brain-atlas", "seed": 12},
}
"""Tasks by name; each has half of the pairs, in groups of ``SIZE``."""
FORMS = (
    "<think>I look.</think><answer>{letter}</answer>",
    "<think>I look.</think><answer>{wrong}</answer>",
    "<think>It is dark.</think>\n<answer>({letter}) {option}</answer>\n",
    "<think>I look.</think><answer>{option}</answer>",
    "{letter}",
    "<answer>{letter}</answer><think>I look.</think>",
    "<think>I look.</think><answer>{letter}</answer><answer>{wrong}</answer>",
    "<think> </think><answer>{letter}</answer>",
    "<think>Éa \u2028?</think><answer> {letter}. </answer>",
    "<think>I look.</think><answer>{letter} or {wrong}</answer>",
    "",
)


def response(question, number):
    """The ``number``-th response, in one of the forms that are right, wrong, or no answer at all."""
    wrong = "AB"[question.letter == "A"]
    option = question.options[question.answer]
    return FORMS[number % len(FORMS)].format(letter=question.letter, wrong=wrong, option=option)


def digest(shown):
    """Of a text, or of an image's shape and pixels."""
    data = shown.encode() if isinstance(shown, str) else repr(shown.shape).encode() + shown.tobytes()
    return sha256(data).hexdigest()[:24]


def pairs(count):
    """The pairs, by tickets."""
    for course, task in COURSES.items():
        office, groups = TicketOffice(**task), count // len(COURSES) // SIZE
        for group in range(groups):
            for ticket in office.draw(1, SIZE, progress=group / groups):
                text = response(ticket.question, group * SIZE + ticket.asked.place)
                yield {
                    "course": course,
                    "progress": group / groups,
                    "question": ticket.question.id,
                    "prompt": digest(ticket.prompt),
                    "image": digest(ticket.image),
                    "response": text,
                    "reward": office.grade(ticket, text).total,
                }


def groups_of(course):
    """The pairs of a task as they lie in the file, group after group."""
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    mine = [line for line in lines if line["course"] == course]
    return [mine[start : start + SIZE] for start in range(0, len(mine), SIZE)]


def tickets(course):
    """Of each pair of a task: its line, and the ticket that is drawn for it."""
    office = TicketOffice(**COURSES[course])
    for group in groups_of(course):
        yield from zip(group, office.draw(1, SIZE, progress=group[0]["progress"]), strict=True)
        for line, ticket in zip(group, office.out, strict=True):
            office.grade(ticket, line["response"])


def pixels(uri):
    """The image of a ``data:`` address."""
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB"))


if __name__ == "__main__":
    lines = [json.dumps(pair, ensure_ascii=True) for pair in pairs(int(sys.argv[1]))]
    FILE.write_text("\n".join(lines) + "\n", encoding="utf-8")
