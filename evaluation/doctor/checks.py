"""What the doctor looks for, in order of weight, and from which value on it speaks: the one table of thresholds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from anatomy_r1.evaluation.records import HEALTH_LIMITS

Severity = Literal[1, 2]
"""1: a warning; 2: serious, the run or its figures are worth little as they are."""
WINDOW = 10
"""Last steps that most checks are means of."""
LEAST = 50
"""Steps before a run that stands still is called so."""
ENOUGH = 20
"""Questions of a middling structure before another is called starved."""


@dataclass(frozen=True)
class Check:
    """One thing that is looked for."""

    kind: str
    severity: Severity
    limit: float
    """The value from which on it is said."""
    of: str
    """What the limit is a limit of."""
    evidence: str
    """Why this limit."""


_LOUD = "well: at most .40; planted: 1.00"
_NEVER = "well: 0; planted: at least .99"
CHECKS: tuple[Check, ...] = (
    Check("died", 2, 0, "a lock that a process left behind", "a killed run leaves it, one that ends removes it"),
    Check(
        "hung",
        2,
        30,
        "time since the last step, over a step's (and at least 10 minutes)",
        "longest step of the demo: 2.2 medians",
    ),
    Check("gradient-skipped", 2, 0.1, "share of the last steps with a gradient that is not finite", "demo: none"),
    Check(
        "cut-off",
        2,
        HEALTH_LIMITS["cut-off"],
        "share of responses that are cut off",
        "well: at most .16; planted: 1.00",
    ),
    Check(
        "learning-rate-large", 2, 0.5, "reward lost since its best 5 steps, as a share", "well: at most .42, on its way"
    ),
    Check(
        "prefilled-think",
        2,
        0.5,
        "share of kept responses that close a thought they don't open",
        "policies that open their thought: 0",
    ),
    Check("no-form", 2, HEALTH_LIMITS["no-form"], "well-formed responses in 5 steps", "demo: .88 at its least"),
    Check("no-reward", 2, HEALTH_LIMITS["no-reward"], "reward in 5 steps", "any reward at all teaches"),
    Check("no-right-answer", 2, HEALTH_LIMITS["no-right-answer"], "right answers of 40", "guessing gives 10"),
    Check("all-wrong", 2, 0.9, "share of groups without a right answer", "well: at most .34; planted: 1.00"),
    Check(
        "stale-weights",
        2,
        0.05,
        "log-prob difference of the sampler, grown tenfold",
        "demo: 2e-7; a run stops at .05 in its first step",
    ),
    Check("sampler-drift", 2, 0.05, "log-prob difference of the sampler", "well: 1e-6; bfloat16: about .01"),
    Check(
        "kl-runaway",
        2,
        1.0,
        "KL per token to the start, in nats, median of 5 steps",
        "well: at most .53, at a beta of .04",
    ),
    Check(
        "entropy-runaway",
        2,
        3.0,
        "entropy over that at the start, by factor, nothing gained",
        "well: at most 2.0; the demo's falls to .5",
    ),
    Check(
        "image-unseen",
        2,
        0.05,
        "accuracy over that with a blank image, upper end",
        "demo: .36 before, .62 after, lower ends",
    ),
    Check("image-fading", 1, 0.0, "visual reliance after less before, upper end", "demo: grows by .26"),
    Check("shared-images", 2, 0.0, "test questions whose image is in train too", "one is one too many"),
    Check("text-shortcut", 1, 0.15, "text-only accuracy over chance, lower end", "as `audit` calls grave; demo: -.04"),
    Check(
        "letters",
        2,
        HEALTH_LIMITS["letters"],
        "a letter's share less its share among right ones",
        "well: at most .22; planted: .78",
    ),
    Check(
        "answers",
        2,
        HEALTH_LIMITS["answers"],
        "an answer's share less its share of right ones",
        "well: at most .50; planted: .85",
    ),
    Check("duplicates", 2, HEALTH_LIMITS["duplicates"], "share of responses to other questions too", _LOUD),
    Check("repeated-thoughts", 2, HEALTH_LIMITS["repeated-thoughts"], "share of thoughts on other questions", _LOUD),
    Check("copied-thoughts", 2, HEALTH_LIMITS["copied-thoughts"], "share of thoughts from the prompt", _NEVER),
    Check("empty-thoughts", 2, HEALTH_LIMITS["empty-thoughts"], "share of thoughts without a letter", _NEVER),
    Check(
        "phantom-groups", 1, 0.5, "share of groups whose reward varies by form alone", "well: at most .20; planted: .86"
    ),
    Check("all-right", 1, 0.95, "share of groups whose answers are all right", "well: at most .80; planted: 1.00"),
    Check(
        "no-signal",
        1,
        HEALTH_LIMITS["no-signal"],
        "share of groups of equal reward in 5 steps",
        "well: at most .95",
    ),
    Check(
        "learning-rate-small",
        1,
        0.15,
        "change of entropy, as a share, upper end, where the reward gains less than .1 (upper end)",
        "well: at least .21; in short runs noise hides it",
    ),
    Check(
        "entropy-collapse",
        1,
        0.005,
        "entropy in nats at an accuracy below .7",
        "well: at least .013; planted: .001",
    ),
    Check("curriculum-stuck", 1, 0.1, "asked similarity less what is found", "well: at most .03"),
    Check(
        "starved-structure", 1, 0.1, "questions of a structure, over those of the middling one", "well: at least .49"
    ),
    Check(
        "length",
        1,
        HEALTH_LIMITS["length"],
        "responses longer or shorter, by factor, nothing gained",
        "well: at most 1.4; planted: 3.7",
    ),
    Check("never-came", 1, 0.0, "responses of an evaluation that never came", "demo: 0"),
    Check(
        "too-few-questions",
        1,
        0.15,
        "half-width of a change that spans 0",
        "well, of 120 questions: at most .12; of 400: .05",
    ),
    Check("slower", 1, 3.0, "time of a step over that of the first ones", "well, on a busy machine: at most 2.3"),
    Check("slow-scoring", 1, 0.5, "share of a step's time spent in scoring", "well: at most .33"),
)
LIMITS: Mapping[str, Check] = {check.kind: check for check in CHECKS}


def checks_table() -> str:
    """The checks as a table in Markdown, heaviest first."""
    ordered = sorted(CHECKS, key=lambda check: -check.severity)
    names = {1: "warning", 2: "serious"}
    rows = [f"| `{one.kind}` | {names[one.severity]} | {one.limit:g} | {one.of} | {one.evidence} |" for one in ordered]
    return "\n".join(["| finding | severity | limit | of what | evidence |", "|---|---|---|---|---|", *rows])
