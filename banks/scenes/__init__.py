"""The ``scenes`` bank: procedural laparoscopy, from layout to painted image."""

from anatomy_r1.banks.scenes.bank import ScenesBank, scenes_ssg

__all__ = ["ScenesBank", "scenes_ssg"]
