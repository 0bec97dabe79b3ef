"""``anatomy-r1 watch RUN…``: a local page of runs in progress, to try a policy, to answer as a person."""

import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from socket import gethostname
from types import FrameType
from typing import Annotated, Any

import tyro
from rich.text import Text

from anatomy_r1.banks import Bank, choose_split, open_bank
from anatomy_r1.cli.again import run_command
from anatomy_r1.cli.console import console
from anatomy_r1.cli.training import BankOptions
from anatomy_r1.core import AnatomyError, Count, Range, Seed, Stopped, stop_signals
from anatomy_r1.evaluation import evaluate
from anatomy_r1.evaluation.live import ANYWHERE, LOOPBACK, BrowserPolicy, Person, Trial, watch_app, watch_server
from anatomy_r1.evaluation.run import open_policy
from anatomy_r1.workflows import Scalar, extras


@dataclass(frozen=True)
class WatchConfig:
    """A local page."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Folders of training runs or evaluations, which may be under way; several share their charts."""
    policy: str | None = None
    """Policy to try on questions of the bank."""
    policy_options: dict[str, Scalar] = field(default_factory=dict)
    """Options of the policy, as pairs."""
    answer: Path | None = None
    """Folder for an evaluation of you: the page asks, you click. It goes on where it was."""
    bank: str = "scenes"
    """Bank of the questions to try or to answer."""
    bank_options: BankOptions = field(default_factory=dict)
    """Options of the bank, as pairs."""
    split: str | None = None
    """Whose questions; None: test, or the only split of a bank that has no more."""
    limit: Count = 20
    """Questions to answer."""
    seed: Seed = 0
    """Seed of their draw."""
    host: str = "127.0.0.1"
    """Where to listen; others than this machine can reach it only if this is changed."""
    port: Annotated[int, Range(0, 65_535)] = 8765
    """Port to listen on."""

    def run(self) -> None:
        """Serve until interrupted."""
        bank = open_bank(self.bank, **extras(self.bank_options)) if self.policy or self.answer else None
        trial, person = self._trial(bank), Person(BrowserPolicy(), self.limit) if self.answer else None
        known = ["*", gethostname()] if self.host in ANYWHERE else [*LOOPBACK, self.host]
        app = watch_app(self.runs, trial, person, known, command_of=run_command)
        server = watch_server(app, self.host, self.port)
        if self.host not in LOOPBACK:
            console.print(Text("anyone who reaches this address can see the run and use the policy.", "bold yellow"))
        if person is not None and bank is not None:
            threading.Thread(target=self._evaluate, args=(person, bank), daemon=True).start()
        for run in self.runs:
            if not run.exists():
                console.print(f"{run} is not there yet; the page waits for it.")
        host = f"[{self.host}]" if ":" in self.host else self.host
        console.print(f"open http://{host}:{self.port}/ (Ctrl-C ends it)")
        try:
            _serve(server)
        except SystemExit:
            raise AnatomyError(f"port {self.port} of {self.host} can't be used; give another --port.") from None
        finally:
            if person is not None:
                person.policy.close()

    def _trial(self, bank: Bank | None) -> Trial | None:
        if self.policy is None or bank is None:
            return None
        policy = open_policy(self.policy, bank, self.seed, self.policy_options)
        bank, split, _ = choose_split(bank, self.split)
        return Trial(policy, bank.split(split), self.seed)

    def _evaluate(self, person: Person, bank: Bank) -> None:
        try:
            bank, split, _ = choose_split(bank, self.split)
            person.results = evaluate(
                person.policy,
                bank,
                split=split,
                limit=self.limit,
                seed=self.seed,
                out=self.answer,
                resume=True,
                config={"bank_spec": self.bank, "bank_options": dict(self.bank_options)},
            )
        except AnatomyError as error:
            person.problem = str(error)


def _serve(server: Any) -> None:
    """Serve until asked to stop. The server hears Ctrl-C and SIGTERM by itself, of a terminal that is gone it is told:
    what is raised in the middle of its loop, it would print.
    """
    heard: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        server.should_exit = True

    for number in {*stop_signals()} - {signal.SIGINT, signal.SIGTERM}:
        signal.signal(number, stop)
    server.run()
    if heard:
        raise Stopped(heard[0])
