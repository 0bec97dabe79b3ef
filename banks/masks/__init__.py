"""The ``masks`` bank: the user's images and volumes with label maps."""

from anatomy_r1.banks.masks.bank import MasksBank

__all__ = ["MasksBank"]
