"""Whether a run learns: its reward, its groups, its update and its sampler."""

from collections.abc import Iterator

import numpy as np

from anatomy_r1.core import Floats
from anatomy_r1.evaluation.doctor.checks import ENOUGH, LEAST, LIMITS, WINDOW
from anatomy_r1.evaluation.doctor.patient import Patient, standard_error

NEW = 5
"""Steps that the best reward, and the present one, are means of."""
GAIN = 0.1
"""Reward gained from half to half of a run, from which it is called learning."""
RISE = 1.5
"""Times by which a loss over its least is called risen."""
Found = Iterator[tuple[str, str]]


def collapse(patient: Patient) -> Found:
    """A reward that was there and is lost, or a loss that was low and rises."""
    for name, sign in (("reward", 1), ("loss", -1)):
        values = patient.values(name)
        if len(values) < 2 * NEW or (name == "loss" and len(patient.values("reward"))):
            continue
        smooth = np.convolve(values, np.ones(NEW) / NEW, "valid")
        at, now = int((sign * smooth).argmax()), float(values[-NEW:].mean())
        best, step = float(smooth[at]), int(patient.metrics.series(name).steps[at])
        lost = now < best * LIMITS["learning-rate-large"].limit if sign > 0 else now > best * RISE + 0.2
        if lost and (sign < 0 or best >= 0.2):
            table = "grpo" if sign > 0 else "sft"
            rate = patient.setting(table, "learning_rate")
            lower = f"Lower --{table}.learning-rate" + (f", from {rate:g} to {rate / 10:g} say" if rate else "")
            keep = ", or keep to the start with --grpo.beta 0.04" if sign > 0 else ""
            yield (
                "learning-rate-large",
                f"The {name} was {best:.2f} around step {step:,} and is {now:.2f} in the last {NEW}: what was known is "
                f"lost. {lower}{keep}; RUN/best (--evaluate-every) keeps the best model.",
            )


def standstill(patient: Patient) -> Found:
    """Groups that would teach, and a policy that surely doesn't move; nothing is said of one that may."""
    reward, entropy = patient.values("reward"), patient.values("entropy")
    mixed, accuracy = patient.last("groups/mixed"), patient.last("accuracy")
    if min(len(reward), len(entropy)) < LEAST or mixed is None or accuracy is None or mixed < 0.2 or accuracy > 0.85:
        return
    (gained, gain_error), (moved, move_error) = _change(reward), _change(entropy)
    moves = abs(moved) + 2 * move_error >= LIMITS["learning-rate-small"].limit * entropy.mean()
    if gained + 2 * gain_error < GAIN and not moves:
        rate = patient.setting("grpo", "learning_rate")
        raised = f", from {rate:g} to {3 * rate:g} say" if rate else ""
        yield (
            "learning-rate-small",
            f"From the first to the second half of {len(reward):,} steps the reward changed by {gained:+.2f} (± "
            f"{2 * gain_error:.2f}) and the entropy by {moved:+.3f} of {entropy.mean():.2f}, though {mixed:.0%} of the "
            f"groups would teach. Raise --grpo.learning-rate{raised}.",
        )


def skipped(patient: Patient) -> Found:
    """Updates whose gradient was not finite."""
    rows = patient.metrics.rows[-2 * WINDOW :]
    varied = "frac_correct_zero_std" if patient.setting("grpo", "gate") == "outcome" else "frac_reward_zero_std"
    # Where no group has an advantage a step is skipped too, and nothing is wrong with its gradient.
    count = sum(bool(row.get("skipped_steps")) and row.get(varied) != 1 for row in rows)
    if count > 1 and count / len(rows) >= LIMITS["gradient-skipped"].limit:
        table = "grpo" if "reward" in rows[-1] else "sft"
        yield (
            "gradient-skipped",
            f"In {count} of the last {len(rows)} steps the gradient was not finite and nothing was learnt. Lower "
            f"--{table}.learning-rate, or train without --{table}.mixed-precision.",
        )


def groups(patient: Patient) -> Found:
    """Groups that teach nothing, or form alone."""
    advice = {
        "all-wrong": "Begin with anatomy-r1 sft, ask easier questions (--curriculum learnability), or raise "
        "--grpo.num-generations.",
        "all-right": "It has learnt what is asked: stop, or ask harder questions (--curriculum asc).",
    }
    for kind, words in (("all-wrong", "no right answer"), ("all-right", "right answers alone")):
        share = patient.last(f"groups/{kind.replace('-', '_')}")
        if share is not None and share >= LIMITS[kind].limit:
            yield kind, f"{share:.0%} of the groups of the last {WINDOW} steps have {words}. {advice[kind]}"
    correct, reward = patient.last("frac_correct_zero_std"), patient.last("frac_reward_zero_std")
    gated = patient.setting("grpo", "gate") == "outcome"
    if correct is not None and reward is not None and not gated:
        phantom = correct - reward
        if phantom >= LIMITS["phantom-groups"].limit:
            yield (
                "phantom-groups",
                f"In {phantom:.0%} of the groups of the last {WINDOW} steps the reward varies by form alone: they "
                "teach form, not answers. Let correctness decide: --grpo.gate outcome.",
            )


