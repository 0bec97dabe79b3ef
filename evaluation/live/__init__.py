"""Pages of a run in progress, to try a policy, and to answer as a person."""

from anatomy_r1.evaluation.live.watch import LOOPBACK, BrowserPolicy, Person, Trial, watch_app

__all__ = ["LOOPBACK", "BrowserPolicy", "Person", "Trial", "watch_app"]
