"""What the tests of kills and signals run: real tiny runs in forks, stopped at seeded instants; prints what came.

An instant is the n-th event of a run: a file or folder of its own about to be opened to write, renamed, made or
removed, or an optimiser about to step. Where nothing of its own is written, any file about to be opened is one.
"""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import torch

from anatomy_r1.cli.main import main as command_line

EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def watch(out, at, number):
    """Count the events of this process, from 1; ``at`` that one it gets the signal."""
    seen = {"own": 0, "any": 0}

    def event(kind):
        seen[kind] += 1
        if (kind, seen[kind]) == at:
            os.kill(os.getpid(), number)

    def hear(name, arguments):
        if name == "open":
            path, mode, flags = arguments
            writes = bool((flags or 0) & WRITING) if mode is None else bool(set("wax+") & set(mode))
            event("any")
        else:
            path, writes = arguments[0] if name in EVENTS else "", name in EVENTS
        if writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(out):
            event("own")

    step = torch.optim.AdamW.step

    def stepped(self, *rest, **options):
        event("own")
        return step(self, *rest, **options)

    torch.optim.AdamW.step = stepped
    sys.addaudithook(hear)
    return seen


def fork(command, out, at=None, number=signal.SIGKILL):
    """Run a command in a fork, as a user would; its exit code, how many events it had, and what it said."""
    child = begin(command, out, at, number)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, *heard(out)


def heard(out, rank=""):
    """How many events a child had, if it lived to tell, and what it said."""
    told = out.with_suffix(f".told{rank}")
    return json.loads(told.read_text()) if told.exists() else {}, out.with_suffix(f".said{rank}").read_text()


def begin(command, out, at=None, number=signal.SIGKILL, rank=""):
    """Fork a child that runs a command; ``rank``: among several, whose environment says the rest."""
    told, said = out.with_suffix(f".told{rank}"), out.with_suffix(f".said{rank}")
    told.unlink(missing_ok=True)
    begun = out.exists() and any(entry.name != ".lock" for entry in out.iterdir())
    if not (child := os.fork()):
        code = 99
        try:
            if rank:
                os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
            with said.open("w") as errors, open(os.devnull, "w") as null:  # noqa: PTH123
                os.dup2(errors.fileno(), 2)
                os.dup2(null.fileno(), 1)
            line = shlex.split(command.replace("OUT", str(out)))
            seen = watch(str(out), at, number)
            command_line([*line, *(["--resume"] if begun and "--out" in line else [])])
        except SystemExit as ended:
            code = int(ended.code or 0)
            told.write_text(json.dumps(seen))
        finally:
            os._exit(code)
    return child


