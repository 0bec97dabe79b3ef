import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.generate import grammar
from anatomy_r1.core import INSTRUCTIONS, LETTERS, STYLES, AnatomyError, option_lines, render_prompt
from anatomy_r1.curricula import make_augmentation
from anatomy_r1.curricula.edits import make_edits
from anatomy_r1.curricula.edits.images import IMAGE_EDITS
from anatomy_r1.curricula.edits.registry import EDITS, PRESETS
from anatomy_r1.curricula.edits.wording import LOCATIONS, RELATIONS, read
from anatomy_r1.envs import AnatomyVQAVectorEnv, score

SCENES = open_bank("scenes", "train")
OFFLINE = [name for name in EDITS.names() if name != "llm"]


def noise(seed=0, size=24):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def edit(name):
    (found,) = make_edits([name], SCENES)
    return found


def applied(question, name, index=0):
    """The first change that the edit makes, by seeds from ``index`` on."""
    for seed in range(index, index + 200):
        if result := edit(name).apply(question, np.random.default_rng(seed)):
            return result
    raise AssertionError(f"{name} never changed the question")


@settings(deadline=None, max_examples=60)
@given(
    index=st.integers(0, 10**6 - 1),
    names=st.permutations(OFFLINE).flatmap(lambda names: st.integers(1, len(names)).map(lambda n: names[:n])),
    draw=st.integers(0, 2**32),
)
@pytest.mark.parametrize("bank", ["scenes", "brain-atlas"])
def test_no_combination_of_edits_changes_which_structure_is_right(bank, index, names, draw):
    question = open_bank(bank, "train").question(index)
    gdqa = make_augmentation("gdqa", SCENES, trigger="always", edits=names)
    for variant in gdqa.vary(question, 4, draw):
        varied = variant.question
        assert varied.options[varied.answer] == question.options[question.answer] == varied.structure
        if "unlike" in names:
            assert set(varied.options) <= {*question.options, *question.distractors}
            assert len(set(varied.options)) == len(question.options)
        else:
            assert sorted(varied.options) == sorted(question.options)
        for answer in (
            varied.letter,
            f"({varied.letter.lower()})",
            varied.structure,
            f"{varied.letter}. {varied.structure}",
        ):
            assert score(varied, f"<think>t</think><answer>{answer}</answer>").correct == 1.0


@settings(deadline=None)
@given(st.integers(0, 10**6 - 1), st.integers(0, 2**32))
def test_synonyms_are_read_as_what_they_stand_for(index, seed):
    question = SCENES.question(index)
    result = edit("synonyms").apply(question, np.random.default_rng(seed))
    stem = result[0].stem if result else question.stem
    before, after = grammar.parse(question.stem), read(stem)
    assert [r.name for r in after.relations] == [r.name for r in before.relations]
    assert [r.phrase for r in after.relations] == [r.phrase for r in before.relations]
    assert (after.template, after.phrase) == (before.template, before.phrase)


def test_every_synonym_occurs(make_question):
    stem = "What is the name of the {} thing that is above the top-mid object and right of the bottom-left object?"
    words = [*sum(LOCATIONS.values(), ()), *RELATIONS["above"], *RELATIONS["right"]]
    found = set()
    for location in LOCATIONS:
        question = make_question(["liver", "gut"], stem=stem.format(location))
        for seed in range(60):
            if result := edit("synonyms").apply(question, np.random.default_rng(seed)):
                found |= {
                    word for word in words if f" {word} the " in result[0].stem or f" {word} thing" in result[0].stem
                }
    assert found == set(words)


def test_the_frame_template_is_rewritten_to_what_asks_the_same(make_question):
    """Over real scenes, F and its rewrites resolve to the same structure in the scene graph."""
    seen = set()
    for index in range(300):
        question = SCENES.question(index)
        if question.details["template"] != "F":
            assert edit("frame").refuses(question)
            continue
        changed, record = applied(question, "frame", index)
        parsed = grammar.parse(changed.stem)
        seen.add(parsed.template)
        assert grammar.resolve(parsed, SCENES.scene(index).graph) == [question.structure]
        assert record == f"frame:F>{parsed.template}"
    assert seen == {"Z1", "Z2"}


def test_unknown_words_pass_unchanged_and_are_counted(make_question):
    gdqa = make_augmentation("gdqa", SCENES, trigger="always", edits="grammar,synonyms,permute")
    stem = "What is the name of the leftmost greenish thing?"
    for index in range(3):
        variants = gdqa.vary(make_question(["liver", "gut", "spleen"], stem=stem), 4, index)
        assert {variant.question.stem for variant in variants} == {stem}
    reason = "the stem has words outside the grammar"
    assert gdqa.counts == {f"grammar: {reason}": 3, f"synonyms: {reason}": 3}
    again = make_augmentation("gdqa", SCENES, edits="grammar,synonyms,permute")
    again.load_state_dict(json.loads(json.dumps(gdqa.state_dict())))
    assert again.counts == gdqa.counts


