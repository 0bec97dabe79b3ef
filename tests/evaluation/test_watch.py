"""The watch server, over real HTTP and in a real browser."""

import json
import shutil
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from anatomy_r1.agents import make_policy
from anatomy_r1.core import AnatomyError, claim_folder, release_folder
from anatomy_r1.evaluation import evaluate, read_rollouts
from anatomy_r1.evaluation.live import BrowserPolicy, Person, Trial, watch_app
from anatomy_r1.evaluation.live.paced import Pace

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("jinja2")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def serve():
    servers = []

    def start(run=None, trial=None, person=None):
        runs = [run] if isinstance(run, Path) else run or []
        app = watch_app(runs, trial, person, hosts=("127.0.0.1",), pause=0.0)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started)
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join(5)


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened in time"
        time.sleep(0.02)


def get(url, **headers):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def post(url, value, **headers):
    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def log(run, step, reward=0.5):
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "reward": reward, "accuracy": reward}) + "\n")


def test_the_page_follows_the_run(serve, tmp_path):
    url = serve(run=tmp_path)
    assert "nothing written yet" in get(url)[1]
    log(tmp_path, 1)
    status, body, headers = get(f"{url}/live?mark=")
    assert status == 200 and "step 1" in body and "<svg" in body
    mark = headers["x-mark"].replace(" ", "%20")
    assert get(f"{url}/live?mark={mark}")[0] == 204
    log(tmp_path, 2)
    assert "step 2" in get(f"{url}/live?mark={mark}")[1]


def test_a_broken_file_of_the_run_is_told_on_the_page(serve, tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{broken\n{"step": 2}\n')
    status, body, _ = get(serve(run=tmp_path))
    assert status == 200 and "metrics.jsonl, line 1" in body


def begin(run, steps=40):
    run.mkdir(exist_ok=True)
    (run / "config.toml").write_text(f"[grpo]\nsteps = {steps}\nmax_completion_length = 24\n")


def step_of_a_run(run, step, **more):
    row = {"step": step, "reward": 0.5, "accuracy": 0.5, "seconds/sampling": 2.0, "seconds/update": 1.0}
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row | more) + "\n")


def test_the_page_says_how_far_a_run_is_and_whether_it_lives(serve, tmp_path):
    run = tmp_path / "run"
    begin(run)
    url = serve(run=run)
    assert "stopped before its end" in get(url)[1]
    claim_folder(run)
    assert "state starting" in get(url)[1]
    for step in range(1, 11):
        step_of_a_run(run, step)
    body = get(url)[1]
    assert "step 10 of 40" in body and "sampling responses" in body and 'value="10"' in body
    assert 'data-seconds="90.0" data-way="-1">1 min 30 s' in body and "elapsed" in body
    (run / "before").mkdir()
    (run / "checkups" / "step-000011").mkdir(parents=True)
    assert "evaluating held-out questions" in get(url)[1]
    lock = (run / ".lock").read_text()
    release_folder(run)
    assert "stopped before its end" in get(url)[1]
    (run / ".lock").write_text(lock)
    body = get(url)[1]
    assert "died: its process is gone" in body and "<code>died</code>" in body


def test_warnings_of_the_run_and_findings_of_the_doctor_stand_on_the_page(serve, tmp_path):
    begin(tmp_path)
    notice = {"step": 3, "kind": "left-out", "text": "question 'q<7>' was left out: its image is broken"}
    (tmp_path / "notices.jsonl").write_text(json.dumps(notice) + "\n")
    for step in range(1, 41):
        step_of_a_run(tmp_path, step, **{"completions/clipped_ratio": 0.9})
    body = get(serve(run=tmp_path))[1]
    assert "question &#39;q&lt;7&gt;&#39; was left out" in body
    assert '<li class="serious"><b>Serious</b> <code>cut-off</code>' in body


def test_several_runs_share_their_charts_and_have_pages_of_their_own(serve, tmp_path):
    for name, reward in (("one", 0.25), ("two", 0.75)):
        begin(tmp_path / name)
        for step in range(1, 21):
            step_of_a_run(tmp_path / name, step, reward=reward)
    url = serve(run=[tmp_path / "one", tmp_path / "two", tmp_path / "none"])
    body = get(url)[1]
    assert "3 runs" in body and "nothing written yet" in body and body.count("step 20 of 40") == 2
    assert "step 20\none 0.25\ntwo 0.75" in body
    assert "step 20 of 40" in get(f"{url}/run/1")[1] and get(f"{url}/run/3")[0] == 404
    assert "one 0.25" not in get(f"{url}/live?page=/run/0")[1]
    assert get(f"{url}/live?page=/etc")[0] == 404 and get(f"{url}/live?smooth=odd")[0] == 422
    with pytest.raises(AnatomyError, match="each of another name"):
        watch_app([tmp_path / "one", tmp_path / "one"], None, None)


