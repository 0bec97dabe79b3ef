"""Reports in a real browser. Screenshots are kept in build/screenshots."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from anatomy_r1.agents import Response, make_policy
from anatomy_r1.evaluation import default_baselines, evaluate, write_report

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
ATTACK = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"


class Talker:
    """Right two times in three; some responses attack the page."""

    name, needs_controls = "talker", False

    def __init__(self, bank):
        self.bank = bank

    def respond(self, observations, *, n=1):
        said = make_policy("noisy-oracle:0.66", bank=self.bank).respond(observations, n=n)
        ids = [int(name.partition("/")[2].partition("~")[0]) for name in observations["question_id"]]
        return [
            Response(ATTACK) if number % 50 == 7 else Response(one.text, probabilities=None)
            for number, one in zip((number for number in ids for _ in range(n)), said, strict=True)
        ]


def write_training(folder):
    """Metrics with a fault, and a group with variants."""
    kinds = ("all_right", "mixed", "form_only", "all_wrong", "no_form")
    said = {"text": "<think>I look.</think><answer>B</answer>", "reward": 1.5, "parts": {"format": 0.5}, "format": True}
    asked = {"stem": "What is it?", "options": ["liver", "gut"], "answer": "B", "correct": True, "truncated": False}
    varied = {"options": ["gut", "liver"], "answer": "A", "correct": False, "edits": ["permute:10", "grammar:Z1>Z2"]}
    with (folder / "metrics.jsonl").open("w") as metrics, (folder / "groups.jsonl").open("w") as groups:
        for step in range(1, 61):
            row = {
                "step": step,
                "reward": step / 60,
                "accuracy": step / 80,
                "similarity": 0.4,
                "target_similarity": 0.5,
            }
            row |= {"frac_reward_zero_std": 0.4, "completions/clipped_ratio": 0.8, "seconds/sampling": 2.0}
            row |= {f"groups/{kind}": 0.2 for kind in kinds}
            for name, count in (("liver", 3), ("gut", 1 + step % 3)):
                row |= {f"questions/{name}": count, f"frac_reward_zero_std/{name}": 0.5}
                row |= {f"accuracy/{name}": step / 70, f"reward/{name}": step / 50}
            metrics.write(json.dumps(row) + "\n")
            if step % 20 == 0:
                group = {"step": step, "structure": "gut", "similarity": 0.4, "image": None}
                group["responses"] = [asked | said | {"edits": []}, asked | said | varied]
                groups.write(json.dumps(group) + "\n")
    settings = "[grpo]\nsteps = 60\nnum_generations = 2\nmax_completion_length = 24\n"
    (folder / "config.toml").write_text(settings)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as found:
        yield found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_bank):
    folder = tmp_path_factory.mktemp("run")
    bank = make_bank(10_000)
    evaluate(Talker(bank), bank, out=folder, baselines=(), batch_size=500)
    return write_report(folder)


@pytest.fixture(scope="module")
def whole_report(tmp_path_factory, make_bank):
    """Of a training run with all that there can be."""
    folder, bank = tmp_path_factory.mktemp("whole"), make_bank(120)
    for side, policy in (("before", "noisy-oracle:0.3"), ("after", "noisy-oracle:0.8")):
        evaluate(make_policy(policy, bank=bank), bank, out=folder / side, n=2, baselines=default_baselines(bank))
    write_training(folder)
    return write_report(folder, command="anatomy-r1 train --seed 3")


@pytest.fixture
def page(browser, report, request):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: page.problems.append(message.text))
    page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or page.problems.append(asked.url))
    page.goto(f"file://{report}")
    yield page
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{request.node.name}.png")
    assert page.problems == []
    page.close()


def count(page):
    return page.locator(".count").inner_text()


def test_ten_thousand_rollouts_are_small_and_paged(page, report):
    assert report.stat().st_size <= 25e6
    assert count(page) == "1–20 of 10,000" and page.locator(".question").count() == 20
    first = page.locator(".stem").first.inner_text()
    page.get_by_role("button", name="Next page").click()
    assert count(page) == "21–40 of 10,000" and page.locator(".stem").first.inner_text() != first
    page.get_by_role("button", name="Previous page").click()
    assert page.locator(".stem").first.inner_text() == first
    assert page.get_by_role("button", name="Previous page").is_disabled()


def test_filters_narrow_what_is_shown(page):
    page.get_by_label("Outcome").select_option(label="Wrong form 200")
    assert count(page) == "1–20 of 200"
    assert set(page.locator(".mark").all_inner_texts()) == {"✗ not in the required form"}
    page.get_by_label("Structure").select_option("liver")
    some = int(count(page).rpartition(" ")[2])
    assert 0 < some < 200
    page.get_by_label("Outcome").select_option("right")
    assert all(mark == "✓ right" for mark in page.locator(".mark").all_inner_texts())
    page.get_by_label("Find words").fill("at place 4321?")
    assert count(page) in ("none", "1–1 of 1")
    page.get_by_label("Outcome").select_option("")
    page.get_by_label("Structure").select_option("")
    assert page.locator(".stem").all_inner_texts() == ["What is at place 4321?"]


def test_questions_without_an_image_say_so_and_those_with_one_can_be_asked_for(page):
    outcomes = page.get_by_label("Outcome")
    page.get_by_label("Image").select_option("yes")
    assert page.locator(".question img").count() == 20 and page.locator(".unkept").count() == 0
    for outcome in ("right", "wrong", "form"):
        outcomes.select_option(outcome)
        assert int(count(page).rpartition(" ")[2]) >= 20
    page.get_by_label("Image").select_option("")
    outcomes.select_option("")
    for _ in range(12):
        page.get_by_role("button", name="Next page").click()
    assert page.locator(".unkept").all_inner_texts() == ["no image kept"] * page.locator(".unkept").count() != []


def test_the_order_can_be_changed(page):
    page.get_by_label("Order").select_option("reward")
    rewards = [float(text.split()[1]) for text in page.locator(".speech header .num").all_inner_texts()]
    assert rewards == sorted(rewards) and rewards[0] == 0.0
    page.get_by_label("Order").select_option("drawn")
    assert page.locator(".stem").first.inner_text() == "What is at place 0?"


def test_tables_sort_by_click_and_by_key(page):
    table = page.locator(".table", has=page.get_by_role("heading", name="By structure"))
    names = table.locator("tbody td:first-child")
    before = names.all_inner_texts()
    head = table.locator("th", has_text="Accuracy")
    head.click()
    shares = [
        float(value)
        for value in table.locator("tbody td:last-child").evaluate_all("cells => cells.map(c => c.dataset.value)")
    ]
    assert shares == sorted(shares, reverse=True) and head.get_attribute("aria-sort") == "descending"
    head.press("Enter")
    shares = [
        float(value)
        for value in table.locator("tbody td:last-child").evaluate_all("cells => cells.map(c => c.dataset.value)")
    ]
    assert shares == sorted(shares)
    table.locator("th", has_text="Structure").click()
    table.locator("th", has_text="Structure").click()
    assert names.all_inner_texts() == sorted(before)


def current(page):
    return page.locator(".question[aria-current]").get_attribute("data-id")


def test_a_question_has_an_address_and_keys_go_on_from_it(page, report):
    page.goto(f"file://{report}#outcome=form&order=reward&q=test%2F157")
    assert count(page).endswith("of 200") and current(page) == "test/157"
    assert page.get_by_label("Outcome").input_value() == "form"
    page.keyboard.press("ArrowRight")
    assert current(page) == "test/207" and page.url.endswith("#outcome=form&order=reward&q=test%2F207")
    page.keyboard.press("k")
    assert current(page) == "test/157"
    page.goto(f"file://{report}#structure=liver&q=test%2F9999")
    assert current(page) == "test/9999"
    page.goto(f"file://{report}#page=3&outcome=right")
    assert count(page).startswith("41–60 of")
    page.get_by_label("Find words").press("ArrowRight")
    assert page.locator(".question[aria-current]").count() == 0


def test_the_contents_stay_and_lead_to_the_sections(page):
    page.get_by_role("navigation").get_by_role("link", name="Questions").click()
    assert page.evaluate("scrollY") > 500 and page.url.endswith("#questions")
    assert page.get_by_role("navigation").bounding_box()["y"] == 0
    assert count(page) == "1–20 of 10,000"


def test_an_image_opens_large_and_zooms(page):
    page.get_by_role("button", name="Enlarge").nth(1).click()
    large = page.get_by_role("dialog")
    image = large.locator("img")
    narrow = image.bounding_box()["width"]
    large.get_by_role("button", name="Larger").click()
    assert image.bounding_box()["width"] == pytest.approx(1.25 * narrow, rel=0.01)
    stem = large.locator("h2").inner_text()
    page.keyboard.press("ArrowRight")
    assert large.locator("h2").inner_text() != stem
    page.keyboard.press("Escape")
    assert large.is_hidden() and current(page) == "test/2"


def test_an_id_is_copied_by_a_click(browser, report):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"file://{report}")
    button = page.locator(".id").first
    button.click()
    page.get_by_text("Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == "test/0"
    context.close()


def exported(page, name):
    with page.expect_download() as told:
        page.get_by_role("button", name=f"Export {name}").click()
    return Path(told.value.path()).read_text(encoding="utf-8")


def test_what_the_filters_leave_is_exported(page):
    page.get_by_label("Outcome").select_option("form")
    rows = list(csv.DictReader(io.StringIO(exported(page, "CSV"))))
    assert len(rows) == 200 and {row["answer"] for row in rows} == {ATTACK}
    assert rows[3]["id"] == "test/157" and rows[3]["reward"] == "0" and rows[3]["stem"] == "What is at place 157?"
    page.get_by_label("Structure").select_option("liver")
    items = [json.loads(line) for line in exported(page, "JSONL").splitlines()]
    assert len(items) == int(count(page).rpartition(" ")[2]) and {one["structure"] for one in items} == {"liver"}
    assert items[0]["options"][items[0]["answer"]] == "liver" and "image" not in items[0]


def test_a_row_of_a_table_leads_to_its_questions(page):
    table = page.locator(".table", has=page.get_by_role("heading", name="By structure"))
    table.get_by_role("link", name="cystic plate").click()
    assert page.get_by_label("Structure").input_value() == "cystic plate"
    assert set(page.locator(".tag:first-child").all_inner_texts()) == {"cystic plate"}


def test_markup_in_a_response_stays_text(page):
    page.get_by_label("Outcome").select_option("form")
    assert page.locator(".answer.raw").first.inner_text() == ATTACK
    assert page.locator(".question img[src=x]").count() == 0
    assert page.title() != "owned" and "talker" not in page.title()


def test_dark_mode_and_phones(browser, report):
    colours = {}
    for scheme in ("light", "dark"):
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        page.goto(f"file://{report}")
        colours[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.screenshot(path=SCREENSHOTS / f"phone_{scheme}.png")
        page.close()
    assert colours == {"light": "rgb(245, 245, 242)", "dark": "rgb(17, 18, 21)"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_keeps_anyone_from_reading_a_report(browser, whole_report, serious, scheme, width):
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme, bypass_csp=True)
    page.goto(f"file://{whole_report}")
    assert serious(page) == []
    page.get_by_role("button", name="Enlarge").first.click()
    assert serious(page, "dialog[open]") == []
    page.screenshot(path=SCREENSHOTS / f"whole_{width}_{scheme}.png", full_page=True)
    page.close()


def test_without_scripts_the_numbers_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report}")
    assert "right on clusters questions" in page.locator("h1").inner_text()
    assert page.locator("noscript").count() == 1 and "By structure" in page.locator("body").inner_text()
    context.close()
