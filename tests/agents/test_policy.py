import numpy as np
import pytest

from anatomy_r1.agents import CallablePolicy, Response, make_policy
from anatomy_r1.core import AnatomyError

OBSERVATIONS = {
    "image": [np.zeros((2, 2, 3), np.uint8), np.ones((2, 2, 3), np.uint8)],
    "prompt": ["first", "second"],
}


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(
        "from anatomy_r1.agents import Response\n"
        "def shout(observation):\n    return observation['prompt'].upper()\n"
        "class Fixed:\n"
        "    name = 'fixed'\n"
        "    def __init__(self, seed=0):\n        self.seed = seed\n"
        "    def respond(self, observations, *, n=1):\n"
        "        return [Response(str(self.seed))] * (n * len(observations['prompt']))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_a_function_answers_each_observation_n_times_those_of_one_adjacent():
    policy = make_policy(lambda observation: f"{observation['prompt']} {observation['image'].sum()}")
    texts = [response.text for response in policy.respond(OBSERVATIONS, n=2)]
    assert texts == ["first 0", "first 0", "second 12", "second 12"]


def test_a_function_and_a_class_of_the_users_own_module_are_policies(user_module):
    assert [r.text for r in make_policy("my_policies:shout").respond(OBSERVATIONS)] == ["FIRST", "SECOND"]
    policy = make_policy("my_policies:Fixed", seed=7)
    assert (policy.name, policy.respond(OBSERVATIONS, n=1)[0].text) == ("fixed", "7")


def test_a_policy_object_stays_itself():
    policy = CallablePolicy(lambda observation: "x", "mine")
    assert make_policy(policy) is policy
    assert policy.name == "mine"


def test_an_unknown_policy_is_answered_with_the_known_ones_and_the_nearest():
    with pytest.raises(AnatomyError) as caught:
        make_policy("orcale")
    for word in ("orcale", "'oracle'", "random", "blind", "module:attribute"):
        assert word in str(caught.value)


def test_a_module_that_lacks_the_attribute_is_a_clear_error(user_module):
    with pytest.raises(AnatomyError, match="my_policies:absent"):
        make_policy("my_policies:absent")


def test_an_option_the_factory_does_not_take_is_a_clear_error():
    with pytest.raises(AnatomyError, match="temperature"):
        make_policy("random", temperature=1.0)


def test_a_response_is_complete_without_tokens():
    assert Response("text") == Response("text", None, None, False)
