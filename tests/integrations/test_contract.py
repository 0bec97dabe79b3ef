"""By every way in, the same pixels, the same words, and the same reward, to the bit."""

import importlib.util
from pathlib import Path

import pytest

from anatomy_r1.envs import AnatomyVQAEnv, AnatomyVQAVectorEnv, TicketOffice

spec = importlib.util.spec_from_file_location("contract", Path(__file__).with_name("contract.py"))
contract = importlib.util.module_from_spec(spec)
spec.loader.exec_module(contract)
SIZE, groups_of = contract.SIZE, contract.groups_of


def by_tickets(task, groups):
    office = TicketOffice(**task)
    for group in groups:
        tickets = office.draw(1, SIZE, progress=group[0]["progress"])
        texts = [line["response"] for line in group]
        paid = [office.grade(one.id, text).total for one, text in zip(tickets, texts, strict=True)]
        yield [(one.prompt, one.image) for one in tickets], paid


def by_the_grouped_env(task, groups):
    env = AnatomyVQAVectorEnv(SIZE, group_size=SIZE, **task)
    for group in groups:
        seen, _ = env.reset(options={"progress": group[0]["progress"]})
        paid = env.step([line["response"] for line in group])[1].tolist()
        yield list(zip(seen["prompt"], seen["image"], strict=True)), paid


@pytest.mark.parametrize("course", contract.COURSES)
@pytest.mark.parametrize("way", [by_tickets, by_the_grouped_env])
def test_a_way_in_keeps_the_contract(way, course):
    groups = groups_of(course)
    assert len(groups) == 125
    for group, (seen, paid) in zip(groups, way(contract.COURSES[course], groups), strict=True):
        assert [contract.digest(prompt) for prompt, _ in seen] == [line["prompt"] for line in group]
        assert [contract.digest(image) for _, image in seen] == [line["image"] for line in group]
        assert paid == [line["reward"] for line in group]


def test_the_single_env_keeps_the_contract():
    env = AnatomyVQAEnv(**contract.COURSES["brain-atlas"])
    for group in groups_of("brain-atlas"):
        for line in group:
            seen, _ = env.reset(options={"question_id": line["question"]})
            assert contract.digest(seen["prompt"]) == line["prompt"]
            assert contract.digest(seen["image"]) == line["image"]
            assert env.step(line["response"])[1] == line["reward"]


def test_the_contract_has_every_reward():
    assert {line["reward"] for course in contract.COURSES for group in groups_of(course) for line in group} == {
        0.0,
        0.5,
        1.5,
    }
