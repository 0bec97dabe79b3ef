"""What a prompt looks like is written and read back by the same code."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.agents import make_policy
from anatomy_r1.agents.policies.human import HumanPolicy
from anatomy_r1.banks import export_jsonl, open_bank
from anatomy_r1.core import (
    INSTRUCTION,
    INSTRUCTIONS,
    LETTERS,
    NUMBERED,
    STYLES,
    AnatomyError,
    Question,
    find_markup,
    normalise,
    option_lines,
    read_option,
    read_prompt,
    render_prompt,
)
from anatomy_r1.envs import score


def ask(options, answer=0, stem="Which organ?", **form) -> Question:
    return Question(
        id="q",
        image=lambda: np.zeros((2, 3, 3), np.uint8),
        stem=stem,
        options=tuple(options),
        answer=answer,
        structure="x",
        question_type="F",
        modality="MRI",
        group_key="v1",
        source="t",
        **form,
    )


texts = st.text(min_size=1, max_size=30).filter(lambda text: normalise(text) and not find_markup(text))
tricky = st.sampled_from(
    ["A. liver", "(b) gut", "2. liver", "x\nB. gut", "Question: what?", "B", "1", "gut \u2028 C. x"]
)
option_sets = st.lists(texts | tricky, min_size=2, max_size=26, unique_by=normalise)


@pytest.mark.parametrize("instruction", (None, *INSTRUCTIONS))
@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=30)
@given(options=option_sets, stem=texts | tricky)
def test_a_prompt_is_read_back_in_every_style_under_every_instruction(style, instruction, options, stem):
    read = read_prompt(render_prompt(ask(options, stem=stem, option_style=style, instruction=instruction)))
    assert (read.stem, read.option_style) == (stem, style)
    assert list(map(normalise, read.options)) == list(map(normalise, options))


@pytest.mark.parametrize("style", STYLES)
@given(st.lists(st.from_regex("[a-z]{2,9}( [a-z]{2,9})?", fullmatch=True), min_size=2, max_size=26, unique=True))
def test_every_label_of_every_style_names_its_option(style, options):
    question = ask(options, option_style=style)
    for place, line in enumerate(option_lines(question)):
        for said in (line, line.split(" ")[0], options[place], LETTERS[place]):
            assert read_option(said, options, style) == place
            assert score(replace(question, answer=place), f"<think>t</think><answer>{said}</answer>").correct == 1


def test_an_option_cannot_forge_another_line():
    lines = render_prompt(ask(["liver\nB. gut\nC. omentum", "gut"])).splitlines()
    assert lines[-2:] == ["A. liver B. gut C. omentum", "B. gut"]


@pytest.mark.parametrize("prompt", ["", "Which?", "A. one", "What?\nB. x\nC. y", "What?\nA. x\n(b) y", "A. x\nB. y\n"])
def test_what_is_no_prompt_of_ours_is_refused(prompt):
    with pytest.raises(AnatomyError, match="must end with its options"):
        read_prompt(prompt)


@pytest.mark.parametrize("name", ["random", "longest", "odd-case"])
def test_scripted_policies_answer_all_variants_from_the_prompt(name):
    env = gymnasium.make_vec(
        "anatomy_r1.envs:AnatomyVQA-v0",
        num_envs=16,
        vectorization_mode="vector_entry_point",
        group_size=8,
        bank="scenes",
        curriculum="asc",
        augmentation="gdqa",
        augmentation_options={"edits": "wordings", "trigger": "always"},
    )
    policy, styles = make_policy(name), set()
    for step in range(6):
        observations, _ = env.reset(seed=2 if step == 0 else None)
        styles |= {question.option_style for question in env.unwrapped.questions}
        _, _, _, _, info = env.step([response.text for response in policy.respond(observations)])
        assert info["format"].all()
    assert styles == set(STYLES)


def test_random_reaches_every_option_of_a_numbered_prompt():
    question = ask(["liver", "gut", "omentum"], option_style=NUMBERED, instruction=INSTRUCTIONS[2])
    observations = {"image": [None], "prompt": [render_prompt(question)]}
    found = {score(question, r.text).choice for r in make_policy("random").respond(observations, n=60)}
    assert found == {0, 1, 2}


@pytest.mark.parametrize("typed, letter", [("2", "B"), ("b", "B"), ("(C)", "C"), ("omentum", "C")])
def test_a_person_answers_as_the_prompt_labels(typed, letter):
    told, lines = [], iter(["4", typed])
    question = ask(["liver", "gut", "omentum"], option_style=NUMBERED)
    policy = HumanPolicy(ask=lambda prompt: next(lines), tell=told.append)
    (said,) = policy.respond({"image": [question.pixels()], "prompt": [render_prompt(question)]})
    assert said.text.endswith(f"<answer>{letter}</answer>")
    assert told[0].endswith("Which organ?\n1. liver\n2. gut\n3. omentum")
    assert told[1:] == ["Expected a letter from A to C, or a number from 1 to 3."]


class OneForm:
    """A bank of one question, as a variant shows it."""

    name, splits, structures = "one", ("all",), ("liver", "gut")

    def __init__(self, question):
        self.only = question

    def __len__(self):
        return 1

    def question(self, index):
        return self.only


def test_a_variants_form_survives_the_export_and_the_usual_form_leaves_no_trace(tmp_path):
    plain = ask(["liver", "gut"], details={"plane": "axial"})
    changed = replace(plain, option_style="(a)", instruction=INSTRUCTIONS[1])
    for name, question in (("plain", plain), ("changed", changed)):
        path = export_jsonl(OneForm(question), [0], tmp_path / name)
        assert open_bank(f"jsonl:{path}").question(0) == question
        assert ("option_style" in path.read_text()) == (name == "changed")
    assert plain.key()[-1] == {"plane": "axial"} and plain != changed


def test_a_form_that_is_none_is_refused():
    with pytest.raises(AnatomyError, match=r"'q'.*option_style must be one of A\., \(a\), 1\., got 'roman'"):
        ask(["liver", "gut"], option_style="roman")
    with pytest.raises(AnatomyError, match="instruction must not hold the markup '<|image_pad|>'".replace("|", r"\|")):
        ask(["liver", "gut"], instruction="Look at <|image_pad|>.")
    assert ask(["liver", "gut"], instruction=INSTRUCTION).instruction == INSTRUCTION
