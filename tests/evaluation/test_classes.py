from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.evaluation import evaluate, read_rollouts
from anatomy_r1.evaluation.records import RolloutTable
from anatomy_r1.evaluation.summaries.anatomy import anatomical_errors, is_laterality_error, taxonomy_distance
from anatomy_r1.evaluation.summaries.classes import Classes, confusion

metrics = pytest.importorskip("sklearn.metrics")
pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 5)), min_size=1, max_size=80)


def classes_of(sample):
    right, chosen = np.array(sample).T
    return Classes(tuple("abcdef"), right, chosen)


@given(pairs)
def test_balanced_accuracy_and_macro_f1_are_those_of_scikit_learn(sample):
    classes, (right, chosen) = classes_of(sample), np.array(sample).T
    present = np.unique(right)
    recalls = metrics.recall_score(right, chosen, labels=present, average="macro", zero_division=0)
    f1 = metrics.f1_score(right, chosen, labels=present, average="macro", zero_division=0)
    assert classes.balanced_accuracy() == pytest.approx(recalls)
    assert classes.macro_f1() == pytest.approx(f1)


@given(pairs)
def test_the_confusion_matrix_counts_every_response_once(sample):
    found = confusion(classes_of(sample))
    right, chosen = np.array(sample).T
    counts = np.array(found.counts)
    assert counts.sum() == len(sample) and counts.shape == (len(found.labels), len(found.labels) + 1)
    assert counts[:, -1].sum() == (chosen == -1).sum()
    for row, label in enumerate(found.labels):
        if label != "other":
            assert counts[row].sum() == (right == "abcdef".index(label)).sum()
            assert counts[row, row] == ((right == chosen) & (right == "abcdef".index(label))).sum()


def test_rare_answers_are_put_together():
    right = np.array([*range(40), 0, 0, 1])
    found = confusion(Classes(tuple(f"organ {k}" for k in range(40)), right, right))
    assert len(found.labels) == 25 and found.labels[:2] == ("organ 0", "organ 1") and found.labels[-1] == "other"
    assert found.counts[0][0] == 3 and found.counts[-1][-2] == 16


@pytest.mark.parametrize(
    ("right", "chosen", "expected"),
    [
        ("left hippocampus", "right hippocampus", True),
        ("Right_Lateral_Ventricle.", "left lateral ventricle", True),
        ("left hippocampus", "left amygdala", False),
        ("left hippocampus", "right amygdala", False),
        ("bright spot", "bleft spot", False),
        ("liver", "liver", False),
    ],
)
def test_laterality_errors_differ_in_the_side_alone(right, chosen, expected):
    assert is_laterality_error(right, chosen) is expected


def rollout(rollout_of, right, chosen, pool):
    return rollout_of(
        options=pool, answer="ABCD"[pool.index(right)], choice=None if chosen is None else "ABCD"[pool.index(chosen)]
    )


def test_errors_are_measured_in_the_taxonomy(rollout_of):
    pool = ("left lung", "right lung", "heart", "alien")
    far = {frozenset(pair): d for pair, d in ((pool[:2], 0.1), ((pool[0], "heart"), 0.5), ((pool[1], "heart"), 0.5))}
    rows = [
        rollout(rollout_of, "left lung", chosen, pool) for chosen in ("left lung", "right lung", "heart", "alien", None)
    ]
    found = anatomical_errors(RolloutTable.from_rollouts(rows), lambda a, b: far.get(frozenset((a, b))))
    assert (found.wrong, found.placed) == (3, 2)
    assert found.distance == pytest.approx((0.1 + 0.5) / 2)
    assert found.chance_distance == pytest.approx((0.1 + 0.5) / 2)
    assert found.laterality == pytest.approx(1 / 3)


def test_no_wrong_answers_have_no_distance(rollout_of):
    found = anatomical_errors(RolloutTable.from_rollouts([rollout(rollout_of, "heart", "heart", ("heart", "lung"))]))
    assert (found.wrong, found.distance, found.laterality) == (0, None, 0.0)


def test_distances_come_from_the_taxonomy_that_knows_both():
    distance = taxonomy_distance()
    side, lobe = distance("left hippocampus", "right hippocampus"), distance("left hippocampus", "cerebellum exterior")
    assert 0 < side < 0.5 and (lobe is None or side < lobe)
    assert 0 < distance("gallbladder", "cystic plate") < distance("gallbladder", "grasper") <= 1
    assert distance("liver", "liver") == 0 and distance("liver", "no such thing") is None


DATA = Path(__file__).resolve().parents[3] / "shared/data/ssg_vqa"


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_ssg_vqas_own_groups_and_their_macro_f1(tmp_path):
    bank = open_bank("ssg-vqa", path=DATA, require_images=False)
    found = evaluate(
        make_policy("noisy-oracle:0.5", bank=bank), bank, split="validation", out=tmp_path, baselines=(), gallery=0
    )
    assert {row.name for row in found.tables["hops"]} <= {"zero-hop", "one-hop", "single-and"}
    assert {"object", "attribute", "exist", "count"} == {row.name for row in found.tables["asks"]}
    for kind, share in found.group_f1["asks"].items():
        rows = [one for one in read_rollouts(tmp_path) if one.groups.get("asks") == kind]
        if kind != "mean":
            truths, chosen = [one.right for one in rows], [one.chosen or "none" for one in rows]
            expected = metrics.f1_score(truths, chosen, labels=sorted(set(truths)), average="macro", zero_division=0)
            assert share == pytest.approx(expected)
    parts = [share for kind, share in found.group_f1["asks"].items() if kind != "mean"]
    assert found.group_f1["asks"]["mean"] == pytest.approx(np.mean(parts))
