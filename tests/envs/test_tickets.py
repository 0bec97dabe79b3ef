"""Tickets: what is drawn is what the grouped env asks, and grading may come in any order, from anywhere, once."""

import base64
import json
import pickle
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import Variant
from anatomy_r1.envs import AnatomyVQAVectorEnv, TicketOffice, score

TASK = {
    "bank": "scenes",
    "curriculum": "asc",
    "augmentation": "gdqa",
    "augmentation_options": {"trigger": "always", "edits": "default"},
    "seed": 3,
}
EDITS = ["default", "wordings", "grammatical", "free-form", "jpeg,rotate,flip,permute"]


def answer(letter):
    return f"<think>I look.</think><answer>{letter}</answer>"


def right(ticket):
    return answer(ticket.question.letter)


def prompts(tickets):
    return [ticket.prompt for ticket in tickets]


def test_tickets_are_what_the_grouped_env_asks(make_task):
    """Over the course of several batches: the curriculum hears the same of both."""
    office, env = TicketOffice(**make_task(5)), AnatomyVQAVectorEnv(8, group_size=4, **make_task(5))
    for _ in range(5):
        tickets, (observations, info) = office.draw(2, 4), env.reset()
        assert tuple(prompts(tickets)) == observations["prompt"]
        assert all(map(np.array_equal, [ticket.image for ticket in tickets], observations["image"]))
        assert [ticket.variant.edits for ticket in tickets] == info["edits"].tolist()
        assert [ticket.group % 2 for ticket in tickets] == info["group"].tolist()
        texts = [answer("A") if place % 2 else right(ticket) for place, ticket in enumerate(tickets)]
        paid = [office.grade(ticket, text).total for ticket, text in zip(tickets, texts, strict=True)]
        assert paid == env.step(texts)[1].tolist()
    assert office.stream.curriculum.outcomes == env.stream.curriculum.outcomes and len(paid) == 8


def test_in_any_order_the_curriculum_hears_of_complete_groups_by_their_places(make_task):
    office = TicketOffice(**make_task(1))
    tickets = office.draw(3, 4)
    shuffled = random.Random(0).sample(tickets, len(tickets))
    told = office.stream.curriculum.outcomes
    for number, ticket in enumerate(shuffled):
        before = len(told)
        office.grade(ticket.id, right(ticket) if ticket.asked.place == 0 else "nonsense")
        done = all(other in shuffled[: number + 1] for other in tickets if other.group == ticket.group)
        assert len(told) == before + done
    assert sorted(outcome.question.id for outcome in told) == sorted({t.asked.question.id for t in tickets})
    assert all(outcome.correct == (True, False, False, False) for outcome in told)
    assert office.out == []


def test_drawing_ahead_changes_nothing_that_is_not_learnt():
    task = {"bank": "scenes", "seed": 3}
    ahead, careful = TicketOffice(**task), TicketOffice(**task)
    first = ahead.draw(6, 2)
    then = []
    for _ in range(6):
        then += careful.draw(1, 2)
        for ticket in then[-2:]:
            careful.grade(ticket, right(ticket))
    assert [ticket.id for ticket in first] == [ticket.id for ticket in then]


@pytest.mark.parametrize("edits", EDITS)
def test_an_id_is_enough_to_ask_the_same_again(edits):
    task = {**TASK, "augmentation_options": {"trigger": "always", "edits": edits.split(",") if "," in edits else edits}}
    office, other = TicketOffice(**task), TicketOffice(**task)
    tickets = office.draw(4, 6, progress=0.7)
    for ticket in tickets:
        again = other.read(ticket.id)
        assert again.asked.question == ticket.asked.question and again.id == ticket.id
        assert again.question == ticket.question and again.variant.edits == ticket.variant.edits
        assert again.prompt == ticket.prompt and np.array_equal(again.image, ticket.image)
        assert other.grade(again, right(ticket)) == score(ticket.question, right(ticket))
    assert any(ticket.variant.edits for ticket in tickets)


def test_another_process_grades_the_same():
    tickets = TicketOffice(**TASK).draw(2, 4)
    code = (
        "import json, sys; from anatomy_r1.envs import TicketOffice; given = json.load(sys.stdin);"
        "office = TicketOffice(**given['task']);"
        "print(json.dumps([office.grade(*pair).total for pair in given['pairs']]))"
    )
    pairs = [(ticket.id, right(ticket) if place % 3 else answer("A")) for place, ticket in enumerate(tickets)]
    given = json.dumps({"task": TASK, "pairs": pairs})
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True)
    own = [score(t.question, text).total for t, (_, text) in zip(tickets, pairs, strict=True)]
    assert done.returncode == 0 and json.loads(done.stdout) == own, done.stderr


