"""Over how many processes one copy of the weights is spread, as the launcher's environment says.

FSDP2 and ZeRO-3 spread it over all. HSDP (accelerate's ``parallelism_config``) spreads it over each ``dp_shard_size``
neighbouring ranks, a node's, say, and keeps ``dp_replicate_size`` such copies: weights are gathered within a node, and
only gradients travel between nodes.
"""

import os
from math import prod

from anatomy_r1.core import AnatomyError

_SIZES = ("dp_replicate", "dp_shard", "tp", "cp", "sp")


def asks_for_mesh() -> bool:
    """Whether the launcher was given a ``parallelism_config``."""
    return os.environ.get("ACCELERATE_USE_PARALLELISM_CONFIG", "").lower() == "true"


def weight_shards(processes: int) -> int:
    """How many of so many processes hold one copy of the weights between them.

    Raises:
        AnatomyError: a ``parallelism_config`` that does not fit the processes, or asks for more than data parallelism.
    """
    if asks_for_mesh():
        return _replica(processes)
    fsdp = os.environ.get("ACCELERATE_USE_FSDP") == "true"
    return processes if fsdp or os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3" else 1


def _replica(processes: int) -> int:
    sizes = {name: int(os.environ.get(f"PARALLELISM_CONFIG_{name.upper()}_SIZE", 1)) for name in _SIZES}
    for name in _SIZES[2:]:
        if sizes[name] > 1:
            raise AnatomyError(
                f"accelerate: parallelism_config asks for {name}_size {sizes[name]}, which is not served; "
                "it may have dp_replicate_size and dp_shard_size, as configs/accelerate/hsdp.yaml does."
            )
    if prod(sizes.values()) != processes:
        raise AnatomyError(
            f"accelerate: dp_replicate_size {sizes['dp_replicate']} x dp_shard_size {sizes['dp_shard']} is not the "
            f"{processes} processes that run: give --parallelism_config_dp_replicate_size nodes, "
            "--parallelism_config_dp_shard_size GPUs of a node."
        )
    if sizes["dp_shard"] == 1:
        raise AnatomyError("accelerate: dp_shard_size 1 spreads no weights: use configs/accelerate/ddp.yaml.")
    return sizes["dp_shard"]
