"""The ``brain-atlas`` bank: a labelled MRI template in slices."""

from anatomy_r1.banks.brain.bank import BrainAtlasBank

__all__ = ["BrainAtlasBank"]
