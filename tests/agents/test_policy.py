import importlib
import subprocess
import sys

import numpy as np
import pytest

from anatomy_r1.agents import CallablePolicy, Policy, Response, make_policy
from anatomy_r1.agents.policies import Controllable, Described, Limited, Overlapping, Resumable, name_of
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_augmentation, make_curriculum
from anatomy_r1.evaluation.run import open_policy

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


PLUGGED = """
from anatomy_r1.agents import Response

class Plain:
    def respond(self, observations, *, n=1):
        return [Response("plain")] * (n * len(observations["prompt"]))

class Handed(Plain):
    def __init__(self, bank, seed=0):
        self.said = f"{bank.name} {seed}"

class Called:
    def __call__(self, observation):
        return "called"

instance, called, number = Plain(), Called(), 7

def function(observation):
    return "function"

class Mute:
    pass

def broken(:
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder that one stands in, with a module; not on Python's path."""
    (tmp_path / "plugged_here.py").write_text(PLUGGED.replace("def broken(:\n", ""))
    (tmp_path / "torn_here.py").write_text(PLUGGED)
    (tmp_path / "raises_here.py").write_text("x = 1\nraise RuntimeError('no card')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in sys.path if path not in ("", str(tmp_path))])
    yield tmp_path
    for name in ("plugged_here", "torn_here", "raises_here"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("attribute", "name", "said"),
    [
        ("Plain", "Plain", "plain"),
        ("instance", "Plain", "plain"),
        ("function", "function", "function"),
        ("called", "Called", "called"),
        ("Called", "Called", "called"),
    ],
)
def test_whatever_can_respond_is_a_policy_from_a_module_of_the_current_folder(here, attribute, name, said):
    policy = make_policy(f"plugged_here:{attribute}")
    assert name_of(policy) == name
    assert [response.text for response in policy.respond(OBSERVATIONS, n=2)] == [said] * 4


def test_an_instance_stays_itself_and_a_class_is_built(here):
    policy = make_policy("plugged_here:instance")
    assert type(policy).__name__ == "Plain" and make_policy("plugged_here:instance") is policy
    assert make_policy(type(policy)) is not policy and isinstance(make_policy(type(policy)), type(policy))
    bank = open_bank("scenes")
    assert open_policy("plugged_here:Handed", bank, 5, {}).said == "scenes 5"
    for attribute in ("Plain", "instance", "function", "called"):
        assert open_policy(f"plugged_here:{attribute}", bank, 5, {}).respond(OBSERVATIONS)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("plugged_here:Mute", r"can't answer: expected .*respond\(observations, \*, n=1\).*got Mute"),
        ("plugged_here:number", "can't answer.*got int"),
        ("plugged_here:instanse", "no attribute 'instanse'.*Did you mean 'instance'"),
        ("torn_here:Plain", "SyntaxError.*torn_here.py, line"),
        ("raises_here:Plain", "RuntimeError: no card; .*raises_here.py, line 2"),
        ("not_here:Plain", "No module named 'not_here'"),
    ],
)
def test_what_is_no_policy_is_said_in_a_line_or_two(here, spec, words):
    with pytest.raises(AnatomyError, match=words) as caught:
        make_policy(spec)
    assert str(caught.value).count("\n") <= 1


def test_options_are_refused_by_what_takes_none_and_by_type_and_by_name(here):
    for attribute in ("instance", "function"):
        with pytest.raises(AnatomyError, match="takes no options, got 'shade'"):
            make_policy(f"plugged_here:{attribute}", shade=1)
    with pytest.raises(AnatomyError, match=r"there is no 'sede'. Did you mean 'seed'\?\nKnown: bank, seed"):
        make_policy("random", sede=1)
    for wrong in ("often", 1.5, True, None):
        with pytest.raises(AnatomyError, match=f"seed must be a whole number, got {wrong!r}"):
            make_policy("random", seed=wrong)


def test_every_kind_of_plug_in_is_found_in_the_current_folder(here):
    (here / "plugged_here.py").write_text(
        "from anatomy_r1.banks import ScenesBank\nfrom anatomy_r1.curricula import GDQA, Uniform\nmade = ScenesBank()\n"
    )
    importlib.invalidate_caches()
    bank = open_bank("plugged_here:ScenesBank", length=100)
    assert len(bank) == 100 and open_bank("plugged_here:made").name == "scenes"
    assert type(make_curriculum("plugged_here:Uniform", bank)).__name__ == "Uniform"
    assert type(make_augmentation("plugged_here:GDQA", bank)).__name__ == "GDQA"
    with pytest.raises(AnatomyError, match="built already and takes no options, got 'size'"):
        open_bank("plugged_here:made", size=3)


def test_the_current_folder_hides_nothing_that_is_installed_for_longer_than_the_import(here):
    (here / "gymnasium.py").write_text("raise RuntimeError('not the one')")
    make_policy("plugged_here:Plain")
    code = "import sys; sys.path.append('.'); import gymnasium; print(gymnasium.__name__)"
    assert sys.path[-1] == str(here) and str(here) not in sys.path[:-1]
    assert subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True).stdout == "gymnasium\n"


def test_what_a_policy_may_have_besides_is_declared():
    policy = make_policy("random")
    assert isinstance(policy, Policy) and isinstance(policy, Controllable) and not policy.needs_controls
    assert not isinstance(policy, Limited | Described | Resumable | Overlapping)
    assert isinstance(make_policy("human"), Limited)
