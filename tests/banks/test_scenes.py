import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import ScenesBank, open_bank
from anatomy_r1.banks.scenes.layout import draw_layout
from anatomy_r1.banks.scenes.vocabulary import SIX, SSG
from anatomy_r1.core import AnatomyError


@pytest.fixture(scope="module")
def questions():
    """2,000 questions to learn from and 2,500 of another split to be tested on."""
    train, test = open_bank("scenes", split="train"), open_bank("scenes", split="test")
    return [train.question(i) for i in range(2000)], [test.question(i) for i in range(2500)]


def test_same_index_same_question_and_pixels_on_every_machine():
    bank = ScenesBank(split="validation", seed=7)
    rows = [(q.id, q.stem, q.options, q.answer, q.distractors) for q in map(bank.question, range(200))]
    maps = np.stack([bank.scene(i).labels for i in range(20)]).astype("<i8")
    digests = [hashlib.sha256(data).hexdigest()[:16] for data in (json.dumps(rows).encode(), maps.tobytes())]
    assert digests == ["f497a37f89f68507", "de51b9e26cb085bc"]
    assert np.array_equal(bank.question(3).pixels(), ScenesBank(seed=7).split("validation").question(3).pixels())


def test_order_of_calls_does_not_matter():
    bank = open_bank("scenes", split="test")
    forward = [bank.question(i) for i in range(5)]
    assert [bank.question(i) for i in reversed(range(5))] == forward[::-1]


def test_splits_and_seeds_share_no_scene():
    banks = [ScenesBank(seed=seed, split=part) for seed in (0, 1) for part in ScenesBank.splits]
    maps = [bank.scene(i).labels.tobytes() for bank in banks for i in range(100)]
    assert len(set(maps)) == len(maps)
    assert len({bank.question(0).group_key for bank in banks}) == len(banks)


@pytest.mark.parametrize("size", [48, 96, 131, 448])
def test_image_and_label_map_have_the_size_asked_for(size):
    bank = ScenesBank(size=size)
    image = bank.question(0).pixels()
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    assert bank.scene(0).labels.shape == (size, size)
    assert image[0, 0].max() == image[-1, -1].max() == 0, "corners lie outside the endoscope's circle"
    assert image.mean() > 25


def test_a_scene_is_the_same_at_every_size():
    small, large = ScenesBank(size=112), ScenesBank(size=448)
    for i in range(8):
        assert small.question(i) == large.question(i)
        coarse = np.asarray(Pil.fromarray(large.question(i).pixels()).resize((56, 56), Pil.Resampling.BOX), dtype=float)
        fine = np.asarray(Pil.fromarray(small.question(i).pixels()).resize((56, 56), Pil.Resampling.BOX), dtype=float)
        assert np.abs(coarse - fine).mean() < 4
        assert (large.scene(i).labels[2::4, 2::4] == small.scene(i).labels).mean() > 0.97


def test_banks_of_the_same_settings_are_equal():
    assert ScenesBank(seed=3).split("test") == ScenesBank(3 * 32, 3, "test")
    assert len({ScenesBank(), ScenesBank(split="train"), open_bank("scenes")}) == 1
    others = [ScenesBank(**one) for one in ({"seed": 1}, {"size": 48}, {"split": "test"}, {"vocabulary": "ssg"})]
    assert ScenesBank() not in others and len({*others}) == 4


def test_ids_lead_back_to_their_question():
    bank = open_bank("scenes", split="test", seed=3)
    question = bank.question(123)
    assert question.id == "scenes/test/3/123"
    assert bank.index_of(question.id) == 123
    for wrong in ("scenes/train/3/123", "scenes/test/0/123", "scenes/test/3/x", "scenes/test/3/1000000", "", "²"):
        with pytest.raises(AnatomyError, match="ids read scenes/test/3/0 to 999999"):
            bank.index_of(wrong)


