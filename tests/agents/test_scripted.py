import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.agents.policies import TextClassifier, sample_questions
from anatomy_r1.banks import ScenesBank, open_bank
from anatomy_r1.core import AnatomyError, Question, render_prompt
from anatomy_r1.envs import observe, score
from anatomy_r1.evaluation.records import CONTROLS, apply_control, permute_options

ORGANS = ("liver", "gut", "omentum", "gallbladder", "cystic plate")
RELEASED = Path(__file__).resolve().parents[3] / "shared/data/anatomy_r1"


class WordBank:
    """Questions in memory; with ``leak`` the stem's colour gives the answer away to those who learnt it."""

    splits = ("train", "test")
    structures = ORGANS

    def __init__(self, *, leak=False, size=1500, split=None, frequent=None):
        self.name, self.leak, self.size, self.part, self.frequent = "words", leak, size, split, frequent

    def __len__(self):
        return self.size

    def split(self, name):
        return WordBank(leak=self.leak, size=self.size, split=name, frequent=self.frequent)

    def index_of(self, question_id):
        return int(question_id.rpartition("/")[2])

    def question(self, index):
        rng = np.random.default_rng([self.splits.index(self.part or "train"), index])
        answer = ORGANS[int(rng.integers(5))]
        if self.frequent and rng.random() < 0.5:
            answer = self.frequent
        others = [organ for organ in ORGANS if organ != answer]
        options = [str(organ) for organ in rng.permutation([answer, *rng.choice(others, 3, replace=False)])]
        colour = ("brown", "red", "yellow", "green", "white")[ORGANS.index(answer) if self.leak else rng.integers(5)]
        return Question(
            id=f"words/{self.part}/{index}",
            image=lambda: np.zeros((4, 4, 3), np.uint8),
            stem=f"What is the {colour} thing?",
            options=tuple(options),
            answer=options.index(answer),
            structure=answer,
            question_type="zero-hop",
            modality="none",
            group_key=str(index),
            source="words",
        )


class Pair:
    """Some questions, by their ids."""

    name, splits = "pair", ()

    def __init__(self, questions):
        self.questions = questions

    def index_of(self, question_id):
        return [question.id for question in self.questions].index(question_id)

    def question(self, index):
        return self.questions[index]

    def split(self, name):
        raise AnatomyError("no splits")


def questions_of(bank, count, split="test"):
    return [bank.split(split).question(index) for index in range(count)]


def observations_of(questions):
    return observe(questions)


