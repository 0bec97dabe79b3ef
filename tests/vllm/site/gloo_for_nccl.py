"""A plugin of vLLM for the tests: without a GPU, gloo takes NCCL's place in its weight transfer, and nothing else."""

import os
from contextlib import nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist


class Gloo:
    """What vLLM uses of its communicator."""

    def __init__(self, host, port, rank, world_size, device):
        wait = timedelta(seconds=30)
        self.store = dist.TCPStore(host, port, world_size, is_master=rank == 0, timeout=wait)
        self.group = dist.ProcessGroupGloo(self.store, rank, world_size, wait)

    def broadcast(self, tensor, src, stream=None):
        options = dist.BroadcastOptions()
        options.rootRank = src
        self.group.broadcast([tensor], options).wait()

    def destroy(self):
        self.group = self.store = None


class Stream:
    def synchronize(self):
        pass


def replacements():
    """What needs a GPU, and what stands for it: owner, name, value."""
    from vllm.distributed.weight_transfer import nccl_common, packed_tensor

    return [
        (nccl_common, "stateless_init_process_group", Gloo),
        (packed_tensor, "_get_streams", lambda device, number: [Stream()] * number),
        (torch.cuda, "stream", lambda stream: nullcontext()),
        (torch.accelerator, "current_device_index", lambda: 0),
        (torch.accelerator, "synchronize", lambda: None),
    ]


def register():
    """Called by vLLM in each of its processes."""
    if "GLOO_FOR_NCCL" in os.environ:
        for owner, name, value in replacements():
            setattr(owner, name, value)
