"""All that training with several processes needs of accelerate and DeepSpeed beyond their public names.

Each function says in which versions it was seen to hold; ``tests/agents/test_compat.py`` asks the installed ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, ParallelismConfig
from accelerate.utils.fsdp_utils import fsdp2_apply_ac, fsdp2_prepare_model
from torch import nn
from transformers.integrations import deepspeed as hf_deepspeed

from anatomy_r1.agents.training.mesh import asks_for_mesh

NO_MESH = ParallelismConfig(dp_replicate_size=1, dp_shard_size=1, tp_size=1, cp_size=1, sp_size=1)
"""Keeps accelerate 1.15 from reading the launcher's, which it refuses on CPUs."""


def shard_on_cpu(accelerator: Accelerator) -> None:
    """Have FSDP2 on CPUs, where accelerate takes DDP whatever was asked; so sharding can be tried anywhere.

    accelerate 1.15: its shared state says what ``prepare`` does, and may be rewritten before.
    """
    plugin = FullyShardedDataParallelPlugin()
    if accelerator.mixed_precision != "no":
        plugin.set_mixed_precision(accelerator.mixed_precision)
    accelerator.state.distributed_type, accelerator.state.fsdp_plugin = DistributedType.FSDP, plugin


def shard_weights(accelerator: Accelerator, module: nn.Module) -> None:
    """Spread the weights of a module on the meta device, in place; they are unset then, on the accelerator's device.

    accelerate 1.15: ``prepare`` refuses a second module under FSDP2, and can't tell an optimiser's parameters on the
    meta device from each other; this is what it calls. Its own loading by rank, which we don't use, would look for
    weights where there are none.
    """
    plugin = accelerator.state.fsdp_plugin
    plugin.cpu_ram_efficient_loading = False
    plugin.set_auto_wrap_policy(module)
    if plugin.activation_checkpointing:
        module = fsdp2_apply_ac(accelerator, module)
    with _mesh_on_cpu(accelerator):
        fsdp2_prepare_model(accelerator, module)
    module.to_empty(device=accelerator.device)


@contextmanager
def _mesh_on_cpu(accelerator: Accelerator) -> Iterator[None]:
    """The launcher's mesh where accelerate looks for it; on GPUs it stands there already (see :data:`NO_MESH`)."""
    state = accelerator.state
    before = state.parallelism_config, state.device_mesh
    if asks_for_mesh() and state.device_mesh is None:
        mesh = _asked_mesh()
        state.parallelism_config, state.device_mesh = mesh, mesh.get_device_mesh(accelerator.device.type)
    try:
        yield
    finally:
        state.parallelism_config, state.device_mesh = before


@cache
def _asked_mesh() -> ParallelismConfig:
    return ParallelismConfig()


def forget_passes(parts: Sequence[Any]) -> None:
    """Forget the order of FSDP2's latest passes, by which it fetches weights ahead of a backward pass.

    torch 2.13 notes it in passes without gradients, too. Where one process made more of them than the others, as in an
    evaluation, it would fetch what they do not, and all would wait for each other forever.
    """
    for part in parts:
        state = part._get_fsdp_state()
        state._comm_ctx.post_forward_order.clear()
        for group in state._fsdp_param_groups:
            group._post_forward_indices.clear()


def configure_deepspeed(accelerator: Accelerator, max_norm: float) -> None:
    """Tell DeepSpeed how far to clip, and a batch size, which it asks for where there is no data loader.

    accelerate 1.15 reads the plugin's ``deepspeed_config`` when it prepares.
    """
    settings = accelerator.state.deepspeed_plugin.deepspeed_config
    settings |= {"train_micro_batch_size_per_gpu": 1, "gradient_clipping": max_norm}


def bare_optimiser(optimiser: Any) -> Any:
    """The optimiser below all wrappers; those of accelerate 1.15 and DeepSpeed 0.19 keep it as ``optimizer``."""
    while hasattr(optimiser, "optimizer"):
        optimiser = optimiser.optimizer
    return optimiser


@contextmanager
def stage3_hooks_off(engine: Any) -> Iterator[None]:
    """Within gathered weights: DeepSpeed's hooks would take them apart again after each layer.

    DeepSpeed 0.19: stage 3 keeps its hooks in ``optimizer.parameter_offload``, and notes on each parameter for which
    layers it was gathered.
    """
    offload = engine.optimizer.parameter_offload
    for parameter in engine.parameters():
        parameter.ds_active_sub_modules.clear()
    offload._remove_module_hooks()
    try:
        yield
    finally:
        offload.setup_zero_stage3_hooks()


@contextmanager
def models_undivided() -> Iterator[None]:
    """Models are loaded whole; transformers would divide them among the processes while stage 3 is on.

    transformers 5.18 to 5.23 asks a weak reference to DeepSpeed's config.
    """
    before, hf_deepspeed._hf_deepspeed_config_weak_ref = hf_deepspeed._hf_deepspeed_config_weak_ref, None
    try:
        yield
    finally:
        hf_deepspeed._hf_deepspeed_config_weak_ref = before


def make_moments(engine: Any, names: tuple[str, ...]) -> None:
    """Make AdamW's moments, zeros, which would otherwise come with the first step.

    DeepSpeed 0.19: the optimiser works on flat groups, ``fp32_partitioned_groups_flat`` (stage 3) or
    ``single_partition_of_fp32_groups`` (stages 1 and 2), which link them to parameters in
    ``_lazy_init_hp_params_optimizer_state``.
    """
    divided, optimiser = engine.optimizer, engine.optimizer.optimizer
    if optimiser.state:
        return
    third = hasattr(divided, "fp32_partitioned_groups_flat")
    for flat in divided.fp32_partitioned_groups_flat if third else divided.single_partition_of_fp32_groups:
        optimiser.state[flat] = {name: torch.zeros_like(flat) for name in names} | {"step": torch.zeros(())}
    if not third:
        divided._lazy_init_hp_params_optimizer_state()
