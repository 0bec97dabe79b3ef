from collections import Counter

import numpy as np
import pytest
from PIL import Image

from anatomy_r1.agents import make_policy
from anatomy_r1.banks import open_bank
from anatomy_r1.core import AnatomyError
from anatomy_r1.curricula import make_curriculum
from anatomy_r1.envs import RewardConfig
from anatomy_r1.evaluation import default_baselines, evaluate, load_results, read_rollouts
from anatomy_r1.evaluation.run import sample_indices


def right(question, wrong=False):
    letter = "ABCD"[(question.answer + wrong) % len(question.options)]
    return f"<think>known</think><answer>{letter}</answer>"


def test_what_is_written_is_read_back(bank, tmp_path):
    results = evaluate(make_policy("noisy-oracle:0.6", bank=bank), bank, out=tmp_path, n=2)
    assert load_results(tmp_path) == results
    rollouts = read_rollouts(tmp_path)
    assert np.mean([one.correct for one in rollouts]) == results.accuracy.value
    assert [one.sample for one in rollouts[:4]] == [0, 1, 0, 1]
    assert set(rollouts[0].baselines) == {"random", "longest", "odd-case", "majority", "blind"}


@pytest.fixture(scope="module")
def scenes():
    bank = open_bank("scenes")
    return bank, default_baselines(bank)


def on_scenes(scenes, spec, **options):
    bank, baselines = scenes
    return evaluate(make_policy(spec, bank=bank, seed=1), bank, limit=200, baselines=baselines, **options)


def test_oracle_is_always_right_on_scenes_and_random_at_chance(scenes):
    oracle, random = on_scenes(scenes, "oracle"), on_scenes(scenes, "random")
    assert oracle.accuracy.value == 1.0 and oracle.reward == 1.5 and oracle.accuracy.ci_low > 0.97
    assert random.accuracy.ci_low < 0.25 < random.accuracy.ci_high
    assert oracle.baselines["chance"].value == 0.25
    assert oracle.baselines["blind"].ci_low < 0.3
    gain = oracle.gain_over_blind
    assert gain.value == pytest.approx(1 - oracle.baselines["blind"].value)
    assert gain.ci_low > 0.6 and random.gain_over_blind.ci_low < 0 < random.gain_over_blind.ci_high
    assert oracle.baselines == random.baselines


def test_tables_partition_the_questions(scenes):
    results = on_scenes(scenes, "noisy-oracle:0.6")
    for table in ("structure", "question_type", "similarity"):
        rows = results.tables[table]
        assert sum(row.accuracy.n for row in rows) == 200
        mean = sum(row.accuracy.value * row.accuracy.n for row in rows) / 200
        assert mean == pytest.approx(results.accuracy.value)
        blind = sum(row.blind * row.accuracy.n for row in rows) / 200
        assert blind == pytest.approx(results.baselines["blind"].value)
    assert [row.name.split()[0] for row in results.tables["similarity"]] == ["low", "middle", "high"]
    assert {row.name for row in results.tables["structure"]} <= set(scenes[0].structures)


def test_similarity_is_what_the_curriculum_means_by_it(scenes, tmp_path):
    on_scenes(scenes, "random", out=tmp_path, gallery=0)
    part, measure = scenes[0].split("test"), make_curriculum("asc", scenes[0]).measure
    for rollout in read_rollouts(tmp_path)[:20]:
        question = part.question(part.index_of(rollout.question_id))
        assert rollout.similarity == pytest.approx(measure(question), abs=1e-6)


def test_neither_batch_size_nor_repetition_changes_results(scenes, tmp_path):
    for name, size in (("one", 1), ("seven", 7), ("again", 7), ("all", 500)):
        on_scenes(scenes, "noisy-oracle:0.6", out=tmp_path / name, batch_size=size, n=2)
    first = (tmp_path / "one" / "rollouts.jsonl").read_bytes()
    for name in ("seven", "again", "all"):
        assert (tmp_path / name / "rollouts.jsonl").read_bytes() == first
        assert load_results(tmp_path / name).tables == load_results(tmp_path / "one").tables


def test_the_draw_is_distinct_seeded_and_whole_where_it_can_be():
    assert sample_indices(1_000_000, 50, 0) == sample_indices(1_000_000, 50, 0)
    assert len(set(sample_indices(60, 59, 0))) == 59
    assert sample_indices(1_000_000, 50, 0) != sample_indices(1_000_000, 50, 1)
    assert sample_indices(5, None, 0) == sample_indices(5, 5, 1) == sample_indices(5, 9, 2) == [0, 1, 2, 3, 4]


def test_an_endless_split_needs_a_limit(scenes):
    with pytest.raises(AnatomyError, match=r"1,000,000 questions; say how many"):
        evaluate(make_policy("random"), scenes[0])


@pytest.mark.parametrize("option", ["limit", "n", "batch_size"])
def test_numbers_below_one_are_refused(bank, option):
    with pytest.raises(AnatomyError, match=f"{option} must be at least 1, got 0"):
        evaluate(make_policy("random"), bank, **{option: 0})


