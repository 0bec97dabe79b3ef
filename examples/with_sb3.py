"""Let PPO of Stable-Baselines3 choose options by number: python examples/with_sb3.py [STEPS]."""

import sys

import gymnasium
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from anatomy_r1.envs import OptionActions

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 2048


class Tell(BaseCallback):
    """Says after each rollout how often the agent was right; chance is 0.25."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        right = (self.model.rollout_buffer.rewards > 1).mean()
        print(f"{self.num_timesteps:6,} questions, right {right:.3f}", flush=True)


env = OptionActions(gymnasium.make("anatomy_r1.envs:AnatomyVQA-v0", bank="scenes", curriculum="asc"))
agent = PPO("MultiInputPolicy", env, n_steps=min(512, STEPS), batch_size=64, gamma=0.0, seed=0, device="cpu")
agent.learn(STEPS, callback=Tell())
