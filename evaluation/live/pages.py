"""The pages of ``anatomy-r1 watch``, served by Starlette (extra ``watch``)."""

import secrets
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from anatomy_r1.agents.policies import name_of
from anatomy_r1.core import AnatomyError, read_bytes
from anatomy_r1.envs import score
from anatomy_r1.evaluation.live.following import LiveRun
from anatomy_r1.evaluation.live.incoming import KnownHosts, sent_numbers, whole_number
from anatomy_r1.evaluation.live.overlaid import LiveRuns
from anatomy_r1.evaluation.live.paced import SMOOTHING, LivePage
from anatomy_r1.evaluation.live.watch import Asked, Person, Trial, question_view
from anatomy_r1.evaluation.reports import REPORT, TEMPLATES, load_template
from anatomy_r1.evaluation.run import ask

MAX_REPORT = 1 << 26
_APART = "sandbox allow-scripts allow-downloads; frame-ancestors 'none'"
_FRESH = {"Cache-Control": "no-store"}


class Site:
    """What is shown: runs, a policy to try, a person's evaluation; each may be missing.

    Args:
        runs: pages of runs.
        trial: a policy to try.
        person: an evaluation.
        pause: see :class:`LivePage`.
    """

    def __init__(self, runs: Sequence[LiveRun], trial: Trial | None, person: Person | None, pause: float) -> None:
        self.runs, self.trial, self.person = runs, trial, person
        self.live_pages: dict[str, LivePage] = {f"/run/{number}": run for number, run in enumerate(runs)}
        if len(runs) > 1:
            self.live_pages["/"] = LiveRuns(runs, pause)
        elif runs:
            self.live_pages = {"/": runs[0]}
        several = [("/", "All runs"), *((f"/run/{number}", run.name) for number, run in enumerate(runs))]
        self.pages = several if len(runs) > 1 else [("/", "Run")] if runs else []
        self.pages += [("/try", "Try a policy")] if trial is not None else []
        self.pages += [("/answer", "Answer")] if person is not None else []
        self._script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.js", "watch.js"))
        self._template = load_template("watch.html.j2")

    def app(self, hosts: Sequence[str]) -> Starlette:
        """The application; asked under another host name than these (a rebound one, say), it refuses."""
        gets = [("/", self.home)]
        if self.runs:
            gets += [("/live", self.live), ("/report/{number}", self.report)]
        if len(self.runs) > 1:
            gets += [("/run/{number}", self.run_page)]
        if self.trial is not None:
            gets += [("/try", self.try_page), ("/question", self.question)]
        if self.person is not None:
            gets += [("/answer", self.answer_page), ("/pending", self.pending)]
        routes = [Route(path, handler) for path, handler in gets]
        if self.trial is not None:
            routes.append(Route("/respond", self.respond, methods=["POST"]))
        if self.person is not None:
            routes.append(Route("/choice", self.choice, methods=["POST"]))
        return Starlette(
            routes=routes,
            middleware=[Middleware(KnownHosts, hosts=list(hosts))],
            exception_handlers={AnatomyError: lambda request, error: PlainTextResponse(str(error), 422)},
        )

    def home(self, request: Request) -> Response:
        """The runs, or the first page there is."""
        if not self.runs:
            return RedirectResponse(self.pages[0][0])
        return self._live_page("/", self.runs[0].name if len(self.runs) == 1 else f"{len(self.runs)} runs")

    def run_page(self, request: Request) -> Response:
        """One of several runs."""
        number = whole_number(request.path_params["number"], "number")
        return self._live_page(f"/run/{number}", self._run(number).name)

    def live(self, request: Request) -> Response:
        """The run's part of the page, if it has changed since ``mark``."""
        path, smooth = (request.query_params.get(name, "") for name in ("page", "smooth"))
        page = self.live_pages.get(path or "/")
        if page is None:
            return PlainTextResponse("no such page", 404)
        mark, html = page.html(smooth)
        headers = {"X-Wait": f"{page.rest:.2f}", **_FRESH}  # who asks before it would get the same
        if request.query_params.get("mark") == mark:
            return Response(status_code=204, headers=headers)
        return HTMLResponse(html, headers={"X-Mark": mark, **headers})

    def report(self, request: Request) -> Response:
        """The report that a run has written, shut off from the other pages."""
        run = self._run(whole_number(request.path_params["number"], "number"))
        if not run.report:
            return PlainTextResponse("no report was written yet", 404)
        found = read_bytes(run.run / REPORT, MAX_REPORT)
        return HTMLResponse(found, headers={"Content-Security-Policy": _APART, **_FRESH})

    def try_page(self, request: Request) -> Response:
        """A question, and what the policy says to it."""
        trial = self._trial()
        lead = f"{name_of(trial.policy)} on {trial.bank.name}: choose, then see what it says."
        return self._page("try", "/try", "Try a policy", lead)

    def answer_page(self, request: Request) -> Response:
        """A person's evaluation."""
        return self._page("answer", "/answer", "Answer as a person", self._person().lead())

    def question(self, request: Request) -> Response:
        """A question to try."""
        trial, number = self._trial(), whole_number(request.query_params.get("number", "0"), "number")
        asked = trial.question(number)
        facts = {"number": number, "answer": asked.answer, "policy": name_of(trial.policy)}
        return JSONResponse(question_view(Asked(asked.stem, asked.options, asked.pixels())) | facts, headers=_FRESH)

    async def respond(self, request: Request) -> Response:
        """What the policy says to it."""
        trial, (number,) = self._trial(), await sent_numbers(request, "number")
        asked = await run_in_threadpool(trial.question, number)
        said = (await run_in_threadpool(ask, trial.policy, [asked]))[0]
        right = bool(score(asked, said.text).correct)
        return JSONResponse({"text": said.text, "correct": right, "failed": said.failed})

    def pending(self, request: Request) -> Response:
        """The question that waits for the person."""
        person = self._person()
        number, asked = person.policy.pending
        finished = person.results is not None or person.problem is not None
        view = {"number": None} if asked is None else question_view(asked) | {"number": number}
        return JSONResponse(view | {"finished": finished, "lead": person.lead()}, headers=_FRESH)

    async def choice(self, request: Request) -> Response:
        """The person's choice; 409 where the question does not wait any more."""
        taken = self._person().policy.choose(*await sent_numbers(request, "number", "choice"))
        return JSONResponse({"taken": taken}, 200 if taken else 409)

    def _run(self, number: int) -> LiveRun:
        if number >= len(self.runs):
            raise HTTPException(404)
        return self.runs[number]

    def _live_page(self, path: str, title: str) -> Response:
        return self._page("live", path, title, body=self.live_pages[path].html()[1])

    def _page(self, kind: str, path: str, title: str, lead: str = "", body: str = "") -> Response:
        nonce = secrets.token_urlsafe(12)
        html = self._template.render(
            page=kind,
            here=path,
            pages=self.pages,
            script=self._script,
            nonce=nonce,
            title=title,
            lead=lead,
            body=body,
            smoothing=SMOOTHING,
        )
        policy = (
            f"default-src 'none'; img-src data:; connect-src 'self'; style-src 'unsafe-inline'; "
            f"script-src 'nonce-{nonce}'; frame-ancestors 'none'; base-uri 'none'"
        )
        return HTMLResponse(html, headers={"Content-Security-Policy": policy, **_FRESH})

    def _trial(self) -> Trial:
        assert self.trial is not None
        return self.trial

    def _person(self) -> Person:
        assert self.person is not None
        return self.person
