"""The results as Markdown, ready for docs/scale.md: every figure with its card, date and command."""

from typing import Any

Row = dict[str, Any]
COMMAND = "`make benchmark-gpu`"


def markdown(rows: dict[str, Row]) -> str:
    """All tables for which there are results."""
    done = {name: row for name, row in rows.items() if row["status"] == "done"}
    makers = (speeds, phases, compiled, against_trl, too_large, kernels)
    parts = [heading(rows), ceilings(done), correctness(rows), *(make(done) for make in makers)]
    return "\n".join(part for part in parts if part)


def of_kind(rows: dict[str, Row], *kinds: str) -> list[Row]:
    """Those whose names begin so."""
    return [row for name, row in rows.items() if name.split("/")[0] in kinds]


def heading(rows: dict[str, Row]) -> str:
    """Where these figures come from."""
    seen = [row for row in rows.values() if "card" in row]
    cards, dates = sorted({row["card"] for row in seen}), sorted({row["date"] for row in seen})
    versions = sorted({f"torch {row['torch']}, transformers {row['transformers']}" for row in seen})
    note = (
        "\nA rehearsal on tiny models: no figure here is a measurement.\n" if any(r["rehearsal"] for r in seen) else ""
    )
    return f"{COMMAND}, {', '.join(dates)}, {', '.join(cards)}; {'; '.join(versions)}.\n{note}"


def ceilings(rows: dict[str, Row]) -> str:
    """What the card itself gives."""
    found = of_kind(rows, "card")
    if not found:
        return ""
    flops, copied = found[0]["matmul_flops"] / 1e12, found[0]["copy_bytes"] / 1e12
    return (
        f"A bf16 matrix product of 8192³ ran at {flops:,.0f} TFLOP/s, a copy at {copied:.2f} TB/s read and written.\n"
    )


def correctness(rows: dict[str, Row]) -> str:
    """What was held against what, and by how much it differed."""
    lines = [
        [name.partition("/")[2], row["status"], row.get("error") or _figures(row)]
        for name, row in rows.items()
        if name.startswith("correctness/")
    ]
    return table(["on the card", "", "found"], lines)


def speeds(rows: dict[str, Row]) -> str:
    """A line for each model and shape."""
    lines = []
    for row in of_kind(rows, "speed"):
        tree, padded, sampled = row["tree"], row["padded"], row["sampling"]
        lines.append(
            [
                *row["stage"].split("/")[1:],
                f"{sampled['seconds']:.2f} s",
                f"{sampled['tokens_per_second']:,.0f}",
                f"{tree['seconds']:.2f} s",
                f"{padded['seconds']:.2f} s",
                f"{row['gain']:.2f} (ρ {row['ceiling']:.2f})",
                f"{tree['mfu']:.0%} / {padded['mfu']:.0%}",
                f"{_gib(sampled['peak_gib'])} / {_gib(tree['peak_gib'])} / {_gib(padded['peak_gib'])}",
            ]
        )
    columns = ["model", "shape", "sampling", "tokens/s", "update, trees", "padded copies", "gain", "MFU, both"]
    ways = {row["attention"]: None for row in of_kind(rows, "speed")}
    blocks = [
        f"In blocks over SDPA, without FlexAttention, the update of {row['stage'].partition('/')[2]} took "
        f"{row['blocks']['seconds']:.2f} s.\n"
        for row in of_kind(rows, "speed")
        if "blocks" in row
    ]
    told = "".join(f"In these figures {way}.\n" for way in ways) + "".join(blocks)
    found = table([*columns, "peak GiB: sampling / trees / padded"], lines)
    return f"{found}\n{told}" if found else ""


