"""Pages of a run in progress, to try a policy, and to answer as a person."""

from anatomy_r1.evaluation.live.watch import (
    ANYWHERE,
    LOOPBACK,
    BrowserPolicy,
    Person,
    Trial,
    watch_app,
    watch_server,
)

__all__ = ["ANYWHERE", "LOOPBACK", "BrowserPolicy", "Person", "Trial", "watch_app", "watch_server"]
