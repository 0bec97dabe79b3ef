"""Getting a question of a wanted S(q): distractors recomposed, or questions selected."""

from anatomy_r1.curricula.selection.selectors import NONE, Emphasis, make_drawer, refuse_to_follow

__all__ = ["NONE", "Emphasis", "make_drawer", "refuse_to_follow"]
