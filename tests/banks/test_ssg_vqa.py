import hashlib
import json
import pickle
import shutil

import pytest

from anatomy_r1.banks import open_bank, ssg_vqa
from anatomy_r1.banks.cholec45 import CLASS_COLOURS, rivals
from anatomy_r1.banks.generate import grammar
from anatomy_r1.banks.ssg.questions import KINDS, read_lines
from anatomy_r1.banks.ssg.scene_graphs import read_graph
from anatomy_r1.core import AnatomyError


@pytest.fixture
def questions(shared, tmp_path):
    """A copy of the real question file."""
    path = tmp_path / "qa_txt/VID01/262.txt"
    path.parent.mkdir(parents=True)
    shutil.copy(shared / "ssg_vqa/qa_txt/VID01/262.txt", path)
    return path


@pytest.fixture
def graph(shared, tmp_path):
    """A copy of the real scene graph, and its value."""
    path = tmp_path / "scene_graph/VID01_0.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(shared / "ssg_vqa/scene_graph/VID01_0.json", path)
    return path, json.loads(path.read_text())


def test_every_line_but_the_two_lists_is_a_question(shared, frames):
    bank = ssg_vqa(shared / "ssg_vqa", images=frames)
    lines = (shared / "ssg_vqa/qa_txt/VID01/262.txt").read_text().splitlines()
    assert len(bank) == 19 and bank.splits == ("validation",)
    for question in map(bank.question, range(19)):
        fields = lines[int(question.id.rpartition("/")[2]) - 1].split("|")
        right = {"True": "yes", "False": "no"}.get(fields[1], fields[1].replace("_", " "))
        assert (question.stem, question.options[question.answer]) == (fields[0].strip(), right)
        assert set(question.options) <= set(KINDS[question.details["kind"]])
        assert bank.question(bank.index_of(question.id)) == question
        assert str(question.image).endswith("VID01/000262.png")


def test_component_questions_keep_their_vocabulary(shared, frames):
    bank = ssg_vqa(shared / "ssg_vqa", images=frames)
    for question in map(bank.question, range(19)):
        if question.details["kind"] != "structure":
            assert question.distractors == ()
            continue
        parsed = grammar.parse(question.stem)
        barred = rivals(question.structure) | (parsed.named() if parsed else set())
        assert len(question.distractors) >= 8 and not barred & set(question.distractors)


def test_counts_always_offer_the_same_block(shared, frames):
    options = {
        frozenset(q.options)
        for seed in range(5)
        for q in map(ssg_vqa(shared / "ssg_vqa", images=frames, seed=seed).question, range(19))
        if q.question_type == "count"
    }
    assert options == {frozenset("0123")}


def test_two_right_answers_to_one_stem_are_not_offered_together(questions):
    questions.write_text(
        "What anatomy is at the top-mid of the frame ?|liver|[1, 2]\n"
        "What anatomy is at the top-mid of the frame ?|gallbladder|[3, 4]\n"
        "What anatomy is at the top-mid of the frame ?|cystic_pedicle|[3, 4]\n"
    )
    lines, _ = read_lines(questions)
    wrong = {"liver", "gallbladder", "cystic pedicle", "cystic artery", "cystic duct", "blood vessel"}
    assert len(lines) == 3 and not any(wrong & set(line.pool) for line in lines)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("What is it?", "fields"),
        ("What is it?|spleen|one_hop.json|query_component|NA", "none of SSG-VQA's"),
        ("What is it?|liver|one_hop.json|query_component", "fields"),
        ("What is it?|liver|one_hop.json|count|NA", "does not fit"),
        ("What is it?|liver|five_hop.json|query_component|NA", "no such template"),
        ("What <image> is it?|liver|one_hop.json|query_component|NA", "markup"),
        ("x" * 10_000_000, "fields"),
    ],
)
def test_a_bad_line_is_named_or_left_out(questions, frames, line, expected):
    text = questions.read_text().splitlines()
    questions.write_text("\n".join([*text[:5], line, *text[5:]]))
    root = questions.parents[2]
    if len(line) < 5_000_000:
        with pytest.raises(AnatomyError) as caught:
            ssg_vqa(root, images=frames)
        assert f"{questions}:6" in str(caught.value) and expected in str(caught.value)
        assert len(ssg_vqa(root, images=frames, allow_bad=True)) == 19
    else:
        with pytest.raises(AnatomyError, match="at most 4,000,000"):
            ssg_vqa(root, images=frames)


def test_line_ends_and_byte_order_mark_change_nothing(questions, frames, shared):
    real = ssg_vqa(shared / "ssg_vqa", images=frames)
    questions.write_bytes(b"\xef\xbb\xbf" + questions.read_bytes().replace(b"\n", b"\r\n"))
    bank = ssg_vqa(questions.parents[2], images=frames)
    assert [bank.question(i) for i in range(19)] == [real.question(i) for i in range(19)]


