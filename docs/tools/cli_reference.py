"""Writes the command line's reference from its parsers: what ``--help`` says of every command.

Run with ``python docs/tools/cli_reference.py OUT``; ``make docs`` does.
"""

import contextlib
import io
import os
import re
import sys
from pathlib import Path

HEAD = """# The command line
`anatomy-r1 COMMAND --config FILE.toml --flag value …`: each setting may stand in the TOML file, `--a.b-c 1` as
`b_c = 1` below `[a]`, and flags win over it. Exit codes: 0 done, 1 a check found something, 2 a mistake that you can
mend, 130 interrupted.
"""


def help_of(command: str) -> str:
    """What a command says of itself."""
    from anatomy_r1.cli.main import run

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        run([*command.split(), "--help"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue())
    return "\n".join(line.rstrip() for line in plain.strip().splitlines())


def main(out: Path) -> None:
    """Write the page."""
    from anatomy_r1.cli.commands import COMMANDS

    parts = [f"## {command}\n```text\n{help_of(command)}\n```\n" for command in COMMANDS]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join([HEAD, *parts]), encoding="utf-8")


if __name__ == "__main__":
    os.environ |= {"COLUMNS": "90", "NO_COLOR": "1"}  # read when the first console is made
    main(Path(sys.argv[1]))