def scores(policy, questions, n=1):
    responses = policy.respond(observations_of(questions), n=n)
    assert len(responses) == n * len(questions)
    return [score(questions[place // n], response.text) for place, response in enumerate(responses)]


@pytest.mark.parametrize("spec", ["random", "majority", "oracle", "noisy-oracle:0.6", "blind"])
def test_responses_have_the_right_form_and_depend_on_nothing_but_seed_and_question(spec):
    bank = WordBank(size=60)
    questions = questions_of(bank, 40)
    policy = make_policy(spec, bank=bank, seed=3)
    assert policy.name == spec
    whole = [response.text for response in policy.respond(observations_of(questions))]
    assert all(one.format == 1.0 for one in scores(policy, questions))
    alone = [policy.respond(observations_of([question]))[0].text for question in reversed(questions)]
    assert whole == alone[::-1]
    several = [response.text for response in policy.respond(observations_of(questions), n=3)]
    assert several[::3] == whole


def test_random_is_at_chance_and_spread_over_all_letters():
    questions = questions_of(WordBank(), 1500)
    found = scores(make_policy("random", seed=1), questions)
    assert np.mean([one.correct for one in found]) == pytest.approx(0.25, abs=0.04)
    counts = Counter(one.choice for one in found)
    assert set(counts) == {0, 1, 2, 3} and min(counts.values()) > 300


def test_random_differs_between_seeds_and_between_the_responses_to_a_question():
    questions = questions_of(WordBank(), 200)
    choices = {seed: [one.choice for one in scores(make_policy("random", seed=seed), questions)] for seed in (1, 2)}
    assert 0.1 < np.mean(np.array(choices[1]) == choices[2]) < 0.4
    group = scores(make_policy("random"), [questions[0]] * 50)
    assert len({one.choice for one in group}) == 4


def test_random_respects_the_number_of_options():
    question = replace(questions_of(WordBank(), 1)[0], options=("liver", "gut"), answer=0, structure="liver")
    assert {one.choice for one in scores(make_policy("random"), [question], n=40)} == {0, 1}


def test_scripted_policies_answer_from_prompts_alone():
    bank = WordBank(leak=True, size=300)
    questions = questions_of(bank, 50)
    policy = make_policy("blind", bank=bank)
    prompts = {"image": [None] * 50, "prompt": [render_prompt(question) for question in questions]}
    assert [r.text for r in policy.respond(prompts)] == [r.text for r in policy.respond(observations_of(questions))]
    with pytest.raises(AnatomyError, match=r"prompt must end with its options.*no options here"):
        policy.respond({"image": [None], "prompt": ["no options here"]})


def test_majority_picks_the_answer_that_is_most_frequent_in_training():
    bank = WordBank(frequent="omentum")
    policy = make_policy("majority", bank=bank)
    for question in questions_of(bank, 50):
        if "omentum" in question.options:
            assert question.options[scores(policy, [question])[0].choice] == "omentum"


def test_oracle_is_always_right_and_says_what_it_lacks():
    questions = questions_of(WordBank(), 30)
    assert all(one.correct for one in scores(make_policy("oracle", bank=WordBank()), questions))
    with pytest.raises(AnatomyError, match=r"'oracle' needs observations\['question_id'\]"):
        make_policy("oracle", bank=WordBank()).respond({"image": [None], "prompt": [render_prompt(questions[0])]})


def test_noisy_oracle_is_right_as_often_as_told_and_else_wrong_in_every_way():
    question = questions_of(WordBank(), 1)[0]
    found = scores(make_policy("noisy-oracle:0.6", bank=WordBank()), [question], n=3000)
    assert np.mean([one.correct for one in found]) == pytest.approx(0.6, abs=0.03)
    wrong = Counter(one.choice for one in found if not one.correct)
    assert len(wrong) == 3 and min(wrong.values()) > 300
    for share in (0, 1):
        policy = make_policy(f"noisy-oracle:{share}", bank=WordBank())
        assert np.mean([one.correct for one in scores(policy, [question], n=50)]) == share


@pytest.mark.parametrize("argument", ["1.5", "-0.1", "nan", "often"])
def test_noisy_oracle_refuses_what_is_no_probability(argument):
    with pytest.raises(AnatomyError, match=f"between 0 and 1, got '{argument}'"):
        make_policy(f"noisy-oracle:{argument}")


@pytest.mark.parametrize("spec", ["majority", "blind"])
def test_policies_that_learn_need_a_bank(spec):
    with pytest.raises(AnatomyError, match=f"'{spec}' learns from the bank's train split"):
        make_policy(spec)


def test_blind_finds_a_planted_leak_and_is_at_chance_without_one():
    right = {}
    for leak in (True, False):
        bank = WordBank(leak=leak)
        right[leak] = np.mean([one.correct for one in scores(make_policy("blind", bank=bank), questions_of(bank, 800))])
    assert right[True] > 0.95
    assert right[False] == pytest.approx(0.25, abs=0.06)


def test_blind_finds_that_the_odd_letter_case_is_right():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(400):
        words = [f"organ {number}" for number in rng.choice(500, int(rng.integers(2, 5)), replace=False)]
        answer = int(rng.integers(len(words)))
        options = tuple(word if place == answer else word.capitalize() for place, word in enumerate(words))
        rows.append((("What is shown?", options), answer))
    classifier = TextClassifier([row for row, _ in rows[:300]], [answer for _, answer in rows[:300]])
    picked = [classifier.probabilities(*row).argmax() == answer for row, answer in rows[300:]]
    assert np.mean(picked) > 0.95


def test_the_classifier_gives_probabilities_that_do_not_depend_on_training_order():
    questions = questions_of(WordBank(leak=True), 200)
    texts, answers = [(q.stem, q.options) for q in questions], [q.answer for q in questions]
    first = TextClassifier(texts, answers).probabilities(*texts[0])
    second = TextClassifier(texts[::-1], answers[::-1]).probabilities(*texts[0])
    assert first.shape == (4,) and first.sum() == pytest.approx(1) and (first > 0).all()
    assert first == pytest.approx(second, abs=1e-6)
    with pytest.raises(AnatomyError, match="needs questions to learn from"):
        TextClassifier([], [])


def test_what_is_learnt_of_a_made_bank_is_made_once_for_all_that_equal_it(monkeypatch):
    made, make = [], ScenesBank._make
    monkeypatch.setattr(ScenesBank, "_make", lambda bank, at, name: made.append(at) or make(bank, at, name))
    first, again = (sample_questions(ScenesBank(seed=9), "train", 20, 0) for _ in range(2))
    assert first == again and len(made) == 20
    for other in (ScenesBank(seed=10), ScenesBank(seed=9, size=48), ScenesBank(seed=9, length=30)):
        assert sample_questions(other, "train", 20, 0)[0].pixels().shape[0] == other.size
    assert len(made) == 80


def test_scenes_give_nothing_away_to_the_blind():
    bank = open_bank("scenes")
    right = [one.correct for one in scores(make_policy("blind", bank=bank), questions_of(bank, 600))]
    assert np.mean(right) < 0.31


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the released Anatomy-R1 rows are not here")
def test_blind_reaches_the_text_only_accuracy_of_the_released_rows():
    rows = [row for path in sorted(RELEASED.glob("*.json")) for row in map(released_row, json.loads(path.read_text()))]
    assert len(rows) == 3000
    videos = sorted({video for _, _, video in rows})
    fold = {video: place % 5 for place, video in enumerate(np.random.default_rng(0).permutation(videos).tolist())}
    right = []
    for held_out in range(5):
        train = [row for row in rows if fold[row[2]] != held_out]
        classifier = TextClassifier([text for text, _, _ in train], [answer for _, answer, _ in train])
        right += [classifier.probabilities(*t).argmax() == a for t, a, video in rows if fold[video] == held_out]
    assert np.mean(right) >= 0.47


def released_row(row):
    """Stem and options, index of the right one, video."""
    stem, options = row["instruction"].split("Question:\n")[1].split("\nAnatomy Options:\n")
    video = re.search(r"VID\d+", str(row["images"]))[0]
    return (stem, tuple(line[3:] for line in options.splitlines())), "ABCD".index(row["solution"]), video


def test_the_oracle_finds_the_answer_of_other_orders_controls_and_names_that_look_like_orders():
    bank = WordBank()
    asked = questions_of(bank, 20)
    forms = [permute_options(question, number) for question in asked for number in range(6)]
    forms += [apply_control(name, asked[3], 3, range(20), bank.split("test").question) for name in CONTROLS]
    assert all(one.correct for one in scores(make_policy("oracle", bank=bank), forms))
    assert all(one.correct for one in scores(make_policy("oracle", bank=bank.split("test")), forms))

    first, second = replace(asked[0], id="q"), replace(asked[1], id="q~1", stem="What else?")
    pair = Pair((first, second))
    assert all(one.correct for one in scores(make_policy("oracle", bank=pair), [second, permute_options(first, 1)]))


def test_the_oracle_knows_its_own_bank_alone():
    asked = observations_of(questions_of(WordBank(), 1))
    with pytest.raises(AnatomyError, match=r"knows the answers of the bank it is built with: pass bank="):
        make_policy("oracle").respond(asked)
    with pytest.raises(AnatomyError, match=r"bank 'scenes' has no question 'words/test/0'"):
        make_policy("oracle", bank="scenes").respond(asked)
