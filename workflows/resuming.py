"""Going on with a run as the run it was: what may change meanwhile is listed here, all else is refused by name.

``config.toml`` holds the settings in force; those that others came before say so in its header. ``resumed.jsonl`` has a
row for each time the run went on: the step, and what was changed to what.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from anatomy_r1.agents import EMBEDDED
from anatomy_r1.core import AnatomyError, read_jsonl, write_bytes
from anatomy_r1.workflows.config import read_config, to_toml
from anatomy_r1.workflows.settings import CONFIG, RunConfig

Config = TypeVar("Config", bound=RunConfig)
Changes = dict[str, tuple[Any, Any]]
"""Setting → what it was, what it is now."""
HEADER = "# The settings of this run, as they were resolved: --config takes this file.\n"
RESUMED = "resumed.jsonl"
UPWARD = ("grpo.steps", "sft.steps")
"""What may grow: progress, and so curriculum and learning rate, are then reckoned by the new number."""
BY_SIZE = ("learning_rate", "max_completion_length")
"""What goes by the model's size where nothing is said."""
FREE = (
    *("out", "tracker", "wait_minutes", "allow_bad", "model.trust_remote_code", "model.gradient_checkpointing"),
    *(f"{kind}.{name}" for kind in ("grpo", "sft") for name in ("save_every", "max_skipped", "max_tokens")),
    *("grpo.decode", "grpo.prompts_at_once", "grpo.rows_at_once", "model.attention", "model.tower_attention"),
    *("grpo.packing", "vllm.server", "vllm.memory_share", "vllm.max_model_len", "vllm.enforce_eager", "vllm.sleep"),
    *(
        "vllm.weights_folder",
        "vllm.weights_by",
        "vllm.trainer_address",
        "vllm.timeout",
        "vllm.retries",
        "vllm.concurrency",
    ),
)
"""What may change at will: where things are, who is told, what it takes of time and memory; not what is learnt."""


def check_resumed(config: Config) -> tuple[Config, Changes]:
    """What has changed since the run in ``config.out`` was begun, or went on last; nothing where there is none yet.

    Returns:
        the config, in which what goes by the model's size is as it was; and the changes.

    Raises:
        AnatomyError: something has that may not.
    """
    path = config.out / CONFIG
    if not path.exists():
        if (config.out / "checkpoints").is_dir():
            raise AnatomyError(
                f"{path}: file not found, so whether these are the settings of the run in {config.out} can't be told.\n"
                "Put it back, or start anew in another folder."
            )
        return config, {}
    earlier = read_config(type(config), path)
    before = settings_of(earlier)
    config = _as_before(config, earlier)
    now = settings_of(config)
    changes = {name: (before[name], now[name]) for name in now if before[name] != now[name] and name != "out"}
    if refused := [name for name, values in changes.items() if not _may_change(name, *values)]:
        told = "; ".join(f"{name} was {_shown(changes[name][0])}, now {_shown(changes[name][1])}" for name in refused)
        flags = ", ".join(dict.fromkeys(f"--{name.replace('_', '-')}" for name in refused))
        shrunk = " Steps may only become more." if set(refused) <= set(UPWARD) else ""
        raise AnatomyError(
            f"{config.out} holds a run with other settings, so it can't be resumed: {told} ({flags}).{shrunk}\n"
            f"Go on with its own: --config {path} --out {config.out} --resume; or start anew in another folder."
        )
    return config, changes


def chosen_by_size(given: RunConfig, sized: RunConfig) -> str:
    """What was filled in by the model's size, in words; nothing for the embedded model, whose defaults are known."""
    before, now = settings_of(given), settings_of(sized)
    chosen = [f"{name} {now[name]:g}" for name in now if before[name] is None and now[name] is not None]
    return ", ".join(chosen) if given.policy not in EMBEDDED else ""


def _as_before(config: Config, earlier: Config) -> Config:
    """The config, with what it leaves to the model's size or to the machine as it was."""
    for name, value in settings_of(config).items():
        *path, last = name.split(".")
        if (name, value) == ("sampler", "auto"):
            config = dataclasses.replace(config, **{name: settings_of(earlier)[name]})
        if value is None and last in BY_SIZE:
            inner = {last: settings_of(earlier)[name]}
            inner = {path[0]: dataclasses.replace(getattr(config, path[0]), **inner)} if path else inner
            config = dataclasses.replace(config, **inner)
    return config


def write_settings(config: RunConfig, step: int, changes: Changes | None) -> None:
    """Write ``config.toml``, and what was changed at ``step`` into ``resumed.jsonl``; None: the run begins."""
    path, history = config.out / CONFIG, config.out / RESUMED
    if changes is not None and path.exists():
        row = {"step": step, "changed": {name: [_plain(value) for value in pair] for name, pair in changes.items()}}
        rows = [*(read_jsonl(history) if history.exists() else ()), row]
        write_bytes(history, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode())
        if not changes:
            return
    write_bytes(path, (HEADER + _past(history) + to_toml(config)).encode())


def settings_of(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted name; options of what is plugged in are one setting."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        nested = dataclasses.is_dataclass(value)
        found |= settings_of(value, f"{prefix}{field.name}.") if nested else {prefix + field.name: value}
    return found


def _may_change(name: str, before: Any, now: Any) -> bool:
    return name in FREE or (name in UPWARD and now > before)


def _past(history: Path) -> str:
    """The header's lines of what was changed, oldest first."""
    rows: list[Mapping[str, Any]] = list(read_jsonl(history)) if history.exists() else []
    return "".join(
        f"# Until step {row['step']}: {name} = {json.dumps(before)}\n"
        for row in rows
        for name, (before, _) in row["changed"].items()
    )


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _shown(value: Any) -> str:
    return repr(_plain(value))