def test_an_id_does_not_tell_the_answer():
    for ticket in TicketOffice(**TASK).draw(8, 4):
        payload = json.loads(base64.urlsafe_b64decode(ticket.id.split(".")[-1] + "=="))
        assert "answer" not in payload["seen"] and "answer" not in payload["chosen"]
        assert "structure" not in payload["seen"]


def test_a_pickled_office_goes_on_as_the_original():
    office = TicketOffice(**TASK)
    tickets = office.draw(3, 4)
    for ticket in tickets[:6]:
        office.grade(ticket, right(ticket))
    twin = pickle.loads(pickle.dumps(office))
    assert [ticket.id for ticket in twin.out] == [ticket.id for ticket in tickets[6:]]
    for one in (office, twin):
        for ticket in tickets[6:]:
            one.grade(pickle.loads(pickle.dumps(ticket)), answer("B"))
    assert [t.id for t in office.draw(2, 4)] == [t.id for t in twin.draw(2, 4)]
    assert office.stream.curriculum is not twin.stream.curriculum


def test_a_state_covers_what_is_out(make_task):
    office = TicketOffice(**make_task(2))
    tickets = office.draw(4, 3)
    for ticket in (*tickets[:3], *tickets[4:5]):
        office.grade(ticket, right(ticket))
    office.close(tickets[-1])
    state = json.loads(json.dumps(office.state_dict()))
    again = TicketOffice(**make_task(2))
    again.load_state_dict(state)
    assert [ticket.id for ticket in again.out] == [ticket.id for ticket in office.out]
    assert len(again.out) == 5
    for one in (office, again):
        for ticket in one.out:
            one.grade(ticket, answer("A"))
        with pytest.raises(AnatomyError, match="is closed"):
            one.grade(tickets[0], answer("A"))
        with pytest.raises(AnatomyError, match="is closed"):
            one.grade(tickets[-1], answer("A"))
    assert again.stream.curriculum.outcomes == office.stream.curriculum.outcomes[1:]  # those since the state
    assert [t.id for t in again.draw(3, 3)] == [t.id for t in office.draw(3, 3)]


def test_threads_may_share_an_office(make_task):
    office = TicketOffice(**make_task(0))

    def work(_):
        return [office.grade(ticket, right(ticket)).total for ticket in office.draw(2, 4)]

    with ThreadPoolExecutor(4) as pool:
        assert all(paid == [1.5] * 8 for paid in pool.map(work, range(12)))
    assert len(office.stream.curriculum.outcomes) == 24 and not office.out


def refused(office, ticket, text, match):
    state = office.state_dict()
    with pytest.raises(AnatomyError, match=match) as told:
        office.grade(ticket, text)
    assert len(str(told.value).splitlines()) <= 2
    assert office.state_dict() == state


def test_what_can_not_be_graded_is_told_and_nothing_is_lost():
    office = TicketOffice(**TASK)
    first, second = office.draw(1, 2)
    for text in (None, 3, b"text", ["text"]):
        refused(office, first, text, "a response must be text")
    office.grade(first, right(first))
    refused(office, first, right(first), r"place 0 of group 0 .* graded already")
    refused(office, first.id, right(first), "graded already")
    assert office.grade(second, right(second)).correct == 1.0
    refused(office, second, right(second), "group 0 .* is closed")
    third, fourth = office.draw(1, 2)
    office.close(third)
    refused(office, fourth, right(fourth), "group 1 .* is closed")
    with pytest.raises(AnatomyError, match=r"group 1 .* is closed"):
        office.close(fourth)


def test_many_are_graded_all_or_none():
    office, alone = TicketOffice(**TASK), TicketOffice(**TASK)
    tickets = office.draw(2, 2)
    pairs = [(ticket.id, right(ticket)) for ticket in tickets]
    state = office.state_dict()
    for wrong, match in (
        ([*pairs[:3], (tickets[3], None)], "a response must be text"),
        ([*pairs[:3], pairs[0]], r"place 0 of group 0 .* graded already"),
        ([*pairs[:3], ("scenes-12", "")], "expected a Ticket or its id"),
    ):
        with pytest.raises(AnatomyError, match=match) as told:
            office.grade_all(wrong)
        assert len(str(told.value).splitlines()) <= 2 and office.state_dict() == state
    assert office.grade_all(pairs) == [alone.grade(*pair) for pair in pairs]
    assert office.state_dict()["closed"] == {"below": 2, "groups": []}


