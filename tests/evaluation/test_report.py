import base64
import hashlib
import json
import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError
from anatomy_r1.evaluation import default_baselines, evaluate, write_report
from anatomy_r1.evaluation.reports import write_comparison
from anatomy_r1.evaluation.reports.charts import ticks
from anatomy_r1.evaluation.summaries import compare

pytest.importorskip("jinja2")

ATTACK = "</div></article><script>alert(1)</script><img src=https://evil.example/x onerror=alert(2)>"
VOID = {"meta", "img", "input", "line", "rect", "circle", "polyline", "path", "br"}


class Page(HTMLParser):
    """Tags, attributes, text and styles of a page; fails on tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def gallery(html):
    return json.loads(re.search(r'id="gallery-data">(.*?)</script>', html, re.DOTALL)[1])


def answer(question, correct):
    place = question.answer if correct else (question.answer + 1) % len(question.options)
    return f"<think>I see the {question.options[place]}.</think><answer>{'ABCD'[place]}</answer>"


def before(question):
    number = int(question.id[5:])
    return ATTACK if number % 5 == 0 else answer(question, number % 5 == 1)


def after(question):
    return answer(question, int(question.id[5:]) % 5 != 1)


def metrics_row(step):
    return {
        "step": step,
        "reward": 0.7 + step / 100,
        "rewards/format/mean": 0.9,
        "rewards/correct/mean": step / 60,
        "accuracy": step / 60,
        "similarity": 0.3,
        "target_similarity": 0.35,
        "frac_reward_zero_std": 0.4,
        "frac_reward_zero_std/liver": 0.5,
        "frac_reward_zero_std/gut": 0.25,
        "entropy": 0.5,
        "kl": None,
        "completions/mean_length": 20.5,
        "seconds/sampling": 0.5,
        "learning_rate": 1e-4,
    }


def group(step, image):
    asked = {"stem": "What is the center thing?", "options": ["liver", "gut"], "answer": "B", "parts": {}}
    said = {"reward": 1.5, "format": 1.0, "correct": True, "truncated": False}
    varied = asked | {"stem": "There is a center thing, what is its name?", "edits": ["grammar:Z1>Z2"]}
    wrong = {"text": ATTACK, "reward": 0.0, "format": 0.0, "correct": False}
    return {
        "step": step,
        "structure": "gut",
        "similarity": 0.4,
        "image": image,
        "responses": [
            asked | said | {"edits": [], "text": "<think>t</think><answer>B</answer>"},
            varied | said | wrong,
        ],
    }


@pytest.fixture
def run(bank, text_policy, tmp_path):
    baselines = default_baselines(bank)
    for name, say in (("before", before), ("after", after)):
        evaluate(text_policy(say), bank, out=tmp_path / name, baselines=baselines, gallery=10, controls=())
    rows = "".join(json.dumps(metrics_row(step)) + "\n" for step in range(1, 31))
    (tmp_path / "metrics.jsonl").write_text(rows + '{"step": 31, "rew')
    (tmp_path / "groups.jsonl").write_text(json.dumps(group(7, "before/images/0000.png")) + "\n")
    (tmp_path / "config.toml").write_text('[env]\nbank = "<scenes> & co"\n')
    return tmp_path


def test_a_training_run_shows_headline_curves_tables_and_gallery(run):
    path = write_report(run)
    assert path == run / "report.html"
    page = path.read_text()
    text = unescape(Page(page).text)
    outcomes = [item["outcome"] for item in gallery(page)["items"]]
    assert {outcome: outcomes.count(outcome) for outcome in set(outcomes)} == {"won": 48, "lost": 12}
    for words in (
        "From 20.0\u202f% to 80.0\u202f% on clusters questions",
        "60 test questions, the same before and after",
        "30 training steps",
        "+60.0",
        "Gain over text alone",
        "Text only, no image",
        "Invalid-gradient ratio",
        "By structure",
        "By question type",
        "gallbladder",
        "What is at place 0?",
        "I see the",
        "Newly right 48",
        "Newly wrong 12",
        "not in the required form",
        "What is the … → There is a …",
        "There is a center thing, what is its name?",
        'bank = "<scenes> & co"',
        "Step 7",
        "git_commit",
    ):
        assert words in text
    assert "both times" not in text and 'title="grammar:Z1&gt;Z2"' in page


def test_findings_costs_and_the_command_stand_at_the_top(run):
    rows = [metrics_row(step) | {"completions/clipped_ratio": 0.9, "questions/liver": 2} for step in range(1, 31)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "config.toml").write_text("[grpo]\nsteps = 30\nnum_generations = 4\nmax_completion_length = 24\n")
    html = write_report(run, command="anatomy-r1 train --seed 3").read_text()
    top = unescape(Page(html).text).partition("Accuracy on held-out questions")[0]
    assert "Serious cut-off" in top and "anatomy-r1 train --seed 3" in top
    cost = "".join(top.split())
    assert "Timeintraining15s" in cost and "Tokenssampled4,920" in cost and "Imagesintraining60" in cost


def test_structures_and_option_sets_are_followed_through_the_run(run):
    """The liver is asked throughout, the gut in the second half alone; four sets of options come again and again."""
    with (run / "metrics.jsonl").open("w") as file:
        for step in range(1, 41):
            row = metrics_row(step) | {"questions/liver": 2, "accuracy/liver": step / 40, "reward/liver": 1.0}
            row |= {"questions/gut": 3 * (step > 20), "option_sets": [step % 4, (step + 1) % 4]}
            file.write(json.dumps(row) + "\n")
    (run / "groups.jsonl").write_text("".join(json.dumps(group(step, None)) + "\n" for step in (30, 7)))
    html = write_report(run).read_text()
    text = unescape(Page(html).text)
    cells = re.findall(r'<td class="cell cover" style="--share:([\d.]+)">(\d*)</td>', html)
    assert [count for _, count in cells] == ["8"] * 10 + [""] * 5 + ["12"] * 5
    assert "Accuracy by structure" in text and "Reward by structure" in text
    assert "step 40\ndifferent sets 4\nquestions 80" in text
    assert text.index("Step 7") < text.index("Step 30") and html.count('href="#group-') == 2


def test_the_variety_of_kept_groups_is_shown(run):
    """In the first, all say the same in both orders; in the last, the answer follows the letter."""

    def row(step, letters):
        orders = (["liver", "gut"], ["gut", "liver"])
        row = group(step, None)
        for place, letter in enumerate(letters):
            thought = ("I look at the region", "what a fine fold there")[place * (step > 1)]
            said = f"<think>{thought}</think><answer>{letter}</answer>"
            row["responses"][place] |= {"options": orders[place], "text": said}
        return json.dumps(row) + "\n"

    (run / "groups.jsonl").write_text(row(1, "BA") + row(2, "BB"))
    text = "".join(unescape(Page(write_report(run).read_text()).text).split())
    assert "Answerentropybits,oftheoptionsthatagroupchooses0.001.00" in text
    assert "Permutationconsistencygroupsthatchoosethesameineveryorderoftheoptions100%0%" in text
    bleu = re.search(r"Self-BLEU.*?eachother(\d\.\d\d)(\d\.\d\d)", text)
    assert bleu and float(bleu[1]) > float(bleu[2])
    assert "sameanswerineveryorder" in text and "answerchangeswiththeorder" in text
    assert "answersdifferby1.00bits" in text


@pytest.mark.parametrize("count", [2, 3])
def test_a_comparison_draws_intervals_and_names_its_test(bank, tmp_path, count):
    folders = [tmp_path / name for name in ("worst", "middle", "best")[:count]]
    for folder, share in zip(folders, (0.2, 0.5, 0.9), strict=False):
        evaluate(make_policy(f"noisy-oracle:{share}", bank=bank), bank, out=folder, baselines=(), controls=())
    found = compare(folders)
    html = write_comparison(found, tmp_path / "comparison.html").read_text()
    text = unescape(Page(html).text)
    assert "McNemar’s exact test" in text and "Holm’s correction" in text
    drawn = re.findall(
        r'<div class="track middle" aria-hidden="true"><span class="range after" style="left:([\d.]+)%', html
    )
    assert len(drawn) == len(found.pairs) == (1 if count == 2 else 3)
    assert all(float(left) > 50 for left in drawn) == all(pair.difference.ci_low > 0 for pair in found.pairs)
    outcomes = {item["outcome"] for item in gallery(html)["items"]}
    assert outcomes <= ({"won", "lost", "kept", "missed"} if count == 2 else {"kept", "missed", "split"})
    assert all(name in text for name in found.runs)


def test_nothing_in_a_report_runs_or_loads(run):
    html = write_report(run).read_text()
    page = Page(html)
    assert not {"link", "iframe", "object", "base", "form"} & set(page.tags)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and page.tags.count("script") == 2 and f"script-src 'sha256-{allowed}'\"" in html
    assert gallery(html)["items"][0]["said"][0]["answer"] == ATTACK and ATTACK in page.text
    sources = [value for _, name, value in page.attributes if name in ("src", "href", "srcset", "action", "xlink:href")]
    away = [value for value in sources if not value.startswith("#")]
    assert len(away) == 1 and away[0].startswith("data:image/png;base64,")
    images = gallery(html)["images"]
    assert 1 < len(images) <= 20 and all(value.startswith("data:image/webp;base64,") for value in images)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert re.findall(r"url\(|@import", html) == []
    assert "https://" not in html.replace("https://evil.example/x onerror", "")
    assert ("meta", "http-equiv", "Content-Security-Policy") in page.attributes


def test_a_report_serves_light_dark_and_small_screens(run):
    html = write_report(run).read_text()
    assert "prefers-color-scheme: dark" in html and "color-scheme: light dark" in html
    assert 'content="width=device-width, initial-scale=1"' in html and "@media (max-width: 520px)" in html


def test_an_evaluation_alone_is_reported_too(run):
    text = Page(write_report(run / "after", run / "one.html").read_text()).text
    assert "80.0\u202f% right on clusters questions" in text
    assert "Evaluation report" in text and "Training" not in text and "Right 48" in text


def test_metrics_alone_are_reported_too(run, tmp_path):
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())
    page = Page(write_report(tmp_path / "only").read_text())
    assert "A training run" in page.text and "30 steps" in page.text
    assert page.tags.count("svg") == 6 + 2 + 2  # main charts, structures, more


def test_several_responses_to_a_question_are_counted(bank, tmp_path):
    results = evaluate(make_policy("noisy-oracle:0.5", bank=bank), bank, out=tmp_path, n=4)
    html = write_report(tmp_path).read_text()
    assert "240 responses" in html and "majority@4" in html
    tallies = [item["tally"]["Result"] for item in gallery(html)["items"]]
    assert sum(right for right, _ in tallies) == round(results.accuracy.value * 240)
    assert all(total == 4 for _, total in tallies)


def test_failed_responses_are_told_apart(bank, text_policy, tmp_path):
    evaluate(text_policy(lambda question: 1 / 0), bank, out=tmp_path)
    text = Page(write_report(tmp_path).read_text()).text
    assert "no response: the policy raised ZeroDivisionError" in text and "No response" in text


def test_an_empty_folder_has_nothing_to_report(tmp_path):
    with pytest.raises(AnatomyError, match=r"nothing to report; expected results.json"):
        write_report(tmp_path)


@pytest.mark.parametrize("image", ["../secret.png", "/etc/passwd", "before/rollouts.jsonl"])
def test_only_images_within_the_folder_are_shown(run, image):
    (run / "groups.jsonl").write_text(json.dumps(group(1, image)) + "\n")
    with pytest.raises(AnatomyError, match="must be a PNG inside the folder"):
        write_report(run)


@pytest.mark.parametrize("line", ['{"step": 1}', '{"step": 1, "responses": [{"edits": 3}]}', '{"responses": 1}'])
def test_a_broken_group_names_the_file(run, line):
    (run / "groups.jsonl").write_text(line + "\n")
    with pytest.raises(AnatomyError, match=r"groups.jsonl: a group lacks a field"):
        write_report(run)


def test_a_missing_image_names_the_file(run):
    (run / "before" / "images" / "0001.png").unlink()
    with pytest.raises(AnatomyError, match=r"0001.png: can't be read"):
        write_report(run)


def test_a_missing_extra_is_named_and_importing_needs_none(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(AnatomyError, match=r"pip install 'anatomy-r1\[report\]'"):
        write_report(run)
    code = "import sys, anatomy_r1.evaluation; print({'torch', 'jinja2', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_same_run_gives_the_same_report(run):
    assert write_report(run).read_bytes() == write_report(run, run / "again.html").read_bytes()


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 6))
def test_ticks_are_few_even_and_enclose_the_range(low, span, count):
    high = low + max(span, abs(low) * 1e-6)
    found = ticks(low, high, count)
    assert 2 <= len(found) <= count + 1
    slack = (high - low) * 1e-6
    assert found[0] <= low + slack and found[-1] >= high - slack
    steps = [b - a for a, b in pairwise(found)]
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)
