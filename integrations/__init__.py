"""Our questions and rewards in others' trainers; what an adapter stands on is imported when it is used."""

from anatomy_r1.integrations.trl import TRLSource

__all__ = ["TRLSource"]