def test_relations_read_as_the_boxes_say(graph, tmp_path):
    path, data = graph
    _, found = read_graph(path, "none")
    names = [item.name for item in found.objects]
    assert {names[j] for j in found.relations["left"][names.index("abdominal wall cavity")]} == set(names) - {
        "abdominal wall cavity"
    }
    assert found.relations["grasped by"][names.index("gallbladder")] == (names.index("grasper"),)
    relations = data["scenes"][0]["relationships"]
    for name in ("above", "below", "left", "right"):  # the reading that the data's description gives
        rows = relations[name]
        relations[name] = [[i for i in range(6) if j in rows[i]] for j in range(6)]
    turned = tmp_path / "turned.json"
    turned.write_text(json.dumps(data))
    assert read_graph(turned, "none")[1].relations == found.relations


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: s["relationships"]["left"][3].append(4) or s["relationships"]["left"][0].append(1), ("liver",)),
        (lambda s: s["relationships"]["above"][0].clear(), ("objects", "abdominal wall cavity", "grasper")),
        (lambda s: s["relationships"]["left"][1].append(77), ("'left' of object 1", "77")),
        (lambda s: s["relationships"]["left"].pop(), ("'left'", "6 objects")),
        (lambda s: s["objects"][1].update(bbox=[0, 0, 5000, 9]), ("object 1 (liver)", "box")),
        (lambda s: s["objects"][2].update(location="top-left"), ("object 2 (gut)", "does not reach")),
        (lambda s: s["objects"][2].update(bbox=[1, "2", 3, 4]), ("object 2", "4 numbers")),
        (lambda s: s["relationships"]["grasp"][0].append(1), ("neither is an instrument",)),
        (lambda s: s.pop("objects"), ("expected scenes[0]",)),
    ],
)
def test_a_graph_that_contradicts_itself_is_refused(graph, frames, change, parts):
    path, data = graph
    change(data["scenes"][0])
    path.write_text(json.dumps(data))
    with pytest.raises(AnatomyError) as caught:
        ssg_vqa(path.parents[1], images=frames, source="graphs")
    assert all(part in str(caught.value) for part in (str(path), *parts)), caught.value


@pytest.mark.parametrize("colour", ["per-class", "none"])
def test_questions_from_a_graph_have_one_answer(shared, frames, colour):
    bank = ssg_vqa(shared / "ssg_vqa", images=frames, source="graphs", colour=colour, per_frame=300)
    _, graph = read_graph(shared / "ssg_vqa/scene_graph/VID01_0.json", colour)
    coloured = 0
    for question in map(bank.question, range(300)):
        parsed = grammar.parse(question.stem)
        assert grammar.resolve(parsed, graph) == [question.structure]
        assert not parsed.named() & set(question.options)
        phrases = [parsed.phrase, *(link.phrase for link in parsed.relations)]
        coloured += any(phrase.colour for phrase in phrases)
        assert parsed.phrase.colour in (None, CLASS_COLOURS[question.structure])
    assert coloured > 60 if colour == "per-class" else coloured == 0


def test_same_questions_on_every_machine(shared, frames):
    banks = [ssg_vqa(shared / "ssg_vqa", images=frames, source=source, seed=5) for source in ("questions", "graphs")]
    rows = [(q.id, q.stem, q.options, q.answer) for bank in banks for q in map(bank.question, range(len(bank)))]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16] == "7f4541298272d791"


@pytest.mark.parametrize("source", ["questions", "graphs"])
def test_a_pickled_bank_asks_the_same(shared, frames, source):
    bank = ssg_vqa(shared / "ssg_vqa", images=frames, source=source)
    bank.question(0)
    assert pickle.loads(pickle.dumps(bank)).question(1) == bank.question(1)


def test_a_thousand_mutations_of_question_files(questions, frames, rng, survives, spoil_bytes):
    root, whole = questions.parents[2], questions.read_bytes()
    bank = ssg_vqa(root, images=frames)
    originals = {q.id: q for q in map(bank.question, range(19))}
    passed = refused = 0
    for _ in range(1100):
        questions.write_bytes(spoil_bytes(whole, rng))
        counts = survives(lambda: ssg_vqa(root, images=frames, allow_bad=True), originals, frames)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 5000 and refused > 500


def test_a_thousand_mutations_of_graphs(graph, frames, rng, survives, spoil_bytes, spoil_row):
    path, data = graph
    whole, passed, refused = path.read_bytes(), 0, 0
    for turn in range(1100):
        scene = json.loads(json.dumps(data["scenes"][0]))
        part = ("relationships", "objects")[turn % 4 // 2]
        if part == "objects":
            at = int(rng.integers(6))
            scene["objects"][at] = spoil_row(scene["objects"][at], rng)
        else:
            scene["relationships"] = spoil_row(scene["relationships"], rng)
        path.write_bytes(spoil_bytes(whole, rng) if turn % 2 else json.dumps({"scenes": [scene]}).encode())
        counts = survives(lambda: ssg_vqa(path.parents[1], images=frames, source="graphs", allow_bad=True), {}, frames)
        passed, refused = passed + counts[0], refused + counts[1]
    assert passed > 500 and refused > 500


def test_unknown_options_and_missing_files(shared, frames, tmp_path):
    for options in ({"source": "frames"}, {"colour": "rainbow"}, {"n_options": 1}, {"seed": -1}):
        with pytest.raises(AnatomyError, match="ssg-vqa"):
            open_bank(f"ssg-vqa:{shared / 'ssg_vqa'}", images=frames, **options)
    with pytest.raises(AnatomyError, match="expected qa_txt"):
        ssg_vqa(tmp_path)