def test_what_a_frame_shows():
    bank = open_bank("scenes", split="train")
    for i in range(60):
        scene, cells = bank.scene(i), bank.cell_names(i)
        shown = [scene.graph.objects[k] for k in scene.graph.of_kind("anatomy")]
        assert 4 <= len(shown) <= 6
        assert {item.cell: item.name for item in shown} == {
            cell: name for cell, name in enumerate(cells) if name != "background"
        }
        assert min(item.area for item in shown) >= 0.03 * scene.labels.size
        assert len(scene.graph.of_kind("instrument")) <= 2
        assert {scene.names[v] for v in np.unique(scene.labels) if v} == {item.name for item in scene.graph.objects}


def test_instruments_work_on_the_organ_under_their_tip():
    touched = 0
    for seed in range(60):
        layout, graph = draw_layout(np.random.default_rng(seed))
        regions, _ = layout.regions(96)
        index = {item.name: i for i, item in enumerate(graph.objects)}
        for placed, (organ, action, kind) in zip(layout.instruments, layout.actions, strict=True):
            assert SIX.names[int(regions[int(placed.y * 96), int(placed.x * 96)])] == organ
            assert (placed.kind, SIX.kinds[kind]) == (kind, "instrument")
            assert index[kind] in graph.relations[action][index[organ]]
            touched += 1
    assert touched > 30


def test_answers_letters_and_places_are_balanced(questions):
    both = [*questions[0], *questions[1]]
    for values, kinds in (
        ([q.letter for q in both], 4),
        ([q.structure for q in both], 6),
        ([q.details["location"] for q in both], 9),
    ):
        counts = np.unique(values, return_counts=True)[1]
        expected = len(both) / kinds
        assert len(counts) == kinds
        assert ((counts - expected) ** 2 / expected).sum() < 3.5 * kinds + 10


def test_place_and_size_do_not_tell_the_structure():
    areas = {name: [] for name in SIX.structures}
    for i in range(800):
        graph = draw_layout(np.random.default_rng([1, i]))[1]
        for k in graph.of_kind("anatomy"):
            areas[graph.objects[k].name].append(graph.objects[k].area)
    means = np.array([np.mean(values) for values in areas.values()])
    errors = np.array([np.std(values) / len(values) ** 0.5 for values in areas.values()])
    assert (np.abs(means - means.mean()) < 4 * errors).all()


def words(question):
    tokens = question.stem.split()
    return {*tokens, *(f"{a} {b}" for a, b in pairwise(tokens))}


@pytest.mark.parametrize("bank", ["scenes", "scenes-ssg"])
def test_a_reader_who_sees_no_image_stays_at_chance(bank, request):
    if bank == "scenes":
        train, test = request.getfixturevalue("questions")
    else:
        train, test = ([open_bank(bank, part).question(i) for i in range(2500)] for part in ("train", "test"))
    structures = open_bank(bank).structures
    vocabulary = {word: i for i, word in enumerate(sorted(set().union(*map(words, train))))}

    def encode(items):
        seen = np.zeros((len(items), len(vocabulary) + 1))
        seen[:, -1] = 1
        for row, item in enumerate(items):
            seen[row, [vocabulary[word] for word in words(item) if word in vocabulary]] = 1
        options = np.array([[structures.index(option) for option in item.options] for item in items])
        return seen, options, np.array([item.answer for item in items])

    seen, options, answers = encode(train)
    weights, places = np.zeros((seen.shape[1], len(structures))), np.zeros(4)
    for _ in range(120):  # softmax regression: words x option, plus the option's place
        scores = np.take_along_axis(seen @ weights, options, 1) + places
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        shares[np.arange(len(answers)), answers] -= 1
        spread = np.zeros((len(answers), len(structures)))
        np.put_along_axis(spread, options, shares, 1)
        weights -= 0.5 * (seen.T @ spread / len(answers) + 1e-3 * weights)
        places -= 0.5 * shares.mean(0)

    def accuracy(seen, options, answers):
        return ((np.take_along_axis(seen @ weights, options, 1) + places).argmax(1) == answers).mean()

    assert accuracy(seen, options, answers) > 0.33, "the reader does learn its training questions"
    assert accuracy(*encode(test)) <= 0.30


