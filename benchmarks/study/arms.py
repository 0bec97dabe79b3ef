"""The arms of the study: what each changes of one and the same run."""

from dataclasses import dataclass, field
from typing import Any

SCAFFOLD = {"trigger": "group", "edits": "scaffold"}
HALF = {"trigger": "always", "variants": 2, "edits": "unlike:3,permute"}
"""Half of every group sees an easier form, so that there is nearly always a right answer to learn from."""


@dataclass(frozen=True)
class Arm:
    """One way of training; what it does not name is plain GRPO's."""

    curriculum: str = "uniform"
    curriculum_options: dict[str, Any] = field(default_factory=dict)
    augmentation: str = "none"
    augmentation_options: dict[str, Any] = field(default_factory=dict)
    grpo: dict[str, Any] = field(default_factory=dict)
    supervised: bool = False
    """Imitates right answers instead: what the same model reaches when it is told."""


ORIGINAL = {"augmentation": "gdqa", "augmentation_options": SCAFFOLD, "grpo": {"condition": "original"}}
"""Half of a group answers first; where none is right, the others see easier forms. All teach the question as it is."""

DAPO = {"loss_type": "dapo", "dynamic_sampling": 1}

ARMS = {
    "sft": Arm(supervised=True),
    # the four of the paper
    "grpo": Arm(),
    "asc": Arm("asc"),
    "gdqa": Arm(augmentation="gdqa"),
    "asc+gdqa": Arm("asc", augmentation="gdqa"),
    # GRPO's own variants
    "grpo-outcome": Arm(grpo={"gate": "outcome"}),
    "dr-grpo": Arm(grpo={"loss_type": "dr_grpo", "scale_rewards": "none"}),
    "dapo": Arm(grpo=DAPO),
    "gpg": Arm(grpo={"loss_type": "gpg", "scale_rewards": "none"}),
    # twice the rollouts: in groups twice as large, or in twice as many
    "grpo-group-16": Arm(grpo={"num_generations": 16}),
    "grpo-questions-32": Arm(grpo={"questions_per_step": 32}),
    "scaffold-original-group-16": Arm(**ORIGINAL | {"grpo": {"condition": "original", "num_generations": 16}}),
    # refills of what is lacking, beside smaller batches: about as many rollouts as the others' with 12 questions
    "dapo-12": Arm(grpo=DAPO | {"questions_per_step": 12}),
    "dapo-half": Arm(grpo=DAPO | {"questions_per_step": 8}),
    # ASC that covers
    "asc-soft": Arm("asc", {"softness": 0.15, "floor": 0.25}),
    "asc-soft-hard": Arm("asc", {"softness": 0.15, "floor": 0.25, "schedule": "constant:1.0"}),
    "asc-competence": Arm("asc", {"softness": 0.15, "floor": 0.25, "schedule": "competence"}),
    # ASC by other schedules and measures
    "asc-anti": Arm("asc", {"schedule": "anti"}),
    "asc-shuffled": Arm("asc", {"shuffled": True}),
    "asc-constant": Arm("asc", {"schedule": "constant:0.5"}),
    "asc-linear": Arm("asc", {"schedule": "linear"}),
    "asc-cosine": Arm("asc", {"schedule": "cosine"}),
    "asc-by-competence": Arm("asc", {"schedule": "competence"}),
    "asc-by-learnability": Arm("asc", {"schedule": "learnability"}),
    "asc-visual": Arm("asc", {"similarity": "visual"}),
    "asc-names": Arm("asc", {"similarity": "names"}),
    "asc-text": Arm("asc", {"similarity": "text"}),
    "asc-ontology": Arm("asc", {"similarity": "ontology:laparoscopy"}),
    "asc-confusion": Arm("asc", {"similarity": "confusion"}),
    # difficulty by what is learnt
    "learnability": Arm("learnability"),
    # GDQA where it is needed
    "gdqa-permute": Arm(augmentation="gdqa", augmentation_options={"edits": "permute"}),
    "gdqa-group": Arm(augmentation="gdqa", augmentation_options={"trigger": "group"}),
    "scaffold": Arm(augmentation="gdqa", augmentation_options=SCAFFOLD),
    "scaffold-original": Arm(**ORIGINAL),
    "scaffold-3": Arm(
        augmentation="gdqa", augmentation_options={"trigger": "group", "edits": "unlike:3,locate,permute"}
    ),
    "scaffold-half": Arm(augmentation="gdqa", augmentation_options=HALF),
    "scaffold-half-original": Arm(augmentation="gdqa", augmentation_options=HALF, grpo={"condition": "original"}),
    # both
    "asc+scaffold-original": Arm("asc", **ORIGINAL),
    "asc-soft+scaffold-original": Arm("asc", {"softness": 0.15, "floor": 0.25}, **ORIGINAL),
    "learnability+scaffold-original": Arm("learnability", **ORIGINAL),
    "dapo+scaffold-original": Arm(**ORIGINAL | {"grpo": DAPO | {"condition": "original"}}),
    "dapo+asc+gdqa": Arm("asc", augmentation="gdqa", grpo=DAPO),
    "dapo+asc+scaffold-original": Arm("asc", **ORIGINAL | {"grpo": DAPO | {"condition": "original"}}),
    "learnability+scaffold": Arm("learnability", augmentation="gdqa", augmentation_options=SCAFFOLD),
    "asc-soft+scaffold": Arm(
        "asc", {"softness": 0.15, "floor": 0.25}, augmentation="gdqa", augmentation_options=SCAFFOLD
    ),
}