def test_an_unknown_split_is_refused_before_anything_is_written(bank, tmp_path):
    with pytest.raises(AnatomyError, match="no split 'exam'"):
        evaluate(make_policy("random"), bank, split="exam", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_evaluation_is_never_overwritten(bank, tmp_path):
    evaluate(make_policy("random"), bank, limit=4, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(AnatomyError, match="holds an evaluation; nothing was overwritten"):
        evaluate(make_policy("oracle", bank=bank), bank, limit=4, out=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_responses_that_never_came_are_recorded_and_count_as_wrong(bank, text_policy, tmp_path):
    def say(question):
        if question.id in ("test/3", "test/8"):
            raise RuntimeError("out of memory")
        return right(question)

    results = evaluate(text_policy(say), bank, out=tmp_path, batch_size=10)
    assert (results.n, results.failed) == (60, 2)
    assert results.accuracy.value == pytest.approx(58 / 60)
    failed = {one.question_id: one for one in read_rollouts(tmp_path) if one.failed}
    assert set(failed) == {"test/3", "test/8"}
    assert failed["test/3"].failed == "the policy raised RuntimeError: out of memory"
    assert (failed["test/3"].correct, failed["test/3"].reward, failed["test/3"].text) == (False, 0.0, "")


def test_a_policy_that_always_raises_still_gives_results(bank, text_policy):
    results = evaluate(text_policy(lambda question: 1 / 0), bank, limit=10)
    assert (results.accuracy.value, results.failed, results.format_failures) == (0.0, 10, 1.0)


@pytest.mark.parametrize("text", ["", "\x00\x1b[31m\ud800\u2028", "x" * 1_000_000, "[/answer]<script>"])
def test_any_text_is_recorded_as_it_is(bank, text_policy, tmp_path, text):
    results = evaluate(text_policy(lambda question: text), bank, limit=3, out=tmp_path)
    assert (results.format_failures, results.failed, results.reward) == (1.0, 0, 0.0)
    assert [one.text for one in read_rollouts(tmp_path)] == [text] * 3


def test_responses_of_one_patient_count_as_dependent(bank, text_policy):
    results = evaluate(text_policy(lambda q: right(q) if int(q.group_key[8:]) % 2 else "?"), bank)
    assert (results.accuracy.clusters, results.accuracy.method) == (12, "cluster-wilson")
    assert results.accuracy.ci_high - results.accuracy.ci_low > 0.45


def test_repeated_responses_to_a_question_do_not_narrow_the_interval(bank, text_policy):
    policy = text_policy(lambda q: right(q) if int(q.id[5:]) % 3 else "?")
    once, often = evaluate(policy, bank), evaluate(policy, bank, n=8)
    assert (often.n, often.responses, often.accuracy.n) == (60, 480, 480)
    assert (often.accuracy.ci_low, often.accuracy.ci_high) == pytest.approx(
        (once.accuracy.ci_low, once.accuracy.ci_high), abs=0.02
    )


def test_a_short_run_keeps_every_image_and_a_policy_that_does_not_look_decodes_no_other(bank, tmp_path):
    evaluate(make_policy("random"), bank, limit=20, out=tmp_path / "all", gallery=20, baselines=())
    rollouts = read_rollouts(tmp_path / "all")
    assert [one.image for one in rollouts] == [f"images/{k:04d}.png" for k in range(20)]
    with Image.open(tmp_path / "all" / "images" / "0002.png") as image:
        assert image.size == (60, 40)
        assert image.getpixel((0, 0))[0] == bank.index_of(rollouts[2].question_id)
    for limit in (0, 6):
        bank.decoded.clear()
        evaluate(make_policy("random"), bank, limit=20, out=tmp_path / str(limit), gallery=limit, baselines=())
        kept = [one for one in read_rollouts(tmp_path / str(limit)) if one.image]
        assert len(kept) == len(bank.decoded) == len(list((tmp_path / str(limit)).glob("images/*"))) <= limit
        assert bool(kept) == bool(limit)


def test_a_rare_outcome_keeps_its_images(make_bank, text_policy, tmp_path):
    """One answer in forty is wrong, one has no form, and both come last."""

    def say(question):
        place = int(question.id[5:])
        return "?" if place >= 390 else right(question, place >= 380)

    evaluate(text_policy(say), make_bank(400), out=tmp_path, gallery=60, baselines=(), controls=())
    kept = Counter(one.outcome for one in read_rollouts(tmp_path) if one.image)
    assert kept["wrong"] >= 5 and kept["form"] >= 5 and 20 <= kept.total() <= 60


def test_progress_is_told_after_every_batch(bank, text_policy):
    told = []
    evaluate(text_policy(right), bank, limit=25, batch_size=10, progress=lambda *now: told.append(now))
    assert told == [(10, 25, 1.0), (20, 25, 1.0), (25, 25, 1.0)]


def test_lines_are_on_disk_while_the_run_goes_on(bank, text_policy, tmp_path):
    def lines(done, total, accuracy):
        assert len((tmp_path / "rollouts.jsonl").read_text().splitlines()) == done

    evaluate(text_policy(right), bank, limit=25, batch_size=10, out=tmp_path, progress=lines)


def test_without_a_blind_baseline_and_controls_there_is_no_gain(bank):
    results = evaluate(make_policy("oracle", bank=bank), bank, baselines=(make_policy("random"),))
    assert results.gain_over_blind is None and set(results.baselines) == {"chance", "random"}
    assert results.tables["structure"][0].blind is None
    assert results.baselines["chance"].value == pytest.approx((1 / 3 + 1 / 4) / 2)


def test_a_bank_without_train_questions_gets_the_baselines_that_learn_nothing(bank):
    bank.splits = ("test",)
    assert [policy.name for policy in default_baselines(bank)] == ["random", "longest", "odd-case"]


def test_the_rewards_weights_are_used_and_recorded(bank, text_policy):
    results = evaluate(text_policy(right), bank, limit=5, reward=RewardConfig(format_weight=0.0, correct_weight=2.0))
    assert results.reward == 2.0 and results.config["reward"] == {"format": 0.0, "correct": 2.0, "cap": 32768}