def pair(command, out, at=(None, None), together=False):
    """Run a command in two processes; where one is killed, so is the other, or it finds out. Code and words of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(free.getsockname()[1])
    children = [begin(command, out, at[rank], rank=str(rank)) for rank in (0, 1)]
    codes = {}
    while len(codes) < 2:
        child, status = os.wait()
        codes[children.index(child)] = os.waitstatus_to_exitcode(status)
        if together and len(codes) == 1:
            os.kill(children[1 - children.index(child)], signal.SIGKILL)
    return [(codes[rank], *heard(out, str(rank))) for rank in (0, 1)]


def left(out):
    """What a finished run left, but for wall times."""
    found = {}
    for name in ("metrics.jsonl", "groups.jsonl", "checkups.jsonl"):
        if (out / name).exists():
            rows = [json.loads(line) for line in (out / name).read_text().splitlines()]
            found[name] = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]
    whole = ("*.safetensors", "rollouts.jsonl", "controls.jsonl", "questions.jsonl")
    for path in sorted(path for name in whole for path in out.rglob(name)):
        if "checkpoints" not in path.parts:
            found[str(path.relative_to(out))] = path.read_bytes().hex()
    return found


def kill(name, command, number, folder):
    """Run it whole; then kill it three times, resume it, and compare."""
    whole, cut = folder / f"{number}-whole", folder / f"{number}-cut"
    code, seen, _ = fork(command, whole)
    rng, instants, killed = np.random.default_rng([13, number]), [], 0
    for share in (0.6, 0.7, 0.9):  # of what is surely left to do
        instants.append(int(rng.integers(1, max(2, share * (seen["own"] - sum(instants))))))
        killed += fork(command, cut, ("own", instants[-1]))[0] == -signal.SIGKILL
    again, _, said = fork(command, cut)
    first, second = left(whole), left(cut)
    differ = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
    litter = sorted({path.name for path in [*cut.rglob(".*"), *cut.rglob("*.partial")]} - {".lock"})
    moved = [row["grad_norm"] for row in first.get("metrics.jsonl", ()) if row.get("grad_norm")]
    shutil.rmtree(whole), shutil.rmtree(cut)
    came = {"codes": [code, again], "events": seen["own"], "instants": instants, "killed": killed, "differ": differ}
    return {"job": name, "files": len(first), "litter": litter, "moved": len(moved), "said": said[-500:], **came}


def run_pair(name, command, number, folder):
    """Run it in two processes, which end as they end."""
    two_processes(name)
    came = pair(command, folder / f"{number}-pair")
    left = sorted(path.name for path in (folder / f"{number}-pair").glob("checkpoints/*"))
    return {"job": name, "codes": [one[0] for one in came], "said": [one[2] for one in came], "left": left}


def two_processes(name):
    """What the launcher would tell all that is started from now on."""
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= SHARDED if name == "sharded" else {}


def kill_pair(name, command, number, folder):
    """Run it whole in two processes; kill one, the other, and both; resume it, and compare."""
    two_processes(name)
    whole, cut = folder / f"{number}-whole", folder / f"{number}-cut"
    (code, seen, _), (_, beside, _) = pair(command, whole)
    rng, ended, gone = np.random.default_rng([15, number]), [], [0, 0]
    for victims, share in (((1,), 0.5), ((0,), 0.5), ((0, 1), 0.7)):  # of what is surely left to do
        at = [None, None]
        for rank in victims:
            left_to_do = (seen, beside)[rank]["own"] - gone[rank]
            at[rank] = ("own", int(rng.integers(1, max(2, share * left_to_do))))
        came = pair(command, cut, at, together=len(victims) > 1)
        gone = [gone[rank] + (at[victims[0]] or at[rank])[1] for rank in (0, 1)]
        ended.append({"victims": victims, "codes": [one[0] for one in came], "said": [one[2][-600:] for one in came]})
    again, _, said = pair(command, cut)[0]
    first, second = left(whole), left(cut)
    differ = sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))
    came = {"codes": [code, again], "ended": ended, "differ": differ, "said": said[-500:]}
    return {"job": name, "files": len(first), "steps": len(first.get("metrics.jsonl", ())), **came}


def interrupt(name, command, number, folder):
    """Run it whole; then with each signal at an instant of its own, and resume it where it can be."""
    code, seen, _ = fork(command, folder / f"{number}-whole")
    rng, came = np.random.default_rng([14, number]), {}
    kind = "own" if seen["own"] else "any"
    for stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        out = folder / f"{number}-{stop.name}"
        at = int(rng.integers(1, max(2, 0.9 * seen[kind])))
        ended, _, said = fork(command, out, (kind, at), stop)
        again = fork(command, out)[0] if stop == signal.SIGTERM and "OUT" in command else 0
        came[stop.name] = {"code": ended, "at": at, "said": said[-500:], "again": again}
    return {"job": name, "code": code, "events": seen, "came": came}


def main(folder, jobs, work):
    """Do the work for each job."""
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.suppress(SystemExit):  # noqa: PTH123
        warm = "evaluate --policy tiny --limit 2 --batch-size 2 --out"  # what is imported here, is for all forks
        command_line([*shlex.split(warm), str(folder / "warm")])
    for number, (name, command) in enumerate(jobs.items()):
        print(json.dumps(work(name, command, number, folder)), flush=True)


WORKS = {"kill": kill, "kill pair": kill_pair, "pair": run_pair, "interrupt": interrupt}

if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]), WORKS[sys.argv[3]])
