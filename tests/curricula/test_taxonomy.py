import json

import numpy as np
import pytest

from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula.similarity import FOLDER, make_similarity, read_taxonomy
from anatomy_r1.curricula.similarity.taxonomy import find_taxonomy

TREE = {
    "body": {"parent": None},
    "organ": {"parent": "body"},
    "liver": {"parent": "organ", "synonyms": ["hepar"]},
    "kidney": {"parent": "organ"},
    "bone": {"parent": "body"},
}


@pytest.fixture
def write(tmp_path):
    def write(nodes):
        path = tmp_path / "tree.json"
        path.write_text(json.dumps({"nodes": nodes}))
        return path

    return write


def test_wu_palmer_by_hand(write):
    values = read_taxonomy(write(TREE)).wu_palmer(["liver", "kidney", "Bone", "left kidney", "right_kidney"])
    assert values[0, 1] == pytest.approx(2 * 2 / (3 + 3))
    assert values[0, 2] == pytest.approx(2 * 1 / (3 + 2))
    assert values[3, 4] == pytest.approx(2 * 3 / (4 + 4))  # sides stand below what has no side
    assert values[1, 3] == pytest.approx(2 * 3 / (3 + 4))
    np.testing.assert_array_equal(values, values.T)
    assert read_taxonomy(write(TREE)).wu_palmer(["hepar", "liver"])[0, 1] == 1


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_ours_are_trees_with_sources_and_whole_numbers(path):
    data = json.loads(path.read_text(encoding="utf-8"))
    assert len(data["sources"]) >= 2 and data["title"]
    assert all(set(node) <= {"parent", "fma", "synonyms"} for node in data["nodes"].values())
    assert all(isinstance(node["fma"], int) for node in data["nodes"].values() if "fma" in node)
    taxonomy = read_taxonomy(path)
    leaves = set(taxonomy.nodes) - {node["parent"] for node in data["nodes"].values()}
    assert all(2 <= len(taxonomy.path(leaf)) <= 9 for leaf in leaves)


@pytest.mark.parametrize("bank", ["scenes", "brain-atlas"])
def test_the_embedded_banks_are_known(bank):
    structures = open_bank(bank, "train").structures
    assert find_taxonomy(None, structures).lacks(structures) == []


def test_neighbours_are_more_alike_than_strangers():
    brain = make_similarity("ontology", open_bank("brain-atlas", "train"))
    row = {name: number for number, name in enumerate(brain.names)}
    left = brain.values[row["left hippocampus"]]
    assert (
        left[row["right hippocampus"]]
        > left[row["left amygdala"]]
        > left[row["left cuneus"]]
        > left[row["third ventricle"]]
    )
    scenes = make_similarity("ontology:laparoscopy", open_bank("scenes"))
    row = {name: number for number, name in enumerate(scenes.names)}
    assert scenes.values[row["gallbladder"]].argsort()[-2] == row["cystic plate"]


def test_ssg_vqas_classes_are_known():
    classes = (
        "abdominal_wall_cavity adhesion blood_vessel cystic_artery cystic_duct cystic_pedicle cystic_plate fluid "
        "gallbladder gut liver omentum peritoneum bipolar clipper grasper hook irrigator scissors specimen_bag"
    )
    assert find_taxonomy("laparoscopy", []).lacks(classes.split()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spleen": {"parent": "gland"}}, "'gland' is a parent but no node"),
        ({"a": {"parent": "b"}, "b": {"parent": "a"}}, "is above itself"),
        ({"other": {"parent": None}}, r"one node without a parent, got \['body', 'other'\]"),
        ({"Hepar": {"parent": "organ"}}, r"occur twice: \['hepar'\]"),
        ({"spleen": {}}, "expected a taxonomy"),
    ],
)
def test_a_broken_tree_is_refused_with_its_file(write, change, message):
    with pytest.raises(AnatomyError, match=message) as caught:
        read_taxonomy(write(TREE | change))
    assert "tree.json" in str(caught.value)


def test_missing_structures_are_all_listed(write, make_bank):
    bank = make_bank(4)
    with pytest.raises(AnatomyError, match=r"lacks 4.*'organ 0', 'organ 1', 'organ 2', 'organ 3'"):
        make_similarity(f"ontology:{write(TREE)}", bank)
    with pytest.raises(AnatomyError, match="no taxonomy knows all"):
        make_similarity("ontology", bank)
    with pytest.raises(AnatomyError, match="known: brain, laparoscopy, omnimedvqa"):
        make_similarity("ontology:brian", bank)
