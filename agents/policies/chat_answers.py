"""What a chat endpoint sent, as a response: content of every shape, separated thoughts, errors in the place of answers.

Endpoints that call themselves OpenAI-compatible agree on little beyond ``choices[0].message.content``.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from anatomy_r1.agents.policies.protocol import Response

ANSWER_END = "</answer>"
_PASSING = (408, 409, 425, 429)
_MARKUP = re.compile(r"<(?:script|style)\b.{0,4000}?</(?:script|style)>|<[^<>]{0,1000}>", re.DOTALL | re.IGNORECASE)
_STRUCTURE = re.compile(r"</?think>")


class NoAnswer(Exception):
    """An endpoint gave something else than an answer.

    Args:
        reason: in its own words.
        status: what kind of error it is, by the number that HTTP has for it; 0 where nobody says.
        passing: whether another try may fare better.
    """

    def __init__(self, reason: str, *, status: int = 0, passing: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.status, self.passing = reason, status, passing


def is_passing(status: int) -> bool:
    """Whether an error of that HTTP status may be over by the next try."""
    return status in _PASSING or status >= 500


def read_answer(text: str, *, stops: bool) -> Response:
    """The response in the body of a successful reply.

    A thought that the server took out of the text is put back before it, and a ``<think>`` that its chat template
    opened too. The response ends at its first ``</answer>``.

    Args:
        text: the body.
        stops: whether the server was told to stop at ``</answer>``, which it then leaves out.

    Raises:
        NoAnswer: an error, a refusal, a web page, no choice, or no JSON.
    """
    body = _parsed(text)
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
        raise _error(body.get("error")) or NoAnswer(f"the endpoint sent no choice, but {shown(text)}", passing=True)
    choice: Mapping[str, Any] = choices[0]
    if (error := _error(choice.get("error"))) is not None:
        raise error
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    said, reasons, refusals = _content(message.get("content"))
    if not said.strip() and (refused := message.get("refusal") or refusals):
        raise NoAnswer(f"the model refused: {shown(refused)}")
    finish = choice.get("finish_reason")
    if finish == "content_filter":
        raise NoAnswer("the endpoint's content filter stopped it")
    thought = reasons or _thought(message)
    whole = _whole(thought, said, cut=finish == "length")
    stopped = stops and finish == "stop" and choice.get("stop_reason", ANSWER_END) == ANSWER_END
    return Response(_ended(whole, stopped), truncated=finish == "length", usage=_usage(body.get("usage")))


def words_of(body: Any) -> str:
    """What an error says, of whatever shape: its innermost message, on one line and without markup."""
    for _ in range(4):
        if not isinstance(body, Mapping):
            break
        found = next((body[key] for key in ("message", "detail", "error", "msg") if body.get(key)), None)
        if found is None:
            break
        body = found
    return shown(body)


def shown(value: Any, longest: int = 300) -> str:
    """A value on one line, cut at ``longest`` characters, with nothing that a terminal would act on."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    if text.lstrip().startswith("<"):
        text = _MARKUP.sub(" ", text[:20_000])
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:longest]


def _parsed(text: str) -> Mapping[str, Any]:
    if text.lstrip().startswith("<"):
        raise NoAnswer(f"the endpoint sent a web page, not JSON ({shown(text)!r}); is the base URL right?")
    try:
        body = json.loads(text)
    except ValueError:
        raise NoAnswer(f"the endpoint sent no JSON, but {shown(text)!r}", passing=True) from None
    if not isinstance(body, Mapping):
        raise NoAnswer(f"the endpoint sent no answer, but {shown(text)!r}", passing=True)
    return body


def _error(error: Any) -> NoAnswer | None:
    """An error that came with a status of success."""
    if not error:
        return None
    code = error.get("code") or error.get("status") if isinstance(error, Mapping) else None
    told = str(code).lower()
    status = int(told) if told.isascii() and told.isdecimal() else 429 if "rate" in told else 0
    named = f"error {shown(code)}" if code else "an error"
    return NoAnswer(f"the endpoint sent {named}: {words_of(error)}", status=status, passing=is_passing(status))


def _content(content: Any) -> tuple[str, str, str]:
    """Text, thought and refusal of a message's content: a text, nothing, or a list of parts."""
    if not isinstance(content, list):
        return ("" if content is None else str(content)), "", ""
    found: dict[str, list[str]] = {"text": [], "thought": [], "refusal": []}
    for part in content:
        kind = str(part.get("type", "text")) if isinstance(part, Mapping) else "text"
        name = "thought" if "think" in kind or "reason" in kind else "refusal" if kind == "refusal" else "text"
        found[name].append(_text(part))
    text, thought, refusal = ("".join(pieces) for pieces in found.values())
    return text, thought, refusal


def _text(part: Any) -> str:
    """All text of a part, however it is nested."""
    if isinstance(part, str):
        return part
    if isinstance(part, list):
        return "".join(map(_text, part))
    if isinstance(part, Mapping):
        names = ("text", "thinking", "reasoning", "refusal", "content", "summary")
        return next((_text(part[name]) for name in names if part.get(name)), "")
    return ""


def _thought(message: Mapping[str, Any]) -> str:
    names = ("reasoning_content", "reasoning", "reasoning_details", "thinking")
    return next((text for name in names if (text := _text(message.get(name)))), "")


def _whole(thought: str, said: str, *, cut: bool) -> str:
    if "<think>" in said:
        return said
    if thought.strip():
        end = "" if cut and not said.strip() else "</think>"
        return f"<think>{_STRUCTURE.sub('', thought)}{end}{said}"
    return f"<think>{said}" if "</think>" in said else said


def _ended(text: str, stopped: bool) -> str:
    """The text up to the ``</answer>`` that ends it, which servers leave out where it stopped them."""
    after = text.rfind("</think>") + 1
    end = text.find(ANSWER_END, after)
    if end >= 0:
        return text[: end + len(ANSWER_END)]
    return text + ANSWER_END if stopped and "<answer>" in text[after:] else text


def _usage(usage: Any) -> dict[str, float]:
    if not isinstance(usage, Mapping):
        return {}
    return {name: float(usage.get(name) or 0) for name in ("prompt_tokens", "completion_tokens")}
