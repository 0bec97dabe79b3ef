"""vLLM as a policy: its engine samples, in this process or behind a server; what learns stays here."""

from anatomy_r1.agents.policies.vllm.policy import VllmPolicy

__all__ = ["VllmPolicy"]
