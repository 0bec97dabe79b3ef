"""Reports in a real browser. Screenshots are kept in build/screenshots."""

import shutil
from pathlib import Path

import pytest

from anatomy_r1.agents import Response, make_policy
from anatomy_r1.evaluation import evaluate, write_report

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


def test_without_scripts_the_numbers_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report}")
    assert "right on clusters questions" in page.locator("h1").inner_text()
    assert page.locator("noscript").count() == 1 and "By structure" in page.locator("body").inner_text()
    context.close()