def test_a_report_that_was_written_is_linked_and_shut_off(serve, tmp_path):
    url = serve(run=tmp_path)
    assert get(f"{url}/report/0")[0] == 404 == get(f"{url}/report/1")[0]
    begin(tmp_path)
    assert "href=" not in get(f"{url}/live")[1]
    (tmp_path / "report.html").write_text("<title>Mine</title>")
    assert '<a href="/report/0">' in get(f"{url}/live")[1]
    status, body, headers = get(f"{url}/report/0")
    assert status == 200 and "Mine" in body and headers["content-security-policy"].startswith("sandbox allow-scripts")


def test_a_page_is_made_at_most_so_often_as_its_cost_allows(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("anatomy_r1.evaluation.live.paced.perf_counter", lambda: clock[0])
    pace = Pace(1.0, 40)
    for cost, again in ((0.01, 1.01), (2.0, 83.01)):
        with pace:
            clock[0] += cost
        clock[0] = again - 0.01
        assert not pace.due and pace.rest == pytest.approx(0.01)
        clock[0] = again
        assert pace.due


def test_one_point_makes_no_axis_around_itself(serve, tmp_path):
    step_of_a_run(tmp_path, 20)
    body = get(serve(run=tmp_path))[1]
    assert ">20</text>" in body and ">19.5<" not in body and ">20.5<" not in body


def test_an_evaluation_under_way_shows_its_accuracy(serve, bank, tmp_path):
    evaluate(make_policy("oracle", bank=bank), bank, out=tmp_path, limit=12)
    (tmp_path / "results.json").unlink()
    body = get(serve(run=tmp_path))[1]
    assert "an evaluation under way" in body and "100.0\u202f%" in body and ">12<" in body


def test_other_hosts_and_other_sites_are_refused(serve, bank, tmp_path):
    person = Person(BrowserPolicy(), 1)
    url = serve(run=tmp_path, trial=Trial(make_policy("oracle", bank=bank), bank), person=person)
    assert get(url, Host="evil.example")[0] == 400
    for path, value in (("/choice", {"number": 0, "choice": 0}), ("/respond", {"number": 0})):
        assert post(url + path, value, Origin="http://evil.example")[0] == 403
        assert get(url + path)[0] == 405
    policy = get(url)[2]["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy


def test_only_what_was_asked_for_is_served(serve, tmp_path):
    url = serve(run=tmp_path)
    assert {get(url + path)[0] for path in ("/try", "/question", "/answer", "/pending", "/../secret")} == {404}
    with pytest.raises(AnatomyError, match="nothing to watch"):
        watch_app([], None, None)


def test_a_policy_can_be_tried(serve, bank):
    url = serve(trial=Trial(make_policy("oracle", bank=bank), bank))
    asked = json.loads(get(f"{url}/question?number=3")[1])
    assert asked["image"].startswith("data:image/png;base64,") and len(asked["options"]) in (3, 4)
    status, said = post(f"{url}/respond", {"number": 3})
    assert status == 200 and said["correct"] and said["text"].endswith(f"<answer>{'ABCD'[asked['answer']]}</answer>")


def sit_down(bank, out, limit=4):
    person = Person(BrowserPolicy(), limit)

    def work():
        try:
            person.results = evaluate(person.policy, bank, limit=limit, out=out, resume=True, baselines=())
        except AnatomyError as error:
            person.problem = str(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return person, thread


def test_a_persons_choices_become_an_evaluation_that_can_be_resumed(serve, bank, tmp_path):
    person, thread = sit_down(bank, tmp_path)
    url = serve(person=person)
    for number, choice in enumerate((0, 2)):
        until(lambda number=number: json.loads(get(f"{url}/pending")[1])["number"] == number)
        assert post(f"{url}/choice", {"number": number, "choice": 7})[0] == 409
        assert post(f"{url}/choice", {"number": number, "choice": choice}) == (200, {"taken": True})
        assert post(f"{url}/choice", {"number": number, "choice": choice})[0] == 409
    until(lambda: person.policy.pending[0] == 2)
    person.policy.close()
    thread.join(5)
    assert "the same command goes on" in person.problem
    assert [one.choice for one in read_rollouts(tmp_path)] == ["A", "C"]
    person, thread = sit_down(bank, tmp_path)
    for number in range(2):
        until(lambda number=number: person.policy.pending[0] == number and person.policy.pending[1] is not None)
        person.policy.choose(number, 1)
    thread.join(5)
    assert [one.choice for one in read_rollouts(tmp_path)] == ["A", "C", "B", "B"]
    assert person.results.n == 4 and "Done" in person.lead()


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as found:
        yield found.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here")
class TestInTheBrowser:
    @pytest.fixture
    def page(self, browser):
        page = browser.new_page()
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        yield page
        assert page.problems == []
        page.close()

    def test_the_curves_update_by_themselves(self, serve, page, tmp_path):
        log(tmp_path, 1)
        page.goto(serve(run=tmp_path))
        page.get_by_text("step 1", exact=True).wait_for()
        for step in range(2, 30):
            log(tmp_path, step, reward=step / 30)
        page.get_by_text("step 29", exact=True).wait_for()
        assert page.locator("svg.chart").count() == 2

    def test_values_show_under_the_pointer_and_curves_can_be_smoothed(self, serve, page, tmp_path):
        for step in range(1, 30):
            log(tmp_path, step, reward=step / 30)
        page.goto(serve(run=tmp_path))
        column = page.locator("svg.chart").first.locator(".column").nth(14)
        column.hover(force=True)
        tip = page.locator(".tip")
        assert tip.inner_text() == "step 15\nreward 0.5"
        line = page.locator("svg.chart .line").first
        averaged = line.get_attribute("points")
        page.get_by_label("Smoothing").select_option("none")
        until(lambda: line.get_attribute("points") != averaged)
        raw = page.locator("svg.chart .raw").first.get_attribute("points")
        assert line.get_attribute("points") == raw
        page.locator("h1").hover()
        assert tip.is_hidden()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_nothing_keeps_anyone_from_reading_it(self, serve, browser, serious, tmp_path, scheme):
        runs = [tmp_path / "one", tmp_path / "two"]
        for run in runs:
            begin(run)
            for step in range(1, 41):
                step_of_a_run(run, step, **{"completions/clipped_ratio": 0.9})
        url = serve(run=runs)
        page = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme, bypass_csp=True)
        for path in ("/", "/run/1"):
            page.goto(url + path)
            assert serious(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.close()

    def test_a_group_with_markup_stays_text(self, serve, page, tmp_path):
        attack = "<img src=x onerror=document.title='owned'><script>document.title='owned'</script>"
        said = {
            "stem": "What?",
            "options": ["liver", "gut"],
            "answer": "A",
            "edits": [],
            "text": attack,
            "reward": 0.0,
            "parts": {},
            "format": False,
            "correct": False,
            "truncated": False,
        }
        row = {"step": 1, "structure": "liver", "similarity": None, "image": None, "responses": [said]}
        page.goto(serve(run=tmp_path))
        (tmp_path / "groups.jsonl").write_text(json.dumps(row) + "\n")
        page.get_by_text(attack).wait_for()
        assert page.title() != "owned" and page.locator("img[src=x]").count() == 0

    def test_a_person_answers_by_click_and_by_key(self, serve, page, bank, tmp_path):
        person, thread = sit_down(bank, tmp_path, limit=3)
        page.goto(serve(person=person) + "/answer")
        stems = []
        for number in range(3):
            until(lambda: page.locator("#stem").inner_text() not in ("", *stems))
            stems.append(page.locator("#stem").inner_text())
            if number == 1:
                page.keyboard.press("c")
            else:
                page.locator("#choices button").nth(0).click()
        page.get_by_text("Done: ").wait_for()
        thread.join(5)
        rollouts = read_rollouts(tmp_path)
        assert [one.choice for one in rollouts] == ["A", "C", "A"] and [one.stem for one in rollouts] == stems

    def test_a_policy_is_tried_by_clicks(self, serve, page, bank):
        page.goto(serve(trial=Trial(make_policy("oracle", bank=bank), bank)) + "/try")
        first = page.locator("#stem").inner_text()
        page.locator("#choices button").first.click()
        page.get_by_text("oracle is right").wait_for()
        assert page.locator("#choices button.right").count() == 1
        page.get_by_role("button", name="Next question").click()
        until(lambda: page.locator("#stem").inner_text() != first)
