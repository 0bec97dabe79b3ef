"""A server of OpenEnv, and the embedded model in eight sessions with it: python examples/with_openenv.py [GROUPS]."""

import contextlib
import os
import subprocess
import sys

from anatomy_r1.agents import make_policy
from anatomy_r1.integrations.openenv_client import AnatomyAction, AnatomyEnv

GROUPS, SIZE = int(sys.argv[1]) if len(sys.argv) > 1 else 8, 8
task = f'{{"bank": "scenes", "curriculum": "asc", "group_size": {SIZE}}}'
command = [sys.executable, "-m", "uvicorn", "anatomy_r1.integrations.openenv_server:app", "--port", "8017"]
policy = make_policy("tiny", temperature=1.0)  # or "hf:MODEL"
with contextlib.ExitStack() as stack:
    server = subprocess.Popen(command, env=os.environ | {"ANATOMY_R1_TASK": task}, stderr=subprocess.PIPE, text=True)
    stack.enter_context(server)
    stack.callback(server.terminate)
    print(next(line for line in server.stderr if "running on" in line).strip())
    sessions = [stack.enter_context(AnatomyEnv(base_url="http://127.0.0.1:8017").sync()) for _ in range(SIZE)]
    for number in range(GROUPS):
        asked = [env.reset(group=number, progress=number / GROUPS).observation for env in sessions]
        seen = {"image": [one.pixels() for one in asked], "prompt": [one.prompt for one in asked]}
        said = [AnatomyAction(response=response.text) for response in policy.respond(seen)]
        paid = [env.step(action).reward for env, action in zip(sessions, said, strict=True)]
        print(f"group {asked[0].group:2}: rewards", *paid)
