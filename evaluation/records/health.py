"""Whether a run learns, and learns to look: read off its rows of metrics, and said in plain words.

Everything here is a function of the rows of ``metrics.jsonl``, so that a run says the same while it goes on and
afterwards. What is a hack and what is learning can't always be told apart: these are findings to look into, no errors.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WINDOW = 5
"""Rows that a finding is taken of."""
FIRST = 3
"""Steps after which nothing learnt is said."""
ENOUGH = 40
"""Answers that a distribution is taken of."""
MUCH = 0.5
"""Share of responses that are cut off, from which it is said."""
COPIES: Mapping[str, float] = {
    "duplicates": 0.7,
    "repeated-thoughts": 0.7,
    "copied-thoughts": 0.5,
    "empty-thoughts": 0.5,
}
"""Share of responses that are copies, or hold no thought, from which it is said."""
FAR: Mapping[str, float] = {"letters": 0.4, "answers": 0.6}
"""How much more often one is given than it is right, as a share of all, from which it is said."""
DRIFT = 2.0
"""Times by which responses grow or shrink, with nothing gained, from which it is said."""
GAIN = 0.05
"""Accuracy gained that explains longer or shorter responses."""
ASKED = "questions/"
"""Metrics of how many questions of each structure a step asked."""
MISSED = 20.0
"""Questions of a structure that should have come by its share so far, and didn't, from which it is said."""
RELIANCE = "eval/visual_reliance"
"""Accuracy at a check-up less that with blank images."""
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Something about a run that a person should look into."""

    step: int
    kind: str
    """``cut-off``, ``no-form``, ``no-reward``, ``no-right-answer``, ``no-signal``, ``letters``, ``answers``,
    ``duplicates``, ``repeated-thoughts``, ``copied-thoughts``, ``empty-thoughts``, ``length``, ``not-asked``,
    ``image-fading``."""
    text: str
    """What was seen, and what to try."""


class HealthWatch:
    """Looks at a run's rows in their order; says each kind of finding once.

    Args:
        length: tokens after which the run cuts its responses; 0: not known.
    """

    def __init__(self, length: int = 0) -> None:
        self.length = length
        self._rows: deque[Row] = deque(maxlen=WINDOW)
        self._early: list[Row] = []
        self._checkups: list[Row] = []
        self._groups = 0
        self._asked: dict[str, tuple[int, int]] = {}
        """By structure: how often it was asked, and the groups in all when it was asked last."""
        self._said: set[str] = set()
        self._steps = 0

    def see(self, row: Row) -> list[Finding]:
        """What a row of GRPO gives cause for; nothing for one of SFT."""
        if "completions/clipped_ratio" not in row:
            return []
        self._rows.append(row)
        self._steps += 1
        counts = {name.removeprefix(ASKED): int(row[name]) for name in row if name.startswith(ASKED)}
        self._groups += sum(counts.values())
        self._asked |= {
            name: (self._asked.get(name, (0, 0))[0] + count, self._groups) for name, count in counts.items()
        }
        if len(self._early) < WINDOW:
            self._early.append(row)
        if f"{RELIANCE}/ci_low" in row:
            self._checkups.append(row)
        found = []
        for kind, look in LOOKS.items():
            if not self._said & {kind, *EXPLAINED.get(kind, ())} and (text := look(self)):
                self._said.add(kind)
                found.append(Finding(int(row["step"]), kind, text))
        return found

    def standing(self) -> list[Finding]:
        """What the last rows give cause for now, whether it was said or not; what another explains is left out."""
        said = {kind: text for kind, look in LOOKS.items() if self._rows and (text := look(self))}
        step = int(self._rows[-1]["step"]) if self._rows else 0
        return [Finding(step, kind, text) for kind, text in said.items() if not {*EXPLAINED.get(kind, ())} & {*said}]

    @property
    def _span(self) -> str:
        """The rows that are looked at, in words."""
        return f"the last {len(self._rows)} steps" if len(self._rows) > 1 else "the last step"

    def _cut_off(self) -> str:
        share = _mean(self._rows, "completions/clipped_ratio")
        if not (share == 1 or (self._steps >= FIRST and share > MUCH)):
            return ""
        now = f" at {self.length} tokens" if self.length else ""
        more = max(48, 4 * self.length)
        return (
            f"{share:.0%} of the responses of {self._span} were cut off{now}; what is cut earns "
            f"nothing. Raise --grpo.max-completion-length, to {more} say."
        )

    def _no_form(self) -> str:
        if self._steps < FIRST or any(row.get("rewards/format/mean", 1) for row in self._rows):
            return ""
        return (
            f"no response of {self._span} had the form <think>…</think><answer>…</answer>: nothing "
            "is learnt. Teach the form first (anatomy-r1 sft, --policy hf:RUN/policy), or try --grpo.temperature 0.7."
        )

    def _no_reward(self) -> str:
        if self._steps < FIRST or any(row["reward"] for row in self._rows):
            return ""
        return f"the reward was 0 in {self._span}: nothing is learnt. Look at groups.jsonl."

    def _no_right_answer(self) -> str:
        rows = self._rows
        formed = len(rows) == WINDOW and _sum(rows, "answers/count") >= ENOUGH
        if not formed or any(row["accuracy"] for row in rows):
            return ""
        return (
            f"no answer of {self._span} was right, less than guessing gives: are the bank's own answers? "
            "anatomy-r1 bank validate and anatomy-r1 evaluate --policy random tell."
        )

    def _no_signal(self) -> str:
        rows = self._rows
        mute = len(rows) == WINDOW and all(row.get("frac_reward_zero_std") == 1 and row["reward"] > 0 for row in rows)
        if not mute or _sum(rows, "answers/count") < ENOUGH:
            return ""
        return (
            f"in {self._span} all responses to a question earned the same, so nothing was learnt. Raise "
            "--grpo.num-generations or --grpo.temperature, or ask harder questions (--curriculum asc)."
        )

    def _letters(self) -> str:
        return self._concentrated(
            "letters", "the letter ", "of the answers", "let options be shuffled: --augmentation gdqa"
        )

    def _answers(self) -> str:
        advice = "ask more evenly: --curriculum-options balance uniform"
        return self._concentrated("answers", "", "of the answers to questions that offer it", advice)

    def _concentrated(self, what: str, name: str, whole: str, advice: str) -> str:
        """What is chosen far more often than it is right."""
        rows, prefix = self._rows, f"{what}/chosen/"
        if len(rows) < WINDOW:
            return ""
        for one in sorted({key.removeprefix(prefix) for row in rows for key in row if key.startswith(prefix)}):
            total = _sum(rows, f"answers/offered/{one}" if what == "answers" else "answers/count")
            chosen, right = (_sum(rows, f"{what}/{of}/{one}") / max(total, 1) for of in ("chosen", "key"))
            if total >= ENOUGH and chosen - right >= FAR[what]:
                return (
                    f"{name}{one!r} is {chosen:.0%} {whole} in {self._span}, and right in {right:.0%}: "
                    f"does the policy look? Evaluate it with a blank image (--controls blank), and {advice}."
                )
        return ""

    def _duplicates(self) -> str:
        return self._shared("duplicates", "completions/duplicates", "are one and the same, whatever is asked")

    def _repeated_thoughts(self) -> str:
        return self._shared(
            "repeated-thoughts", "thoughts/repeated", "hold one and the same thought, whatever is asked"
        )

    def _copied_thoughts(self) -> str:
        return self._shared("copied-thoughts", "thoughts/copied", "hold a thought that is copied from the prompt")

    def _empty_thoughts(self) -> str:
        return self._shared("empty-thoughts", "thoughts/empty", "hold a thought of hardly a letter")

    def _shared(self, kind: str, metric: str, what: str) -> str:
        share = _mean(self._rows, metric)
        if len(self._rows) < WINDOW or share < COPIES[kind]:
            return ""
        return (
            f"{share:.0%} of the responses of {self._span} {what}: form without matter. Keep the "
            "policy near its start (--grpo.beta 0.04), or begin with anatomy-r1 sft."
        )

    def _length(self) -> str:
        if self._steps < 4 * WINDOW:
            return ""
        before, now = (_mean(rows, "completions/mean_length") for rows in (self._early, self._rows))
        gain = _mean(self._rows, "accuracy") - _mean(self._early, "accuracy")
        if gain > GAIN or not before or not now or max(before / now, now / before) < DRIFT:
            return ""
        way = "longer" if now > before else "shorter"
        return (
            f"responses have become {way}, from {before:.0f} to {now:.0f} tokens, and no more of them are right. Try "
            "--grpo.loss-type dr_grpo, which doesn't weigh by length, or --grpo.beta 0.04."
        )

    def _not_asked(self) -> str:
        missed = {
            name: count * (self._groups - last) / last
            for name, (count, last) in self._asked.items()
            if count * (self._groups - last) >= MISSED * last
        }
        if not missed:
            return ""
        name = max(sorted(missed), key=lambda one: missed[one])
        count, last = self._asked[name]
        return (
            f"{name!r} is not asked any more: {count} times in the first {last:,} groups, never in the "
            f"{self._groups - last:,} since; what is not asked is forgotten. Ask more evenly: --curriculum-options "
            "floor 0.2, or balance uniform."
        )

    def _image_fading(self) -> str:
        """More is right, and less of it thanks to the image: intervals of the same questions that are apart."""
        *earlier, now = self._checkups or [{}]
        before = max(earlier, key=lambda row: row[f"{RELIANCE}/ci_low"], default=None)
        if before is None or now[f"{RELIANCE}/ci_high"] >= before[f"{RELIANCE}/ci_low"]:
            return ""
        if now["eval/accuracy"] <= before["eval/accuracy"]:
            return ""
        return (
            f"from step {before['step']} to {now['step']} held-out accuracy rose from {before['eval/accuracy']:.2f} to "
            f"{now['eval/accuracy']:.2f}, but what a blank image takes from it fell from {before[RELIANCE]:.2f} to "
            f"{now[RELIANCE]:.2f}: the policy looks less and guesses better. Balance the bank's answers (anatomy-r1 "
            "audit names shortcuts), lower --grpo.learning-rate, or keep to the start with --grpo.beta 0.04."
        )


HEALTH_LIMITS: Mapping[str, float] = {
    "cut-off": MUCH,
    "no-form": 0.0,
    "no-reward": 0.0,
    "no-right-answer": 0.0,
    "no-signal": 1.0,
    **FAR,
    **COPIES,
    "length": DRIFT,
    "not-asked": MISSED,
    "image-fading": 0.0,
}
"""From which value on each kind is said."""
LOOKS: Mapping[str, Callable[[HealthWatch], str]] = {
    "cut-off": HealthWatch._cut_off,
    "no-form": HealthWatch._no_form,
    "no-reward": HealthWatch._no_reward,
    "no-right-answer": HealthWatch._no_right_answer,
    "no-signal": HealthWatch._no_signal,
    "letters": HealthWatch._letters,
    "answers": HealthWatch._answers,
    "duplicates": HealthWatch._duplicates,
    "repeated-thoughts": HealthWatch._repeated_thoughts,
    "copied-thoughts": HealthWatch._copied_thoughts,
    "empty-thoughts": HealthWatch._empty_thoughts,
    "length": HealthWatch._length,
    "not-asked": HealthWatch._not_asked,
    "image-fading": HealthWatch._image_fading,
}
"""Each kind of finding, and what looks for it."""
EXPLAINED = {
    "no-form": ("cut-off",),
    "no-reward": ("cut-off", "no-form"),
    "no-signal": ("no-right-answer",),
    "duplicates": ("cut-off", "no-form"),
}
"""Kinds of findings, and others that say as much."""


def _mean(rows: Sequence[Row] | deque[Row], name: str) -> float:
    """Mean of a metric over rows; 0 where none has it."""
    values = [float(row[name]) for row in rows if row.get(name) is not None]
    return sum(values) / len(values) if values else 0.0


def _sum(rows: Sequence[Row] | deque[Row], name: str) -> float:
    return sum(float(row.get(name) or 0) for row in rows)
