"""The ``ssg-vqa`` bank: SSG-VQA on frames of CholecT45."""

from anatomy_r1.banks.ssg.bank import ssg_vqa

__all__ = ["ssg_vqa"]
