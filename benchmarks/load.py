"""What long runs cost: memory and files over many steps, and a run's speed while many pages watch it.

    python benchmarks/load.py env --steps 20000       a scripted policy through the vector env, with ASC and GDQA
    python benchmarks/load.py model --steps 2000      the embedded model, trained
    python benchmarks/load.py watch --pages 50        steps per second of a scripted run, alone and watched, and the
                                                      CPU time that the server takes

Memory is the process's own (RSS); its slope is fitted to the second half, when caches are full.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import gymnasium
import numpy as np

import anatomy_r1.envs  # noqa: F401
from anatomy_r1.agents import make_policy
from anatomy_r1.core import append_json

GROUPS, SIZE = 1, 4


def rss():
    """MiB of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def cpu_seconds(process):
    """CPU time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def told(name, memory, folder, seconds):
    """Print what a run of many steps came to; ``memory`` has a value per sample, evenly spaced."""
    half = np.array(memory[len(memory) // 2 :])
    slope = float(np.polyfit(np.arange(len(half)), half, 1)[0]) * len(half)
    files = {path.name: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    print(f"{name}: {seconds:.0f} s; RSS {memory[0]:.0f} MiB first, {max(memory):.0f} most, {memory[-1]:.0f} last")
    print(f"  over the second half it grows by {slope:+.1f} MiB")
    print(f"  {len(files)} files, {sum(files.values()) / 2**20:.1f} MiB; largest {max(files.values()) / 2**20:.1f} MiB")


def make_env(seed=0):
    """Groups as training has them."""
    return gymnasium.make_vec(
        "AnatomyVQA-v0",
        num_envs=GROUPS * SIZE,
        vectorization_mode="vector_entry_point",
        group_size=SIZE,
        bank="scenes",
        curriculum="asc",
        curriculum_options={"schedule": "competence", "similarity": "confusion"},
        augmentation="gdqa",
        seed=seed,
    )


def scripted_steps(env, run, steps):
    """Steps of a policy that guesses; each leaves a row. Yields its number."""
    policy = make_policy("random")
    observations, _ = env.reset(seed=0)
    for step in range(1, steps + 1):
        said = policy.respond(observations)
        _, rewards, _, _, info = env.step([one.text for one in said])
        row = {"step": step, "reward": float(rewards.mean()), "accuracy": float(np.mean(info["correct"]))}
        append_json(run / "metrics.jsonl", row)
        observations, _ = env.reset()
        yield step


def env_load(steps):
    """Memory of the environment and its curriculum."""
    with tempfile.TemporaryDirectory() as folder:
        env, memory, begun = make_env(), [], time.perf_counter()
        for step in scripted_steps(env, Path(folder), steps):
            if step % max(1, steps // 100) == 0:
                memory.append(rss())
        told(f"env, {steps:,} steps", memory, Path(folder), time.perf_counter() - begun)


def model_load(steps):
    """Memory of training the embedded model."""
    from anatomy_r1.workflows import HeldOut, TrainConfig, train
    from anatomy_r1.workflows.settings import GRPOConfig

    with tempfile.TemporaryDirectory() as folder:
        grpo = GRPOConfig(steps=steps, questions_per_step=2, num_generations=4, max_completion_length=24)
        config = TrainConfig(grpo=grpo, held_out=HeldOut(limit=0), out=Path(folder) / "run")
        memory, begun = [], time.perf_counter()
        train(config, progress=lambda _: memory.append(rss()))
        told(f"model, {steps:,} steps", memory, config.out, time.perf_counter() - begun)


def watch_load(pages, seconds=20.0, rounds=3):
    """Speed of a scripted run, alone and watched by so many pages, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        run, port = Path(folder), 18999
        line = [sys.executable, "-m", "anatomy_r1", "watch", str(run), "--port", str(port)]
        server = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        apart = multiprocessing.get_context("spawn")  # what browsers do is no cost of the run
        watching, stop, served = apart.Event(), apart.Event(), apart.Value("i", 0)
        browsers = apart.Process(target=_pages, args=(pages, port, watching, stop, served))
        browsers.start()
        steps, rates, spent = scripted_steps(make_env(), run, 10**9), {False: [], True: []}, {False: 0.0, True: 0.0}
        for _ in range(20):
            next(steps)
        for number in range(2 * rounds):
            watched = number % 2 == 1
            (watching.set if watched else watching.clear)()
            begun, count, used = time.perf_counter(), 0, cpu_seconds(server.pid)
            while time.perf_counter() - begun < seconds:
                next(steps)
                count += 1
            rates[watched].append(count / (time.perf_counter() - begun))
            spent[watched] += cpu_seconds(server.pid) - used
        stop.set()
        watching.set()
        browsers.join()
        server.terminate()
        server.wait()
    alone, watched = (float(np.median(rates[state])) for state in (False, True))
    print(f"steps/s alone {alone:.2f}, watched by {pages} pages {watched:.2f}: {100 * (1 - watched / alone):+.1f} %")
    busy, idle = (spent[state] / (rounds * seconds) for state in (True, False))
    print(f"of a core the server took {busy:.1%}, and {idle:.1%} where nobody looked")
    print(json.dumps({"alone": rates[False], "watched": rates[True], "answers": served.value}))


def _pages(pages, port, watching, stop, served):
    """So many pages, each in a thread."""
    for _ in range(pages):
        threading.Thread(target=_page, args=(port, watching, stop, served)).start()


def _page(port, watching, stop, served):
    """Ask as the page does, every 1.5 s or as late as the server says."""
    mark, rest = "", 0.0
    while not stop.is_set():
        watching.wait()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/live?mark={mark.replace(' ', '%20')}") as answer:
                answer.read()
                mark, rest = answer.headers.get("X-Mark") or mark, float(answer.headers["X-Wait"])
                with served.get_lock():
                    served.value += 1
        except OSError:
            pass
        stop.wait(max(1.5, rest))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("env", "model", "watch"))
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--pages", type=int, default=50)
    given = parser.parse_args()
    if given.what == "watch":
        watch_load(given.pages)
    else:
        {"env": env_load, "model": model_load}[given.what](given.steps or {"env": 20000, "model": 2000}[given.what])


if __name__ == "__main__":
    main()