def sampler(patient: Patient) -> Found:
    """A sampler that is another policy than the one that is trained."""
    gap = patient.last("sampling/logprob_difference", NEW)
    if gap is None or gap < LIMITS["sampler-drift"].limit:
        return
    if patient.settings.get("sampler") == "own" and (patient.setting("grpo", "num_iterations") or 1) > 1:
        return  # what is logged is how far a batch's updates before the last have moved the policy
    first = float(patient.values("sampling/logprob_difference")[:NEW].mean())
    if len(patient.metrics) > 2 * NEW and first < gap / 10:
        yield (
            "stale-weights",
            f"Sampler and trained model differ by {gap:.3f} in the mean log-prob of a token, at first by {first:.1g}: "
            "the sampler goes on with old weights. Look at the server's log and --vllm.weights-folder; without "
            "--grpo.asynchronous weights are one step younger.",
        )
    yield (
        "sampler-drift",
        f"Sampler and trained model differ by {gap:.3f} in the mean log-prob of a token (bfloat16: about 0.01). Check "
        "that both run the same model, image limits and type (--vllm.dtype); keep --grpo.importance-sampling token.",
    )


def distance(patient: Patient) -> Found:
    """A policy that runs away from its start, or whose answers no longer vary."""
    kls, entropy, accuracy = (patient.values(name) for name in ("kl", "entropy", "accuracy"))
    kl = float(np.median(kls[-NEW:])) if len(kls) >= NEW else 0.0  # one odd token makes one step's a large one
    if kl > LIMITS["kl-runaway"].limit:
        beta = patient.setting("grpo", "beta") or 0.04
        yield (
            "kl-runaway",
            f"The KL to the policy at the start is {kl:.2f} nats a token in the last {NEW} steps. Lower "
            f"--grpo.learning-rate, or raise --grpo.beta to {2 * beta:g}.",
        )
    if min(len(entropy), len(accuracy)) < 2 * WINDOW:
        return
    first, now = float(entropy[:NEW].mean()), float(entropy[-NEW:].mean())
    gained = accuracy[-WINDOW:].mean() - accuracy[:WINDOW].mean() > 0.05
    if now > max(LIMITS["entropy-runaway"].limit * first, 0.5) and not gained:
        yield (
            "entropy-runaway",
            f"The entropy has grown from {first:.2f} to {now:.2f} nats and no more answers are right: responses turn "
            "to noise. Lower --grpo.learning-rate, --grpo.entropy-coef or --grpo.temperature.",
        )
    if now < LIMITS["entropy-collapse"].limit and accuracy[-WINDOW:].mean() < 0.7:
        yield (
            "entropy-collapse",
            f"The entropy is {now:.3f} nats at an accuracy of {accuracy[-WINDOW:].mean():.2f}: the policy says the "
            "same and tries nothing. Raise --grpo.temperature, --grpo.entropy-coef 0.01 or --grpo.epsilon-high 0.28.",
        )


def questions(patient: Patient) -> Found:
    """A curriculum that finds nothing as hard as it asks for, and structures that are hardly asked."""
    asked, found = patient.last("target_similarity"), patient.last("similarity")
    if asked is not None and found is not None and asked - found > LIMITS["curriculum-stuck"].limit:
        yield (
            "curriculum-stuck",
            f"The curriculum asks for options of similarity {asked:.2f} and finds {found:.2f}: the bank has none as "
            "alike. anatomy-r1 curriculum preview shows its reach; add structures, or --curriculum uniform.",
        )
    names = patient.metrics.names("questions/")
    counts = {name.removeprefix("questions/"): float(patient.values(name).sum()) for name in names}
    middle = float(np.median(list(counts.values()))) if counts else 0.0
    starved = sorted(name for name, count in counts.items() if count < LIMITS["starved-structure"].limit * middle)
    if middle >= ENOUGH and starved:
        told = ", ".join(f"{name} ({counts[name]:.0f})" for name in starved[:5])
        yield (
            "starved-structure",
            f"Hardly asked in {len(patient.metrics):,} steps: {told}, a middling structure {middle:.0f} times. Ask "
            "more evenly: --curriculum-options balance uniform.",
        )


def _change(values: Floats) -> tuple[float, float]:
    """What the second half has more than the first, in the mean, and the standard error of that."""
    first, second = np.array_split(values, 2)
    return float(second.mean() - first.mean()), float(np.hypot(standard_error(first), standard_error(second)))


LOOKS = (collapse, standstill, skipped, groups, sampler, distance, questions)
