"""Places of groups, handed to sessions that come one by one."""

import pytest

from anatomy_r1.core import AnatomyError
from anatomy_r1.integrations import desk as module
from anatomy_r1.integrations.desk import Desk

TASK = {"bank": "scenes", "curriculum": "asc", "augmentation": "gdqa", "augmentation_options": {"trigger": "always"}}


@pytest.fixture
def desk():
    return Desk(group_size=3, **TASK)


def places(tickets):
    return [(ticket.group, ticket.asked.place) for ticket in tickets]


def test_groups_are_filled_in_order_or_by_name(desk):
    assert places([desk.take("", None) for _ in range(4)]) == [(0, 0), (0, 1), (0, 2), (1, 0)]
    mixed = [desk.take(name, None) for name in "abab"]
    assert places(mixed) == [(2, 0), (3, 0), (2, 1), (3, 1)]
    assert mixed[0].asked.question == mixed[2].asked.question != mixed[1].asked.question
    assert mixed[0].prompt != mixed[2].prompt  # the augmentation's variants
    assert places([desk.take("a", None), desk.take("a", None)]) == [(2, 2), (4, 0)]


def test_what_is_given_back_is_handed_out_again_and_the_group_becomes_whole(desk):
    heard = []
    desk.office.stream.curriculum.observe = heard.append
    left, *others = [desk.take("a", None) for _ in range(3)]
    desk.give_back("a", left)
    again = desk.take("a", None)
    assert again == left
    for ticket in [*others, again]:
        assert not heard
        desk.office.grade(ticket, "no")
    assert [len(outcome.correct) for outcome in heard] == [3]


def test_a_group_that_cannot_be_shown_is_given_up(desk):
    desk.give_up("a", desk.take("a", None))
    assert places([desk.take("a", None)]) == [(1, 0)] and {ticket.group for ticket in desk.office.out} == {1}


def test_named_groups_that_nobody_fills_are_closed_in_time(desk, monkeypatch):
    monkeypatch.setattr(module, "_KEPT", 2)
    first = desk.take("a", None)
    for name in "bcd":
        desk.take(name, None)
    assert {ticket.group for ticket in desk.office.out} == {2, 3}
    with pytest.raises(AnatomyError, match="is closed"):
        desk.office.grade(first, "no")
    desk.give_back("a", first)
    assert desk.take("a", None).group == 4


def test_a_seed_gives_the_same_question_and_the_curriculum_hears_nothing(desk):
    heard = []
    desk.office.stream.curriculum.observe = heard.append
    tickets = [desk.alone(seed, None) for seed in (5, 6, 5)]
    asked = [ticket.question for ticket, _ in tickets]
    assert asked[0] == asked[2] != asked[1]
    ticket, office = tickets[0]
    assert office.grade(ticket, f"<think>a</think><answer>{ticket.question.letter}</answer>").total == 1.5
    assert not heard and not desk.office.out


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"group_size": 0}, "group_size must be"),
        ({"curriculum": object()}, "curriculum: expected a name, got an object"),
        ({"banc": "scenes"}, "banc"),
    ],
)
def test_settings_that_are_none_are_told(settings, match):
    with pytest.raises(AnatomyError, match=match) as told:
        Desk(**settings)
    assert len(str(told.value).splitlines()) <= 2
