"""The sdk of Python plugins: what a plugin sees, what it may answer, and the call of its function `transform`.

An error in the plugin's code ends the call with its message, its place and the plugin's own functions. print() and logging go to
the log of the attempt.
"""

import io
import itertools
import json
import logging
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import CoroutineType
from typing import Any

from componentize_py_types import Err
from wit_world.imports import config as _config
from wit_world.imports import history as _history
from wit_world.imports import log as _log
from wit_world.imports import report as _report
from wit_world.imports import secrets as _secrets
from wit_world.imports import types as _types

__all__ = [
    "Event", "Failure", "Settled", "Verdict", "bad_config", "config", "drop", "history", "invalid_event", "later", "pass_",
    "replace", "secrets", "transient",
]  # fmt: skip


@dataclass(frozen=True)
class Settled:
    """The events of a burst for which one stands."""

    events: int
    """Number of events, with this one."""
    since: int
    """When the host accepted the first of them, in milliseconds since 1970."""


@dataclass(frozen=True)
class Event:
    """One event, as one subscription sees it."""

    id: str
    """The event's id: a uuid (version 7)."""
    name: str
    """The event name as it was sent, such as `Contact is Created` or `Opportunity is Updated`."""
    module: str | None
    """`Contact` or `Deal`. None: the host does not know."""
    entity_id: str | None
    """`eventData.id` as text, whether it was sent as a number or as a string."""
    received_at: int
    """When the host accepted the event, in milliseconds since 1970. The clock shows the same."""
    payload: dict[str, Any]
    """The payload, parsed. Numbers that a float cannot hold are sent as they came, unless you calculate with them."""
    text: str
    """The payload, byte for byte."""
    settled: Settled | None = None
    """The events that it stands for. None: the subscription does not settle bursts."""


class Verdict:
    """What pass_, replace, drop and later return. `transform` must return one."""

    def __init__(self, answer: Any):
        self._answer = answer


class Failure(Exception):
    """What invalid_event, transient and bad_config return: raise or return it."""

    def __init__(self, answer: Any, message: str):
        super().__init__(message)
        self._answer = answer


def pass_() -> Verdict:
    """Sends the payload as it came."""
    return Verdict(_types.Verdict_Pass())


def replace(
    body: Any,
    *,
    headers: Mapping[str, str | int | float] | None = None,
    url: str | None = None,
    content_type: str | None = None,
) -> Verdict:
    """Sends this instead: a text and bytes as they are, everything else as JSON. Bytes need `content_type`."""
    others = []
    for name, value in (headers or {}).items():
        if not isinstance(value, (str, int, float)):
            raise TypeError(f"the header {name} is {_kind(value)}, not a text")
        if name.lower() != "content-type":
            others.append(_types.Header(name, str(value)))
        elif content_type is None:
            content_type = str(value)
        else:
            raise TypeError("replace has two content types: content_type and a header")
    if isinstance(body, (bytes, bytearray, memoryview)):
        if content_type is None:
            raise TypeError("replace with bytes needs content_type")
        sent = _types.Body_Binary(bytes(body))
    else:
        sent = _types.Body_Text(body if isinstance(body, str) else _to_json(body))
    return Verdict(_types.Verdict_Replace([_types.Outgoing(sent, content_type, others, url, [])]))


def drop(code: str, message: str | None = None) -> Verdict:
    """Sends nothing. A single text with blanks is a message."""
    return Verdict(_types.Verdict_Drop(_reason(code, message, "drop")))