@pytest.mark.parametrize("vocabulary", [SIX, SSG], ids=["six", "ssg"])
def test_features_make_look_alikes_nearest_neighbours(vocabulary):
    features, structures = vocabulary.features(), vocabulary.structures
    assert features.shape[0] == len(structures) and np.isfinite(features).all()
    kin = {name: group for group in vocabulary.look_alikes for name in group}
    near = -np.linalg.norm(features[:, None] - features[None], axis=2)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for similarity in (near, unit @ unit.T):
        np.fill_diagonal(similarity, -np.inf)
        for row, name in enumerate(structures):
            assert structures[similarity[row].argmax()] in kin[name]


def test_families_of_look_alikes_make_up_the_whole_vocabulary():
    assert sorted(name for family in SSG.families for name in family) == sorted(SSG.structures)
    for group in SSG.look_alikes:
        assert any(set(group) <= set(family) for family in SSG.families)
    assert len(SSG.structures) == 13


@pytest.mark.parametrize(("bank", "vocabulary"), [("scenes", SIX), ("scenes-ssg", SSG)])
def test_structures_can_be_told_apart_by_their_pixels_and_look_alikes_are_hardest(bank, vocabulary):
    bank = open_bank(bank, split="train")
    rows, names, labels = [], [], range(1, len(vocabulary.structures) + 1)
    for i in range(60 * len(labels) // 2 + 60):
        scene, image = bank.scene(i), bank.question(i).pixels().astype(float)
        for value in labels:
            if (mask := scene.labels == value).any():
                rows.append([*np.log(image[mask].mean(0) + 1), *(image[mask].std(0) / 50)])
                names.append(value)
    table, kinds = np.array(rows), np.array(names)
    half = len(kinds) // 2
    scatter = sum(np.cov(table[:half][kinds[:half] == k].T) for k in labels)
    means = np.stack([table[:half][kinds[:half] == k].mean(0) for k in labels])
    offsets = table[half:, None] - means
    guesses = 1 + np.einsum("nki,ij,nkj->nk", offsets, np.linalg.inv(scatter), offsets).argmin(1)
    truth = kinds[half:]
    wrong = guesses != truth
    kin = {name: group for group in vocabulary.look_alikes for name in group}
    within = [
        vocabulary.names[a] in kin[vocabulary.names[b]] for a, b in zip(guesses[wrong], truth[wrong], strict=True)
    ]
    assert 0.7 < (~wrong).mean() < 0.99
    assert np.mean(within) > 0.4, "errors fall on look-alikes far more often than chance has it"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 47}, "size must be between 48 and 4096 pixels, got 47"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"n_options": 7}, "n_options must be between 2 and 6, got 7"),
        ({"split": "dev"}, "no split 'dev'; there are train, validation, test"),
        ({"vocabulary": "latin"}, "no vocabulary 'latin'; there are six, ssg"),
        ({"vocabulary": "ssg", "n_options": 14}, "n_options must be between 2 and 13, got 14"),
    ],
)
def test_bad_options_are_explained(options, message):
    with pytest.raises(AnatomyError, match=message):
        open_bank("scenes", **options)


@pytest.mark.parametrize("index", [-1, 1_000_000])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=f"0 to 999999, not {index}"):
        open_bank("scenes").question(index)
    with pytest.raises(AnatomyError, match="index must be between 0 and 999999"):
        open_bank("scenes").scene(index)


def test_a_short_train_split_holds_the_first_questions_and_leaves_the_others_endless():
    short, whole = ScenesBank(length=5), ScenesBank()
    assert [short.question(i) for i in range(len(short))] == [whole.question(i) for i in range(5)]
    with pytest.raises(IndexError):
        short.question(5)
    assert len(short.split("test")) == len(whole.split("test")) and len(short.split("train")) == 5
    with pytest.raises(AnatomyError, match="length must be between"):
        ScenesBank(length=0)