@pytest.mark.parametrize("style", STYLES)
def test_labels_are_rendered_and_read_back(make_question, style):
    question = make_question(["liver", "gut", "omentum"], 1, option_style=style, details={"location": "center"})
    labels = [line.split(" ")[0] for line in option_lines(question)]
    assert labels == {"A.": ["A.", "B.", "C."], "(a)": ["(a)", "(b)", "(c)"], "1.": ["1.", "2.", "3."]}[style]
    assert render_prompt(question).endswith(
        "\n".join(f"{a} {b}" for a, b in zip(labels, question.options, strict=True))
    )
    answers = [(label, f"{label} {option}") for label, option in zip(labels, question.options, strict=True)]
    for place, texts in enumerate(answers):
        for text in (*texts, LETTERS[place], question.options[place]):
            assert score(question, f"<think>t</think><answer>{text}</answer>").choice == place
    for wrong in ("4", "0", "2 3", "12", "2. liver", "(d)"):
        assert score(question, f"<think>t</think><answer>{wrong}</answer>").choice is None


def test_numbers_are_no_labels_where_options_are_lettered(make_question):
    assert score(make_question(["liver", "gut"]), "<think>t</think><answer>2</answer>").choice is None


@pytest.mark.parametrize("options", [["2", "3"], ["2 polyps", "none"], ["A", "liver"], ["(b)", "liver"]])
def test_options_that_look_like_labels_keep_theirs(make_question, options):
    assert edit("style").refuses(make_question(options))


def test_instructions_ask_for_the_same_two_blocks(make_question):
    question = make_question(["liver", "gut"])
    seen = {render_prompt(applied(question, "instruction", seed)[0]).splitlines()[0] for seed in range(0, 2000, 40)}
    assert seen == set(INSTRUCTIONS)
    for text in seen:
        assert [text.count(tag) for tag in ("<think>", "</think>", "<answer>", "</answer>")] == [1, 1, 1, 1]
        assert text.index("<think>") < text.index("<answer>")
    assert render_prompt(question, "Own.").startswith("Own.\n")


@pytest.mark.parametrize("name", IMAGE_EDITS)
def test_image_edits_keep_the_size_and_change_little(make_question, name):
    question = SCENES.question(0)
    plain = make_question(["liver", "gut"], stem="Which organ is this?", image=question.image)
    before = question.pixels()
    for seed in range(0, 400, 100):
        changed, record = applied(plain, name, seed)
        after = changed.pixels()
        assert after.shape == before.shape and after.dtype == np.uint8
        assert not np.array_equal(after, before)
        assert np.abs(after.astype(int) - before).mean() < 30
        assert np.array_equal(after, changed.pixels())
        kind, amount = record.split(":")
        assert kind == name
        assert IMAGE_EDITS[name].least <= abs(float(amount)) <= IMAGE_EDITS[name].most
    assert np.array_equal(plain.pixels(), before)


@pytest.mark.parametrize(
    ("name", "stem", "options"),
    [
        ("colour", "What is the red thing?", ["liver", "gut"]),
        ("colour", "What is shown?", ["white matter", "gray matter"]),
        ("contrast", "Which structure is hyperintense?", ["liver", "gut"]),
        ("contrast", "Is the lesion dark?", ["liver", "gut"]),
        ("rotate", "What anatomy is at the top-left of the frame ?", ["liver", "gut"]),
        ("rotate", "Which eye is this?", ["left eye", "right_eye"]),
        ("rotate", "Going up from the marker, what comes next?", ["liver", "gut"]),
        ("rotate", "Which is the anterior part?", ["liver", "gut"]),
    ],
)
def test_an_image_is_not_changed_where_a_word_depends_on_it(make_question, name, stem, options):
    assert "speaks of" in edit(name).refuses(make_question(options, stem=stem))


def test_images_from_files_are_edited(make_question, tmp_path):
    from PIL import Image

    Image.fromarray(noise()).save(tmp_path / "a.png")
    question = make_question(["liver", "gut"], stem="Which organ?", image=tmp_path / "a.png")
    changed, _ = applied(question, "contrast")
    assert changed.pixels().shape == (24, 24, 3)


