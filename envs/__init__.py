"""How questions are asked and responses graded: parser, reward, the env, the grouped vector env, and tickets.

Importing this registers ``AnatomyVQA-v0``; ``gymnasium.make("anatomy_r1.envs:AnatomyVQA-v0")`` does both at once.
"""

import gymnasium

from anatomy_r1.core import read_option
from anatomy_r1.envs.env import AnatomyVQAEnv
from anatomy_r1.envs.lenient import lenient_score, read_leniently
from anatomy_r1.envs.observations import BrokenImage, Observation, Observations, observe, observe_one
from anatomy_r1.envs.option_actions import OptionActions, hashed_triples
from anatomy_r1.envs.question_stream import Task
from anatomy_r1.envs.render import as_picture, as_text
from anatomy_r1.envs.reward import RewardConfig, RewardPart, Score, read_blocks, score
from anatomy_r1.envs.tickets import Ticket, TicketOffice
from anatomy_r1.envs.vector_env import BAD_IN_A_ROW, AnatomyVQAVectorEnv

gymnasium.register(
    id="AnatomyVQA-v0",
    entry_point="anatomy_r1.envs.env:AnatomyVQAEnv",
    vector_entry_point="anatomy_r1.envs.vector_env:AnatomyVQAVectorEnv",
)

__all__ = [
    "BAD_IN_A_ROW",
    "AnatomyVQAEnv",
    "AnatomyVQAVectorEnv",
    "BrokenImage",
    "Observation",
    "Observations",
    "OptionActions",
    "RewardConfig",
    "RewardPart",
    "Score",
    "Task",
    "Ticket",
    "TicketOffice",
    "as_picture",
    "as_text",
    "hashed_triples",
    "lenient_score",
    "observe",
    "observe_one",
    "read_blocks",
    "read_leniently",
    "read_option",
    "score",
]
