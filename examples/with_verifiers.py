"""A bank as an environment of verifiers, which is a module that exports a taskset and how it is asked.

PYTHONPATH=examples vf-eval with_verifiers -n 20 -m MODEL --client.base-url http://127.0.0.1:8000/v1 \\
    --client.api-key-var OPENAI_API_KEY --env.agent.runtime.type subprocess --no-push --no-rich
"""

from anatomy_r1.integrations.verifiers_taskset import AnatomyHarness, AnatomyTaskset

__all__ = ["AnatomyHarness", "AnatomyTaskset"]
