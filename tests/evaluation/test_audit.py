from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anatomy_r1.banks import AnatomyR1Bank, OmniMedVQABank, open_bank
from anatomy_r1.core import Question
from anatomy_r1.evaluation.audits import audit
from anatomy_r1.evaluation.audits.shortcuts import bets
from anatomy_r1.evaluation.stats import group_folds

DATA = Path(__file__).resolve().parents[3] / "shared/data"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
ORGANS = ("Liver", "Gut", "Omentum", "Spleen", "Kidney", "Heart")


def plain(number, seed=0):
    """A question that gives nothing away."""
    rng = np.random.default_rng([seed, number])
    options = tuple(str(name) for name in rng.permutation(ORGANS)[:4])
    answer = int(rng.integers(4))
    return Question(
        id=str(number),
        image=Path(f"frame-{number}.png"),
        stem=f"What is at place {rng.integers(30)}?",
        options=options,
        answer=answer,
        structure=options[answer],
        question_type="t",
        modality="m",
        group_key=f"g{number // 3}",
        source="s",
    )


class Listed:
    name = "listed"

    def __init__(self, splits, chosen=None):
        self._splits, self.splits = splits, tuple(splits)
        self._questions = [q for part in splits.values() for q in part] if chosen is None else splits[chosen]

    def __len__(self):
        return len(self._questions)

    def question(self, index):
        return self._questions[index]

    def split(self, name):
        return Listed(self._splits, name)


def audited(change, count=600, **options):
    return audit(Listed({"test": [change(plain(number)) for number in range(count)]}), **options)


def to_right(question, option):
    options = tuple(option if place == question.answer else one for place, one in enumerate(question.options))
    return replace(question, options=options)


def same(question):
    return question


def test_a_clean_bank_has_no_findings():
    found = audited(same)
    assert found.findings == () and found.chance.value == 0.25 and found.n == 600
    for rule in found.rules.values():
        assert rule.value == pytest.approx(0.25, abs=0.06)
    assert sum(found.letters.values()) == sum(found.answers.values()) == 600


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("longest", lambda q: to_right(q, q.options[q.answer] + " with its vessels")),
        ("odd-case", lambda q: to_right(q, q.options[q.answer].lower())),
        ("stop", lambda q: to_right(q, q.options[q.answer] + ".")),
        ("named", lambda q: replace(q, stem=f"{q.stem[:-1]}, as {q.options[q.answer - 1]} is not?")),
        ("named", lambda q: replace(q, stem=f"Is it {q.options[q.answer]}, at that place?")),
        ("blind", lambda q: replace(q, stem=f"What is the {('red', 'brown')[q.structure > 'L']} thing?")),
        ("letter", lambda q: q if int(q.id) % 2 else replace(q, answer=2, structure=q.options[2])),
    ],
)
def test_each_planted_shortcut_is_found_and_named(rule, change):
    found = audited(change)
    assert found.rules[rule].ci_low > 0.27
    assert any(finding.what.split(":")[0] in WORDS[rule] for finding in found.findings), found.findings
    assert all(finding.advice for finding in found.findings)


WORDS = {
    "longest": "longest option",
    "odd-case": "odd one out in letter case",
    "stop": "odd one out in full stop",
    "named": "options named in the question",
    "blind": "text-only classifier",
    "letter": "most frequent letter",
}


def test_a_frequent_answer_is_found():
    def change(question):
        if int(question.id) % 2 or "Gut" not in question.options:
            return question
        return replace(question, answer=question.options.index("Gut"), structure="Gut")

    found = audited(change)
    assert found.rules["majority"].ci_low > 0.3 and next(iter(found.answers)) == "Gut"


def test_splits_that_share_images_or_groups_or_questions_are_told():
    train, test = [plain(number) for number in range(90)], [plain(number, 1) for number in range(90, 180)]
    assert audit(Listed({"train": train, "test": test})).leaks == ()
    test[0] = replace(test[0], image=train[4].image)
    test[1] = replace(test[1], group_key=train[7].group_key)
    test[2] = replace(train[9], id="copy", options=train[9].options[::-1], answer=3 - train[9].answer)
    leaks = {leak.kind: leak for leak in audit(Listed({"train": train, "test": test})).leaks}
    assert {kind: leak.shared for kind, leak in leaks.items()} == {"image": 2, "group": 2, "question": 1}
    assert leaks["image"].share == pytest.approx(2 / 90)
    assert (leaks["image"].first, leaks["image"].second) == ("train", "test")


