"""On the path of processes that tests start: makes a torchvision built for CUDA importable beside torch for CPUs."""

import torch

LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
for signature in (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
):
    LIBRARY.define(signature)