def test_what_is_no_ticket_of_this_office_is_told():
    office = TicketOffice(**TASK)
    ticket, _ = office.draw(1, 2)
    for nothing in (None, 7, "", "scenes-12", b"1.a.b.c", ["x"]):
        refused(office, nothing, answer("A"), "expected a Ticket or its id")
    version, rest = ticket.id.split(".", 1)
    refused(office, f"9.{rest}", answer("A"), "version 1, got one of version '9'")
    for damaged in (ticket.id[:-3], ticket.id + "=", ticket.id.replace(".", ".0", 1)[:-1], version + "." + rest[::-1]):
        refused(office, damaged, answer("A"), "damaged|expected a Ticket|another task")


@pytest.mark.parametrize(
    "change, match",
    [
        ({"bank": "brain-atlas"}, "of the bank 'scenes.*asks from 'brain-atlas"),
        ({"seed": 4}, "another task or seed"),
        ({"curriculum": "uniform"}, "another task or seed"),
        ({"augmentation_options": {"trigger": "difficult"}}, "another task or seed"),
        ({"split": "test"}, "is another here, or missing|another task"),
    ],
)
def test_a_ticket_of_another_office_is_told(change, match):
    ticket, _ = TicketOffice(**TASK).draw(1, 2)
    refused(TicketOffice(**{**TASK, **change}), ticket, answer("A"), match)


def test_a_bank_whose_data_changed_is_told(bank):
    ticket, _ = TicketOffice(bank=bank).draw(1, 2)
    bank.offset += 1  # number 7 is now another question, of the same name
    bank.index_of = lambda name: int(name.removeprefix("toy-"))
    refused(TicketOffice(bank=bank), ticket, answer("A"), "is another here, or missing")


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((0, 4), "groups must be at least 1"),
        ((1, 0), "group_size must be at least 1"),
        ((1.5, 4), "groups must be a whole number"),
        ((True, 4), "groups must be a whole number"),
    ],
)
def test_numbers_out_of_range_are_told(bank, arguments, match):
    office = TicketOffice(bank=bank)
    with pytest.raises(AnatomyError, match=match):
        office.draw(*arguments)
    for progress in (1.5, float("nan"), "half"):
        with pytest.raises(AnatomyError, match="progress must be"):
            office.draw(progress=progress)


def test_an_augmentation_that_waits_for_answers_is_refused():
    office = TicketOffice(**{**TASK, "augmentation_options": {"trigger": "group"}})
    with pytest.raises(AnatomyError, match="waits for some of a group"):
        office.draw()
    with pytest.raises(AnatomyError, match="tickets' state"):
        office.load_state_dict({"stream": {}})


class Painter:
    """An augmentation that repaints images in a way of its own."""

    def __init__(self, bank, *, seed=0):
        pass

    def vary(self, question, places, index):
        return [Variant(replace(question, image=lambda: np.zeros((8, 8, 3), np.uint8)))] * places

    def observe(self, outcome):
        pass

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def test_an_image_that_an_id_can_not_hold_is_refused(bank):
    with pytest.raises(AnatomyError, match="changed its image"):
        TicketOffice(bank=bank, augmentation=Painter(bank)).draw()


@pytest.mark.parametrize("curriculum", ["uniform", "asc", "learnability"])
@pytest.mark.parametrize("spec", ["scenes", "scenes-ssg", "brain-atlas", "mix:scenes,brain-atlas"])
def test_every_bank_and_curriculum_pickles_while_it_runs(spec, curriculum):
    office = TicketOffice(bank=spec, curriculum=curriculum, augmentation="gdqa")
    for ticket in office.draw(2, 2):
        office.grade(ticket, answer("A"))
    twin = pickle.loads(pickle.dumps(office))
    mine, theirs = office.draw(3, 2), twin.draw(3, 2)
    assert [ticket.id for ticket in mine] == [ticket.id for ticket in theirs]
    assert np.array_equal(mine[-1].image, theirs[-1].image)
