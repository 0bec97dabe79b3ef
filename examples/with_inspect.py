"""A bank as a task of Inspect AI: inspect eval examples/with_inspect.py --model openai-api/local/tiny -T limit=20.

With OPENAI_API_KEY as LOCAL_API_KEY and the address of the endpoint as LOCAL_BASE_URL; or --model mockllm/model.
"""

from inspect_ai import Task, task

from anatomy_r1.integrations import inspect_task


@task
def anatomy(bank: str = "scenes", split: str = "test", limit: int = 100, seed: int = 0) -> Task:
    """Questions as they are, with the image blanked, and with another question's image."""
    return inspect_task(bank=bank, split=split, limit=limit, seed=seed)