def test_a_flip_mirrors_image_and_words_together(make_question):
    stem = "What is the name of the mid-left thing that is to the left of the top-right hook instrument?"
    question = make_question(["liver", "gut"], stem=stem, image=partial(noise, 3), details={"location": "mid-left"})
    changed, record = applied(question, "flip")
    assert (
        changed.stem == "What is the name of the mid-right thing that is to the right of the top-left hook instrument?"
    )
    assert record == "flip" and changed.details["location"] == "mid-right"
    np.testing.assert_array_equal(changed.pixels(), noise(3)[:, ::-1])
    twice, _ = applied(changed, "flip")
    assert twice.stem == stem
    np.testing.assert_array_equal(twice.pixels(), noise(3))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6 - 1))
def test_a_flipped_question_is_right_about_the_flipped_scene(index):
    from anatomy_r1.banks.generate import graph_from_labels

    question = SCENES.question(index)
    changed, _ = applied(question, "flip")
    parsed = grammar.parse(changed.stem)
    if parsed.template == "F" or (parsed.relations and any(r.name.endswith(" by") for r in parsed.relations)):
        return  # actions are no relation of label maps
    scene = SCENES.scene(index)
    kinds = {item.name: item.kind for item in scene.graph.objects}
    graph = graph_from_labels(np.ascontiguousarray(scene.labels[:, ::-1]), scene.names, kinds=kinds)
    found = grammar.resolve(parsed, graph)
    assert found in ([question.structure], [])  # an object on the border between two places may change its place


@pytest.mark.parametrize(
    ("stem", "options"),
    [
        ("What is the top-left thing?", ["left lung", "liver"]),
        ("What is the name of the thing that is above the right_kidney anatomy?", ["spleen", "liver"]),
        ("Which organ is on the left?", ["spleen", "liver"]),  # whose left?
    ],
)
def test_a_flip_refuses_what_is_lateralised(make_question, stem, options):
    assert edit("flip").refuses(make_question(options, stem=stem))


def test_a_preface_stays_apart_and_keeps_the_image_unflipped(make_question):
    stem = "Which of these lies anterior to the middle lobe of the right lung?"
    question = make_question(["liver", "heart"], stem=stem)
    question = replace(question, preface="Axial CT slice, radiological display.")
    assert edit("flip").refuses(question) and not edit("grammar").refuses(question)
    rewritten, record = applied(question, "grammar")
    assert record == "grammar:O1>O2"
    assert "radiological display.\nQuestion: One of these lies" in render_prompt(rewritten)
    assert not edit("synonyms").apply(question, np.random.default_rng(0))  # "middle" is part of a name here
    assert read(stem) == grammar.parse(stem)


def test_flips_are_in_no_preset_and_the_default_is_the_papers():
    assert not any("flip" in names for names in PRESETS.values())
    assert [edit.name for edit in make_augmentation("gdqa", SCENES).edits] == ["grammar", "permute"]


def test_edits_are_named_in_a_config_and_seen_by_the_policy():
    env = AnatomyVQAVectorEnv(
        8,
        group_size=8,
        bank="scenes",
        augmentation="gdqa",
        augmentation_options={"trigger": "always", "edits": "grammatical", "variants": 8},
    )
    observations, info = env.reset(seed=0)
    assert len(set(observations["prompt"])) > 4
    assert len({image.tobytes() for image in observations["image"]}) > 2
    assert {record.split(":")[0] for edits in info["edits"] for record in edits} > {"permute"}
    answers = [f"<think>t</think><answer>{question.letter}</answer>" for question in env.questions]
    assert set(env.step(answers)[1]) == {1.5}


def test_variants_may_follow_a_schedule(make_question):
    question = make_question(["liver", "gut", "omentum", "spleen"])
    gdqa = make_augmentation("gdqa", SCENES, trigger="always", variants="linear")
    forms = []
    for progress in (0.0, 0.5, 1.0):
        gdqa.pace(progress)
        forms.append(len({v.question.options for v in gdqa.vary(question, 8, 0)}))
    assert forms == [1, round(0.5 * 7) + 1, 8]
    env = AnatomyVQAVectorEnv(
        8,
        group_size=8,
        bank="scenes",
        augmentation="gdqa",
        augmentation_options={"trigger": "always", "variants": "linear"},
    )
    for progress, expected in ((0.0, 1), (1.0, 8)):
        assert len(set(env.reset(seed=0, options={"progress": progress})[0]["prompt"])) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edits": "grammar,permut"}, "Did you mean 'permute'"),
        ({"edits": ""}, "unknown edit"),
        ({"edits": []}, "got none"),
        ({"edits": "permute,permute"}, "different edits"),
        ({"edits": "llm:qwen3"}, "MODEL@URL"),
        ({"variants": "liner"}, "Did you mean 'linear'"),
        ({"threshold": 2}, "threshold"),
    ],
)
def test_bad_edits_are_refused(options, message):
    with pytest.raises(AnatomyError, match=message):
        make_augmentation("gdqa", SCENES, **options)