def test_rules_learn_on_other_groups_only():
    questions = [plain(number) for number in range(60)]
    folds = group_folds([question.group_key for question in questions], 0)
    for group in {question.group_key for question in questions}:
        assert len({int(f) for f, q in zip(folds, questions, strict=True) if q.group_key == group}) == 1
    # All questions of a group say the same strange word beside the same answer: it must not help on that group.
    marked = [
        replace(
            q,
            stem=f"What is word{q.group_key}?",
            options=("Liver", "Gut"),
            answer=int(q.group_key[1:]) % 2,
            structure=("Liver", "Gut")[int(q.group_key[1:]) % 2],
        )
        for q in questions
    ]
    assert bets(marked)["blind"].mean() < 0.75


def test_a_single_group_is_not_cut_for_want_of_others():
    """Questions of one video tell about each other: what is learnt from some of them proves nothing on the rest."""
    questions = [
        to_right(replace(plain(number), group_key="video"), f"the {number % 3}th organ") for number in range(60)
    ]
    assert set(bets(questions)) == {"longest", "odd-case", "stop"}
    found = audit(Listed({"test": questions}))
    assert found.findings == () and found.left_out.keys() == {"letter", "majority", "named", "blind"}
    assert found.too_few == "all questions are of 1 group; it takes at least 5"


@pytest.mark.parametrize(("groups", "said"), [(2, True), (4, True), (5, False)])
def test_of_few_groups_it_is_said_that_they_are_too_few(groups, said):
    questions = [to_right(replace(plain(n), group_key=f"g{n % groups}"), "the longest of all") for n in range(200)]
    found = audit(Listed({"test": questions}))
    assert found.rules["longest"].value == 1.0 and found.groups == groups and not found.left_out
    assert (found.too_few is not None) is said and bool(found.findings) is not said


def test_ties_are_worth_what_a_random_choice_among_them_is():
    question = replace(plain(0), options=("aa", "bb", "c", "d"), answer=0, structure="aa")
    assert bets([question] * 5)["longest"].tolist() == [0.5] * 5


def test_part_of_a_bank_can_be_audited():
    bank = Listed(
        {"train": [plain(number) for number in range(50)], "test": [plain(number, 1) for number in range(40)]}
    )
    assert (audit(bank, split="test").n, audit(bank).n, audit(bank, limit=30).n) == (40, 90, 30)


def test_scenes_have_no_shortcut_and_their_images_are_never_drawn(monkeypatch):
    monkeypatch.setattr(Question, "pixels", lambda self: pytest.fail("an image was drawn"))
    found = audit(open_bank("scenes"), limit=300)
    assert not [finding for finding in found.findings if finding.grave] and found.leaks == ()
    assert set(found.splits) == {"train", "validation", "test"}


@needs_data
def test_the_released_rows_give_away_about_half():
    found = audit(AnatomyR1Bank(DATA / "anatomy_r1", require_images=False))
    assert found.n == 3000 and found.rules["blind"].value >= 0.45
    assert found.rules["letter"].value < 0.28
    assert found.rules["blind"].clusters == 38
    assert any(finding.grave and "text-only classifier" in finding.what for finding in found.findings)


@needs_data
def test_letter_case_gives_omnimedvqa_away_until_it_is_normalised(monkeypatch):
    monkeypatch.setattr(
        "anatomy_r1.evaluation.audits.shortcuts.LEARNT", 300
    )  # the classifier is not what is tested here
    as_is = OmniMedVQABank(DATA / "omnimedvqa", require_images=False)
    normalised = OmniMedVQABank(DATA / "omnimedvqa", options="normalised", require_images=False)
    found = audit(as_is, limit=6000)
    types = {name.casefold(): part for name, part in found.by["question_type"].items()}
    assert found.by["modality"]["ultrasound"]["odd-case"].value == pytest.approx(0.93, abs=0.02)
    assert types["anatomy identification"]["odd-case"].value == pytest.approx(0.76, abs=0.02)
    clean = audit(normalised, limit=6000)
    for part in clean.by["modality"].values():
        assert part["odd-case"].value == pytest.approx(part["chance"].value, abs=0.01)
