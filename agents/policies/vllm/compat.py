"""All that is used of vLLM, and of transformers for it, beyond what their documents promise.

Each function says in which versions it was seen to hold; ``tests/agents/test_compat.py`` asks the installed ones.
"""

import logging
import os
import random
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

RELOAD = "reload_weights"
"""What every worker can do, by way of ``collective_rpc``: ``weights_iterator`` or ``weights_path``. vLLM 0.32, 0.33."""
_ENVIRONMENT = {
    # The engine must live in this process to be handed weights without a copy.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # One thread as elsewhere in the process: vLLM would bind it to cores of its choice.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}


def reload_weights(llm: Any, weights: Iterable[tuple[str, Tensor]]) -> None:
    """Hand an engine in this process new weights, by the names of a checkpoint. vLLM 0.32, 0.33."""
    llm.collective_rpc(RELOAD, kwargs={"weights_iterator": iter(weights)})


def forget_caches(llm: Any) -> None:
    """Have an engine forget what it computed with other weights: texts and images. vLLM 0.32, 0.33."""
    llm.reset_prefix_cache()
    llm.llm_engine.reset_encoder_cache()


def open_channel(host: str, port: int, workers: int, client: Any, source: Any) -> Any:
    """A sender to the workers of a server, which meet it at ``host:port``; ``send_weights()`` sends ``source``.

    vLLM 0.32; in 0.33 by its documentation.
    """
    from vllm.distributed.weight_transfer import WeightTransferTrainerFactory
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    about = NCCLTrainerInitInfo(rank=0, master_address=host, master_port=port, world_size=1 + workers)
    return WeightTransferTrainerFactory.trainer_init(about, client=client, source=source)


def weight_meta(name: str, dtype: torch.dtype, shape: tuple[int, ...]) -> Any:
    """What a sender says of a weight before it comes. vLLM 0.32; in 0.33 by its documentation."""
    from vllm.distributed.weight_transfer import ParamMeta

    return ParamMeta(name, dtype, shape)


def checkpoint_names(model: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the names of a checkpoint, as ``save_pretrained`` writes them. transformers 5.18 to 5.23."""
    return dict(revert_weight_conversion(model, state))


@contextmanager
def surroundings_kept() -> Iterator[None]:
    """Start vLLM without a trace: it seeds the global generators and reads its mode from the environment.

    vLLM 0.32, 0.33.
    """
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    states = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002 (kept, not used)
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.random.set_rng_state(states[2])
        logging.captureWarnings(False)
