import numpy as np
from my_policy import MyPolicy


def test_dark_images_get_a_and_bright_ones_b():
    images = [np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)]
    said = MyPolicy().respond({"image": images, "prompt": ["", ""]}, n=2)
    assert [one.text[-10] for one in said] == ["A", "A", "B", "B"]
