"""Pages of the site that are made: Python and command-line references, the notebook, and what lies at the root."""

import base64
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
FACES = (
    *("core", "banks", "curricula", "envs", "agents", "agents.policies", "agents.grpo"),
    *("evaluation", "integrations", "workflows"),
)
NOTEBOOK = "notebooks/from-question-to-policy"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    pages: dict[str, str | bytes] = {
        **{f"reference/{face.split('.')[-1]}.md": _face(face) for face in FACES},
        **_notebook((ROOT / "docs" / f"{NOTEBOOK}.ipynb").read_text(encoding="utf-8")),
        "reference/cli.md": _made(ROOT / "build/docs/cli.md"),
        "CONTRIBUTING.md": _from_root("CONTRIBUTING.md"),
        "CHANGELOG.md": _from_root("CHANGELOG.md"),
    }
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    return files


def _face(face: str) -> str:
    """A page of all that a room's or closet's face offers."""
    return f"# anatomy_r1.{face}\n\n::: anatomy_r1.{face}\n"


def _made(path: Path) -> str:
    if not path.exists():
        raise PluginError(f"{path} is missing; `make docs` makes it before it builds the site.")
    return path.read_text(encoding="utf-8")


def _from_root(name: str) -> str:
    """A page that lies beside docs/, its links turned to where they lead from within."""
    return (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")


def _notebook(text: str) -> dict[str, str | bytes]:
    """A notebook as a page: its Markdown, its code, and the text and pictures that the code gave."""
    page, files = [], {}
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        page.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            if "image/png" in data:
                name = f"{NOTEBOOK}-{len(files) + 1}.png"
                files[name] = base64.b64decode("".join(data["image/png"]))
                page.append(f"![What the cell above shows]({Path(name).name})")
            elif printed := "".join(output.get("text", data.get("text/plain", ()))):
                page.append(f"```text\n{printed.rstrip()}\n```")
    return {f"{NOTEBOOK}.md": "\n\n".join(page) + "\n", **files}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leave out the marks that only the tests read; lead links to the notebook to its page."""
    return re.sub(r"<!-- not run: .*? -->\n", "", markdown).replace(".ipynb)", ".md)")
