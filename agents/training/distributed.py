"""One process or many: accelerate's engines (DDP, FSDP2, DeepSpeed ZeRO) behind one face.

Every process draws the same questions, samples for its own groups, hears all responses, and learns from its own groups.
A share's loss is normalised by the whole batch, so the gradients of the shares add up to the batch's; engines average
over processes, hence a factor of their number. Engines talk in every pass: all processes make equally many.

The main process reads the weights of a model, and gives them to the others one tensor at a time: so no host holds a
copy per process, and where weights are spread no device ever holds them all.
"""

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

from anatomy_r1.agents.logprobs import ResponseLogProbs
from anatomy_r1.agents.model import buffers_of, empty_weights, fuse_norms, set_buffers
from anatomy_r1.agents.training.compat import (
    NO_MESH,
    bare_optimiser,
    configure_deepspeed,
    forget_passes,
    models_undivided,
    shard_on_cpu,
    shard_weights,
)
from anatomy_r1.agents.training.master_adamw import MasterAdamW
from anatomy_r1.agents.training.mesh import weight_shards
from anatomy_r1.agents.training.optimiser import clip_and_step, set_rate
from anatomy_r1.agents.training.peers import Peers, together
from anatomy_r1.core import AnatomyError

T = TypeVar("T")
State = dict[str, Tensor]
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_MAIN = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)


