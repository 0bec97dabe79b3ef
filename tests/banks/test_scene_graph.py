import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anatomy_r1.banks.generate import LOCATIONS, graph_from_labels
from anatomy_r1.banks.generate.scene_graph import location_of
from anatomy_r1.banks.scenes.layout import draw_layout
from anatomy_r1.core import AnatomyError

NAMES = {1: "liver", 2: "gut", 3: "hook"}
LABEL_MAPS = arrays(np.int64, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.integers(0, 3))


def objects(labels, **options):
    graph = graph_from_labels(labels, NAMES, **options)
    return graph, {item.name: item for item in graph.objects}


def test_measures_a_block():
    labels = np.zeros((30, 60), dtype=int)
    labels[2:8, 44:54] = 1
    graph, found = objects(labels)
    liver = found["liver"]
    assert (graph.width, graph.height) == (60, 30)
    assert liver.box == (44, 2, 54, 8)
    assert liver.center == (49, 5)
    assert (liver.area, liver.location, liver.kind) == (60, "top-right", "anatomy")


def test_each_cell_has_its_name():
    seen = [location_of(x, y, 90, 90) for y in (15, 45, 75) for x in (15, 45, 75)]
    assert tuple(seen) == LOCATIONS


@given(LABEL_MAPS)
def test_center_lies_inside_and_box_is_tight(labels):
    _, found = objects(labels)
    for value, name in NAMES.items():
        mask = labels == value
        assert (name in found) == mask.any()
        if name in found:
            item = found[name]
            x, y = item.center
            assert mask[int(y), int(x)] or mask[round(y - 0.5), round(x - 0.5)]
            x0, y0, x1, y1 = map(int, item.box)
            assert mask[y0:y1, x0:x1].sum() == mask.sum() == item.area
            assert mask[y0].any() and mask[y1 - 1].any() and mask[:, x0].any() and mask[:, x1 - 1].any()


@given(LABEL_MAPS)
def test_relations_are_converse_and_agree_with_the_centers(labels):
    graph, _ = objects(labels)
    for name, converse, axis, extent in (("left", "right", 0, graph.width), ("above", "below", 1, graph.height)):
        for i, a in enumerate(graph.objects):
            for j, b in enumerate(graph.objects):
                holds = j in graph.relations[name][i]
                assert holds == (i in graph.relations[converse][j])
                distance = b.center[axis] / extent - a.center[axis] / extent
                assert holds == (distance > 0.1 + 1e-9)


def test_a_mirrored_map_swaps_left_and_right_only():
    swapped = {"left": "right", "right": "left"}
    for seed in range(20):
        layout, graph = draw_layout(np.random.default_rng(seed))
        mirrored = layout.graph(layout.labels(96)[:, ::-1])
        assert mirrored.relations == {name: graph.relations[swapped.get(name, name)] for name in graph.relations}


def test_a_ring_is_centred_on_itself():
    labels = np.zeros((21, 21), dtype=int)
    labels[3:18, 3:18] = 1
    labels[5:16, 5:16] = 0
    _, found = objects(labels)
    x, y = found["liver"].center
    assert labels[int(y), int(x)] == 1


def test_actions_point_from_the_organ_to_a_visible_instrument():
    labels = np.zeros((12, 12), dtype=int)
    labels[:4], labels[4:8], labels[8:] = 1, 2, 3
    graph, _ = objects(labels, kinds={"hook": "instrument"}, actions=[("gut", "dissected by", "hook")])
    assert graph.relations["dissected by"] == ((), (2,), ())
    assert graph.of_kind("instrument") == (2,)
    hidden, _ = objects(np.where(labels == 3, 0, labels), actions=[("gut", "dissected by", "hook")])
    assert hidden.relations["dissected by"] == ((), ())


def test_labels_of_one_name_are_one_object_and_specks_are_left_out():
    labels = np.zeros((10, 10), dtype=int)
    labels[:, :2], labels[:, 8:], labels[5, 5] = 1, 2, 3
    graph = graph_from_labels(labels, {1: "vein", 2: "vein", 3: "speck"}, min_area=2)
    assert [(item.name, item.area, item.box) for item in graph.objects] == [("vein", 40, (0, 0, 10, 10))]


@pytest.mark.parametrize("labels", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=int)])
def test_refuses_what_is_no_label_map(labels):
    with pytest.raises(AnatomyError, match="2-D integer array, got"):
        graph_from_labels(labels, NAMES)
