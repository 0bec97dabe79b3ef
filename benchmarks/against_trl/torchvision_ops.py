"""Makes torchvision importable beside a CPU build of torch: import this before transformers.

The wheels that can be had are built for CUDA; without these two operators their import fails. Qwen's processors need
torchvision, though not its operators.
"""

import torch

_library = torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms") if torch.version.cuda is None else ():
    if not hasattr(torch.ops.torchvision, _name):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