def later(ms: float, why: str | None = None) -> Verdict:
    """Shows the event again after so many milliseconds."""
    if not isinstance(ms, (int, float)) or isinstance(ms, bool) or not 0 <= ms < 2**63:
        raise TypeError('later takes how many milliseconds to wait: later(60_000, "why")')
    reason = _types.Reason("later", "") if why is None else _reason(why, None, "later(ms, why)")
    return Verdict(_types.Verdict_Later(_types.Postponement(-int(-ms // 1), reason)))


def invalid_event(code: str, message: str | None = None) -> Failure:
    """This event can never work: the delivery ends."""
    return Failure(_types.Failure_InvalidEvent(_reason(code, message, "invalid_event")), message or code)


def transient(code: str, message: str | None = None) -> Failure:
    """It may work another time: the delivery is retried."""
    return Failure(_types.Failure_Transient(_reason(code, message, "transient")), message or code)


def bad_config(code: str, message: str | None = None) -> Failure:
    """The subscription's config is wrong: after 3 events in a row it is paused."""
    return Failure(_types.Failure_BadConfig(_reason(code, message, "bad_config")), message or code)


class _Config(Mapping[str, str]):
    def __getitem__(self, key: str) -> str:
        value = _config.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in _config.entries())

    def __len__(self) -> int:
        return len(_config.entries())


config: Mapping[str, str] = _Config()
"""The subscription's config."""


class secrets:
    """The subscription's secrets, which a plugin can use and not read."""

    @staticmethod
    def hmac_sha256(name: str, data: str | bytes) -> bytes:
        """HMAC-SHA256 with the named secret as the key."""
        try:
            return bytes(_secrets.hmac_sha256(name, data.encode() if isinstance(data, str) else bytes(data)))
        except Err as error:
            if isinstance(error.value, _secrets.SecretError_NotGranted):
                raise PermissionError("the subscription does not let its plugins use secrets") from None
            raise LookupError(f'the subscription has no secret "{name}"') from None


class history:
    """What the host accepted before."""

    @staticmethod
    def previous() -> Event | None:
        """The event before of the same contact or deal."""
        event = _history.previous()
        return None if event is None else _event(event)


# Answers and numbers.


def _reason(code: Any, message: Any, name: str) -> _types.Reason:
    if not isinstance(code, str) or not (message is None or isinstance(message, str)):
        raise TypeError(f'{name} takes texts: {name}("code") or {name}("code", "message")')
    if message is not None:
        return _types.Reason(code, message)
    is_code = re.fullmatch(r"[!-~]{1,64}", code) is not None
    return _types.Reason(code, "") if is_code else _types.Reason("plugin", code)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


class _ExactFloat(float):
    """A number of the event that a float changes, with its digits."""

    digits: str


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > 15 and Decimal(digits) != Decimal(repr(value)):
        exact = _ExactFloat(value)
        exact.digits = digits
        return exact
    return value


def _event(event: _types.Event) -> Event:
    payload = json.loads(event.payload, parse_float=_float)
    settled = _settled(event.attributes)
    return Event(
        event.id, event.name, event.module, event.entity_id, event.received_at, payload, event.payload, settled
    )


def _settled(attributes: list[_types.Attribute]) -> Settled | None:
    values = {one.name: one.value for one in attributes}
    if "settled-events" not in values or "settled-since" not in values:
        return None
    return Settled(int(values["settled-events"]), int(values["settled-since"]))


# A text that stands for the digits of a number in JSON, until they replace it.
_MARK = "\0number:"
_MARKED = re.compile(r'"\\u0000number:([^"]*)"')


def _to_json(body: Any) -> str:
    found = False

    def marked(value: Any) -> Any:
        nonlocal found
        if isinstance(value, _ExactFloat):
            found = True
            return _MARK + value.digits
        if isinstance(value, dict):
            return {key: marked(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [marked(one) for one in value]
        return value

    def refused(value: Any) -> Any:
        raise TypeError(f"the body of replace has {_kind(value)}, which has no JSON")

    text = json.dumps(marked(body), separators=(",", ":"), allow_nan=False, default=refused)
    return _MARKED.sub(r"\1", text) if found else text


# The log.


class _Lines(io.TextIOBase):
    """A text stream whose lines go to the log."""

    def __init__(self, level: _log.Level):
        self._level = level
        self._rest = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            _log.write(self._level, line)
        return len(text)

    def end(self) -> None:
        if self._rest:
            self.write("\n")


class _Handler(logging.Handler):
    """Log records, by level."""

    def emit(self, record: logging.LogRecord) -> None:
        number = record.levelno
        level = (
            _log.Level.ERROR if number >= logging.ERROR
            else _log.Level.WARN if number >= logging.WARNING
            else _log.Level.INFO if number >= logging.INFO
            else _log.Level.DEBUG
        )  # fmt: skip
        _log.write(level, self.format(record))


def _end_lines() -> None:
    _OUT.end()
    _ERR.end()


_OUT = _Lines(_log.Level.INFO)
_ERR = _Lines(_log.Level.WARN)
logging.basicConfig(level=logging.DEBUG, handlers=[_Handler()], format="%(message)s")


# The call.

_FRAMES_MAX = 16


def judge(transform: Callable[[Event], Any], folder: str, event: _types.Event) -> Any:
    """Calls the plugin's function, whose file is in `folder`. Returns the contract's answer, raises its failure, or ends the call."""
    sys.stdout, sys.stderr = _OUT, _ERR
    random.seed(event.id + event.subscription)
    try:
        answer = transform(_event(event))
        if isinstance(answer, CoroutineType):
            answer = _finished(answer)
    except Failure as failure:
        answer = failure
    except BaseException as error:
        return _fail(_described(error), _frames(error, folder))
    _end_lines()
    if isinstance(answer, Verdict):
        return answer._answer
    if isinstance(answer, Failure):
        raise Err(answer._answer)
    got = "nothing: is a return missing?" if answer is None else f"{_kind(answer)}, which is none of these"
    return _fail(f"transform must return pass_(), replace(…), drop(…) or later(…). It returned {got}", [])


_WAITS = "transform awaits what nothing settles: there are no timers and no network"


def _finished(coroutine: CoroutineType) -> Any:
    """Runs a coroutine. It may give way (asyncio.sleep(0)), and has nothing to wait for."""
    while True:
        try:
            awaited = coroutine.send(None)
        except StopIteration as end:
            return end.value
        except RuntimeError as error:
            if error.args == ("no running event loop",):
                error.args = (_WAITS,)
            raise
        if awaited is not None:
            coroutine.close()
            raise RuntimeError(_WAITS)


def _described(error: BaseException) -> str:
    text = _named(error)
    return text if error.__cause__ is None else f"{text} (from {_named(error.__cause__)})"


def _named(error: BaseException) -> str:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = str(error)
    return f"{name}: {text}" if text else name


def _frames(error: BaseException, folder: str) -> list[_report.Frame]:
    """The functions of the plugin's own files, innermost first."""
    frames: list[_report.Frame] = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if code.co_filename.startswith(folder):
            # An instruction has two bytes, and positions are by instruction.
            column = next(itertools.islice(code.co_positions(), step.tb_lasti // 2, None), (None,) * 4)[2]
            file = "src" + code.co_filename.removeprefix(folder)
            position = _report.Position(file, step.tb_lineno or 1, None if column is None else column + 1)
            frames.append(_report.Frame(code.co_name, position))
        step = step.tb_next
    return frames[::-1][:_FRAMES_MAX]


def _fail(message: str, frames: list[_report.Frame]) -> Any:
    _end_lines()
    _report.fail(_report.Error(message, None, frames))