class Distributed(Peers):
    """This process among those that train one model.

    Raises:
        AnatomyError: an engine that can't serve (FSDP1, Megatron, XLA), a mesh that doesn't fit the processes.
    """

    def __init__(self, mixed_precision: str) -> None:
        super().__init__()
        weight_shards(self.count)
        on_cpu = os.environ.get("ACCELERATE_USE_FSDP") == "true" and self.kind == "MULTI_CPU"
        self._ddp = DistributedDataParallelKwargs()
        self.accelerator = Accelerator(
            mixed_precision=mixed_precision,
            kwargs_handlers=[self._ddp],
            parallelism_config=NO_MESH if on_cpu else None,
        )
        if on_cpu:
            shard_on_cpu(self.accelerator)
        self.kind = self.accelerator.distributed_type.value
        self.sharded = bool(self.accelerator.is_fsdp2)
        self.deepspeed = self.kind == "DEEPSPEED"
        if (self.kind == "FSDP" and not self.sharded) or self.kind in ("MEGATRON_LM", "XLA"):
            raise AnatomyError(
                f"accelerate: {self.kind} is not served; use DDP, FSDP2 (fsdp_version: 2) or DeepSpeed ZeRO.\n"
                "Ready configurations are in configs/accelerate/."
            )
        self.shards_weights = self.sharded or (
            self.deepspeed and self.accelerator.state.deepspeed_plugin.zero_stage == 3
        )
        """Whether each process holds but a part of the weights."""
        self.module: Any = None
        self.updates = 0
        """Steps of the optimiser so far, skipped ones included."""
        self.optimiser: Any = None
        self._placed: tuple[State, State] = ({}, {})

    def place(self, model: nn.Module) -> None:
        """Bring a model to this process's device, its weights from the main one, which may alone have read them.

        Where weights are to be spread, it is a skeleton till :meth:`prepare` has done so.
        """
        if self.accelerator.device.type == "cuda":  # elsewhere torch has no kernel for them
            fuse_norms(model, self.accelerator.device)
        if self.sharded:
            self._placed = (model.state_dict(), buffers_of(model)) if self.is_main else ({}, {})
            empty_weights(model, "meta")
            return
        if any(weight.is_meta for weight in model.parameters()):
            empty_weights(model, self.accelerator.device)
        self._take_buffers(model, buffers_of(model) if self.is_main else {})
        model.to(self.accelerator.device)
        self._take_weights(model)

    def prepare(
        self,
        module: ResponseLogProbs,
        model: nn.Module,
        make_optimiser: Callable[[], torch.optim.Optimizer],
        max_norm: float,
    ) -> None:
        """Hand a module to the engine, and the optimiser of the weights as that holds them.

        Args:
            module: what makes the passes.
            model: the model within it, which was placed.
            make_optimiser: called once the weights are where they stay.
            max_norm: gradients are scaled down to it.
        """
        self.max_norm = max_norm
        if self.sharded:
            self.shard(module, model)
            self._placed = ({}, {})
            optimiser = make_optimiser()
            if isinstance(optimiser, MasterAdamW) and optimiser.offload:
                raise AnatomyError(
                    "FSDP2 spreads the optimiser's state over the processes: leave offload-optimiser off."
                )
            self.module, self.optimiser = module, self.accelerator.prepare_optimizer(optimiser)
            register_fsdp_forward_method(module, "call")
            return
        optimiser = make_optimiser()
        if self.deepspeed and isinstance(optimiser, MasterAdamW):
            raise AnatomyError(
                "DeepSpeed keeps float32 copies and offloads by itself: use --model.dtype float32 with mixed-precision "
                "bf16, no offload-optimiser, and offload_optimizer_device in its configuration."
            )
        if self.deepspeed:  # it clips by itself, and asks for a batch size where there is no data loader
            if len({group["weight_decay"] for group in optimiser.param_groups}) > 1:
                raise AnatomyError(
                    "DeepSpeed finds the moments of one group of parameters only: set weight_decay to 0."
                )
            for group in optimiser.param_groups[1:]:
                optimiser.param_groups[0]["params"] += group["params"]
            del optimiser.param_groups[1:]
            configure_deepspeed(self.accelerator, max_norm)
        elif self.count > 1:
            self._ddp.find_unused_parameters = self._some_take_no_part(module)
        self.module, self.optimiser = self.accelerator.prepare(module, optimiser)

    def _some_take_no_part(self, module: ResponseLogProbs) -> bool:
        """Whether weights that learn take no part in a pass (a tower's unused head, say): DDP must look for them."""
        with self.accelerator.autocast():
            used = module.weights_in_use()
        return self.any(any(weight.requires_grad and id(weight) not in used for weight in module.parameters()))

    def shard(self, module: nn.Module, model: nn.Module) -> None:
        """Where weights are spread, spread those that were placed, for a module with a copy of that model."""
        if self.sharded:
            weights, buffers = self._placed
            shard_weights(self.accelerator, module)
            self._take_buffers(model, buffers)
            set_model_state_dict(model, dict(weights), options=_FROM_MAIN)

    def _take_buffers(self, model: nn.Module, buffers: State) -> None:
        """The main process's buffers, on this process's device; checkpoints don't hold all of them."""
        if self.count > 1 and not self.deepspeed:
            set_buffers(model, broadcast_object_list([buffers])[0], self.accelerator.device)

    @torch.no_grad()
    def _take_weights(self, model: nn.Module) -> None:
        """The main process's weights in place of this one's."""
        if self.count > 1 and not self.deepspeed:
            for weight in model.parameters():
                torch.distributed.broadcast(weight, 0)

    def weights_are_finite(self) -> bool:
        """Whether every weight that learns is a finite number, on every process."""
        learning = (weight for weight in self.module.parameters() if weight.requires_grad)
        return not self.any(not all(bool(torch.isfinite(weight).all()) for weight in learning))

    def check_same(self, value: T, what: str) -> None:
        """Raise AnatomyError where processes disagree."""
        if len(set(self.all_gather(value))) > 1:
            raise AnatomyError(
                f"{what} differ between processes, which must see the same. A reward, bank or curriculum of yours that "
                "draws from global randomness or asks a service? Make it a function of its inputs and its seed."
            )

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a gradient, summed over processes after the ``last`` pass of a step."""
        self.accelerator.sync_gradients = last
        self.accelerator.backward(loss * self.count if self.count > 1 else loss)
        self.accelerator.sync_gradients = True

    def no_sync(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around all passes but the last of a step: gradients are not exchanged yet, where the engine can wait."""
        if last or self.count == 1 or self.sharded or self.deepspeed:
            return contextlib.nullcontext()
        return self.accelerator.no_sync(self.module)  # type: ignore[no-any-return]

    def set_rate(self, learning_rate: float) -> None:
        """Learning rate of the next step; to be set before its passes, since DeepSpeed steps at the end of the last."""
        set_rate(self.optimiser, learning_rate)

    def step(self) -> float:
        """Step of the optimiser; returns the gradient's norm, over all processes. A non-finite one skips the step."""
        self.updates += 1
        if not self.deepspeed:
            return clip_and_step(self.optimiser, self.max_norm)
        norm = self.module.get_global_grad_norm()
        return math.nan if norm is None else float(norm)

    @contextlib.contextmanager
    def gathered_weights(self) -> Iterator[None]:
        """All weights are present in the block, so that it may call the model however often. All processes must come.

        Sharded weights are otherwise gathered by every layer in every pass; processes that decode for different
        lengths would wait for each other forever.
        """
        whole: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if self.sharded:
            whole = self._unsharded()
        elif self.shards_weights:
            whole = self._zero.gathered_weights(self.module)
        with torch.no_grad(), whole:
            yield

    @contextlib.contextmanager
    def _unsharded(self) -> Iterator[None]:
        parts = [module for module in self.module.modules() if isinstance(module, FSDPModule)]
        self.module.call(lambda: None)  # the first pass must begin at the root
        for part in parts:
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()
        try:
            yield
        finally:
            forget_passes(parts)
            for part in parts:
                part.reshard()
                if part is not self.module:
                    part.set_reshard_after_forward(bool(self.accelerator.state.fsdp_plugin.reshard_after_forward))

    @property
    def _zero(self) -> Any:
        return import_module("anatomy_r1.agents.training.deepspeed")

    def model_state(self, model: nn.Module) -> State:
        """Weights by name; of a sharded model they are gathered on the main process, on the CPU."""
        if self.deepspeed:
            return self._zero.weights(model)  # type: ignore[no-any-return]
        return cast(State, get_model_state_dict(model, options=_FULL)) if self.sharded else model.state_dict()

    def load_model_state(self, model: nn.Module, read: Callable[[], State]) -> None:
        """Load the weights that ``read`` gives by name, checked: on the main process, or on all for DeepSpeed."""
        with models_undivided():
            state = together(lambda: read() if self.is_main or self.deepspeed else {})
        if self.deepspeed:
            self._zero.set_weights(model, state)
        elif self.sharded:
            set_model_state_dict(model, cast(dict[str, Any], state), options=_FROM_MAIN)
        else:
            if self.is_main:
                model.load_state_dict(state, strict=True)
            self._take_buffers(model, buffers_of(model))
            self._take_weights(model)

    def optimiser_state(self, model: nn.Module) -> dict[str, State]:
        """State of the optimiser by the parameter's name; of a sharded model, gathered as in :meth:`model_state`."""
        optimiser = bare_optimiser(self.optimiser)
        if self.deepspeed:
            return self._zero.moments(model, optimiser)  # type: ignore[no-any-return]
        if self.sharded:
            gathered: Any = get_optimizer_state_dict(model, optimiser, options=_FULL)
            return dict(gathered.get("state", {}))
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        return {names[id(parameter)]: dict(values) for parameter, values in optimiser.state.items()}

    def load_optimiser_state(self, model: nn.Module, read: Callable[[], dict[str, State]]) -> None:
        """Restore what :meth:`optimiser_state` gave; hyperparameters stay those of the config."""
        optimiser = bare_optimiser(self.optimiser)
        state = together(lambda: read() if self.is_main or not self.sharded else {})
        if self.deepspeed:
            return self._zero.set_moments(self.module, model, state)  # type: ignore[no-any-return]
        if self.sharded:
            groups = get_optimizer_state_dict(model, optimiser)["param_groups"]
            whole: Any = {"state": state, "param_groups": groups} if self.is_main else {}
            set_optimizer_state_dict(model, optimiser, whole, options=_FROM_MAIN)
            return
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        order = [names[id(p)] for group in optimiser.param_groups for p in group["params"]]
        numbered = {place: state[name] for place, name in enumerate(order) if name in state}
        optimiser.load_state_dict({**optimiser.state_dict(), "state": numbered})