def phases(rows: dict[str, Row]) -> str:
    """Seconds of each part of a step."""
    lines = []
    for row in of_kind(rows, "speed"):
        sampled = row["sampling"]
        cells = [sampled["vision"], sampled["prefill"], sampled["seconds"] - sampled["prefill"]]
        cells += [row["tree"][name] for name in ("forward", "backward", "optimiser", "rest")]
        lines.append(
            [
                *row["stage"].split("/")[1:],
                *(f"{cell:.3f}" for cell in cells),
                f"{sampled['ms_per_token']:.1f} ({sampled['eager_ms_per_token']:.1f})",
            ]
        )
    columns = ["model", "shape", "vision", "prompt, vision within", "tokens", "forward", "backward", "optimiser"]
    return table([*columns, "rest", "ms a token (eager)"], lines)


def compiled(rows: dict[str, Row]) -> str:
    """What compiling the decoder's layers would be worth."""
    lines = [
        [
            *row["stage"].split("/")[1:],
            f"{row['plain']['seconds']:.3f} s",
            f"{row['compiled']['seconds']:.3f} s",
            f"{row['first']:.0f} s",
            f"{_gib(row['plain']['peak_gib'])} / {_gib(row['compiled']['peak_gib'])}",
            f"{row['gap']:.2g}",
        ]
        for row in of_kind(rows, "compiled")
    ]
    columns = ["model", "shape", "update, trees", "layers compiled", "the first of them", "peak GiB, both"]
    return table([*columns, "log-probs differ by"], lines)


def against_trl(rows: dict[str, Row]) -> str:
    """TRL's steps beside ours of the same model and shape."""
    lines = []
    for row in of_kind(rows, "TRL", "TRL without checkpointing"):
        way, model, shape = row["stage"].split("/")
        ours = rows.get(f"speed/{model}/{shape}")
        ratio = [f"{row['step'] / ours['step']:.1f}", f"{row['update'] / ours['tree']['seconds']:.1f}"] if ours else []
        cells = [f"{row['step']:.2f} s", f"{row['sampling']:.2f} s", f"{row['update']:.2f} s", *(ratio or ["–", "–"])]
        lines.append([way, model, shape, *cells, _gib(row["peak_gib"])])
    return table(
        ["", "model", "shape", "step", "sampling", "update", "step × ours", "update × ours", "peak GiB"], lines
    )


def too_large(rows: dict[str, Row]) -> str:
    """What isn't measured since it doesn't fit, by arithmetic."""
    lines = []
    for row in of_kind(rows, "fits"):
        need = f"{row['need_gib']:.0f} GiB of weights, gradients and moments in float32"
        verdict = {True: "fits", False: "doesn't fit", None: "no card to fit on"}[row["fits"]]
        lines.append([row["stage"].partition("/")[2], need, _gib(row["card_gib"]), verdict])
    return table(["by arithmetic", "needs", "card, GiB", ""], lines)


def kernels(rows: dict[str, Row]) -> str:
    """Where the time goes, by kind of kernel and by the longest ones."""
    parts = []
    for row in of_kind(rows, "kernels"):
        for what in ("update", "sampling"):
            found = row[what]
            kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in found["kinds"].items() if share >= 0.01)
            parts.append(
                f"{row['stage'].partition('/')[2]}, {what}: {found['seconds']:.2f} s, in which {found['count']:,} "
                f"kernels ran {found['busy']:.2f} s: {kinds}.\n"
            )
            parts.append(table(["kernel", "share", "times"], [_kernel(each) for each in found["kernels"][:10]]))
    return "\n".join(parts)


def table(columns: list[str], lines: list[list[str]]) -> str:
    """A Markdown table; nothing where there are no lines."""
    if not lines:
        return ""
    shown = [columns, ["---"] * len(columns), *lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in shown) + "\n"


def _kernel(found: Row) -> list[str]:
    return [f"`{found['name'].replace('|', '/')}`", f"{found['share']:.1%}", f"{found['count']:,}"]


def _figures(row: Row) -> str:
    common = ("stage", "group", "status", "card", "torch", "transformers", "commit", "took", "rehearsal", "options")
    found = {key: value for key, value in row.items() if key not in (*common, "date", "pid")}
    return ", ".join(f"{key} {_short(value)}" for key, value in found.items())


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} {_short(part)}" for key, part in value.items()) + ")"
    if isinstance(value, list):
        return " / ".join(map(_short, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value).lower()


def _gib(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
