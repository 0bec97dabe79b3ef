"""Settings, and what must be installed for what. Nothing here imports torch."""

from anatomy_r1.agents.configs.grpo import Baseline, Correction, Decode, Gate, GRPOConfig, Loss, Scale, resolved
from anatomy_r1.agents.configs.hub import base_of, require_reachable
from anatomy_r1.agents.configs.installed import EMBEDDED, TINY_FOLDER, require_training_extra
from anatomy_r1.agents.configs.model import Attention, ModelConfig, TowerAttention
from anatomy_r1.agents.configs.sft import SFTConfig
from anatomy_r1.agents.configs.sizes import SizeDefaults
from anatomy_r1.agents.configs.vllm import VllmSettings
from anatomy_r1.agents.configs.vllm_versions import check_version, require_vllm

__all__ = [
    "EMBEDDED",
    "TINY_FOLDER",
    "Attention",
    "Baseline",
    "Correction",
    "Decode",
    "GRPOConfig",
    "Gate",
    "Loss",
    "ModelConfig",
    "SFTConfig",
    "Scale",
    "SizeDefaults",
    "TowerAttention",
    "VllmSettings",
    "base_of",
    "check_version",
    "require_reachable",
    "require_training_extra",
    "require_vllm",
    "resolved",
]
