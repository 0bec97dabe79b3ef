from hypothesis import given
from hypothesis import strategies as st
from tiny_model import build_tokenizer

TOKENIZER = build_tokenizer(["What anatomy is at the top-left of the frame ?\nA. liver", "cystic plate"])


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="_<"), max_size=60))
def test_any_text_survives_the_tokenizer(text):
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"], clean_up_tokenization_spaces=False) == text


def test_known_words_are_single_tokens_and_underscores_are_spaces():
    assert len(TOKENIZER("A. liver")["input_ids"]) == 3
    assert TOKENIZER("cystic_plate")["input_ids"] == TOKENIZER("cystic plate")["input_ids"]


def test_tags_stay_in_the_text_and_special_tokens_leave_it():
    tokens = TOKENIZER("<think>liver</think><answer>A</answer><end_of_utterance>")["input_ids"]
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == "<think>liver</think><answer>A</answer>"
