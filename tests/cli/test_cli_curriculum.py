"""``anatomy-r1 curriculum …`` as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.cli.main import run
from anatomy_r1.curricula.similarity.matrix import read_similarity

FIGURE = Path(__file__).parents[3] / "shared/data/figures/fig1_reward_and_similarity.json"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def colours(path):
    with Image.open(path) as image:
        return np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)


def test_similarity_writes_the_matrix_and_a_heat_map(capsys):
    assert run(["curriculum", "similarity", "--similarity", "0.5*visual+0.5*ontology", "--out", "sim"]) == 0
    matrix = read_similarity(Path("sim/similarity.csv"))
    assert len(matrix.names) == 6
    assert len(colours("sim/similarity.png")) > 100
    shown = capsys.readouterr().out
    assert "liver" in shown and "sim/similarity.csv" in shown
    assert (
        run(["curriculum", "preview", "--curriculum-options", "similarity", "csv:sim/similarity.csv", "--draws", "20"])
        == 0
    )


def test_similarity_of_a_folder_of_masks(capsys):
    for name in ("images", "labels"):
        Path(name).mkdir()
    labels = np.kron(np.array([[1, 2, 3]] * 3), np.ones((20, 20), int)).astype(np.uint8)
    for at in range(4):
        Image.fromarray(labels).save(f"labels/{at}.png")
        Image.fromarray(np.stack([labels * 60, labels // 3 * 90, labels * 0], axis=-1)).save(f"images/{at}.png")
    Path("labels.csv").write_text("value,name\n1,liver\n2,spleen\n3,gut\n")
    arguments = ["curriculum", "similarity", "--bank", "masks:.", "--similarity", "visual", "--out", "sim"]
    assert run(arguments) == 0
    values = read_similarity(Path("sim/similarity.csv")).values
    assert values[0, 1] == values[~np.eye(3, dtype=bool)].max() > values[0, 2]
    Path("labels.csv").write_text("value,name\n1,liver\n2,spleen\n3,gut\n9,omentum\n")
    assert run(arguments) == 0  # a structure that never occurs is named, and as like to one as to another
    assert "omentum" in Path("sim/similarity.csv").read_text()


@pytest.mark.parametrize("part", ["vision", "text"])
def test_similarity_by_a_models_own_towers(part):
    assert run(["curriculum", "similarity", "--tower", "tiny", "--tower-part", part, "--out", "sim"]) == 0
    values = read_similarity(Path("sim/similarity.csv")).values
    assert len(np.unique(values.round(6))) > 10


def test_preview_draws_the_stages_and_their_shares(capsys):
    assert run(["curriculum", "preview", "--draws", "100", "--augmentation", "gdqa", "--out", "p"]) == 0
    shown = capsys.readouterr().out
    assert [share in shown for share in ("38%", "25%", "37%")] == [True] * 3
    assert "within 0.05" in shown and "gallbladder" in shown
    assert len(colours("p/preview.png")) > 1000


@pytest.mark.skipif(not FIGURE.exists(), reason="the paper's figure is not beside the project")
def test_the_papers_curve_is_met_on_scenes(capsys):
    assert run(["curriculum", "preview", "--draws", "600", "--figure", str(FIGURE)]) == 0
    shown = capsys.readouterr().out
    assert float(shown.split("RMSE ")[1].split(",")[0]) <= 0.03


def test_a_constant_curriculum_does_not_meet_the_curve(tmp_path, capsys):
    figure = {"x": list(range(11)), "ASC S": [0.1] * 4 + [0.4] * 3 + [0.7] * 4}
    Path("fig.json").write_text(json.dumps(figure))
    options = ["--curriculum-options", "schedule", "constant:0.4"]
    assert run(["curriculum", "preview", "--draws", "60", "--figure", "fig.json", *options]) == 0
    assert float(capsys.readouterr().out.split("RMSE ")[1].split(",")[0]) > 0.15


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["similarity", "--similarity", "visuel"], "unknown similarity 'visuel'. Did you mean 'visual'?"),
        (["similarity", "--similarity", "csv:none.csv"], "none.csv"),
        (["similarity", "--bank", "brain-atlas", "--similarity", "ontology:laparoscopy"], "lacks 126 structures"),
        (["similarity", "--tower", "oracle"], "policy must be tiny, tiny-coarse or hf:"),
        (["preview", "--draws", "3"], "draws must be at least 10"),
        (["preview", "--curriculum-options", "schedule", "papre"], "Did you mean 'paper'"),
        (["preview", "--draws", "10", "--figure", "none.json"], "none.json"),
    ],
)
def test_mistakes_end_in_a_line_and_status_2(arguments, expected, capsys):
    assert run(["curriculum", *arguments]) == 2
    shown = capsys.readouterr().err
    assert expected in shown and "Traceback" not in shown
