"""What it would be worth to compile the decoder's layers for the update: an experiment, no setting of the trainer.

Attention over trees stays outside, as it is: what is compiled is the same for every tree then. Layers that are
checkpointed would run as they are written, so none are here.
"""

from typing import Any

import torch
from random_models import backbone_of, trainer_of
from speed import Shape, updates
from timing import now

from anatomy_r1.agents.grpo.trainer import update
from anatomy_r1.agents.logprobs.flex import FlexMask
from anatomy_r1.agents.logprobs.tree_attention import BlockMask


def measure(model: str, prompt: int, response: int, group: int, rehearse: bool) -> dict[str, Any]:
    """Updates of one shape as they are and compiled, and by how much their log-probs differ."""
    shape = Shape(69, 4, 4) if rehearse else Shape(prompt, response, group)
    backbone = backbone_of(model, rehearse=rehearse, checkpointing=False)
    trainer = trainer_of(backbone, **vars(shape))
    learner, batch = trainer.learner, trainer.worker.next_batch(0.0, 0).batch

    def logprobs() -> torch.Tensor:
        with torch.no_grad(), learner.distributed.accelerator.autocast():
            return learner.logprobs(learner.micro_batches(batch, batch.rewards + 1)[0]).logprobs

    learnt = [weight for weight in backbone.model.parameters() if weight.requires_grad]
    right, begun, repeats = logprobs(), [weight.detach().clone() for weight in learnt], 2 if rehearse else 3
    found = {"plain": updates(trainer, batch, shape, "tree", repeats, checkpointing=False)}
    for mask in (BlockMask, FlexMask):
        mask._attend = staticmethod(torch.compiler.disable(mask._attend))
    for layer in backbone.model.get_decoder().layers:
        layer.compile(dynamic=True)
    started = now()
    update(learner, batch, 1e-6)
    first = now() - started
    found["compiled"] = updates(trainer, batch, shape, "tree", repeats, checkpointing=False)
    with torch.no_grad():
        for weight, value in zip(learnt, begun, strict=True):
            weight.copy_(value)
    return found | {"first": first, "gap": float((logprobs() - right).abs().max())}
