import json

import numpy as np
import pytest
from PIL import Image as Pil

from anatomy_r1.banks import OmniMedVQABank, open_bank, refuse_special_tokens
from anatomy_r1.core import AnatomyError


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "Images").mkdir()
    Pil.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "Images/a.png")
    row = {
        "dataset": "X",
        "question_type": "Anatomy Identification",
        "gt_answer": "Liver",
        "image_path": "Images/a.png",
        "option_A": "Liver",
        "option_B": "Lung",
        "modality_type": "CT",
    }
    return [row | {"question_id": f"q{number}", "question": f"What {number}?"} for number in range(5000)]


def opened(tmp_path, rows):
    (tmp_path / "x.json").write_text(json.dumps(rows))
    return OmniMedVQABank(tmp_path)


@pytest.mark.parametrize("field", ["question", "option_B"])
def test_a_model_s_own_tokens_are_found_in_every_row_before_a_run(tmp_path, rows, field):
    rows[3333][field] = "<custom> lobe"
    bank = opened(tmp_path, rows)
    with pytest.raises(AnatomyError, match="holds '<custom>', a special token of this model"):
        refuse_special_tokens(bank, ["<custom>"])
    refuse_special_tokens(bank, ["<other>"])


def test_banks_without_rows_are_sampled_and_their_structures_all_looked_at():
    bank = open_bank("scenes")
    refuse_special_tokens(bank, ["<custom>"], limit=5)
    bank.structures = (*bank.structures, "<custom> lobe")
    with pytest.raises(AnatomyError, match="bank 'scenes', structures"):
        refuse_special_tokens(bank, ["<custom>"], limit=5)


def test_escape_codes_in_a_row_are_cleaned_in_the_bank_too(tmp_path, rows):
    rows[0] |= {
        "question_id": "q\x1b[31m",
        "modality_type": "CT\x1b]0;title\x07",
        "question_type": "Anatomy\x9b Identification",
    }
    whole = opened(tmp_path, rows)
    questions = [whole.question(at) for at in range(len(whole))]
    (changed,) = [question for question in questions if "31m" in question.id]
    assert (changed.id, changed.modality) == ("x/q\ufffd[31m", "CT\ufffd]0;title\ufffd")
    assert whole.question(whole.index_of(changed.id)) == changed
