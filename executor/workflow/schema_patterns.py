"""Regular expressions of JSON Schemas, in time that grows with the text alone.

Python's engine backtracks: `^(a+)+$` against thirty letters takes it minutes, and both may come from strangers. CEL's
`matches` is a finite automaton, so the validator here asks that. It knows neither look-around nor back-references:
whoever publishes a schema with one is told so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cel
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

MOST_CHARACTERS = 1_000
"""Of a pattern."""

_MATCHES = cel.compile("text.matches(pattern)")


def found(pattern: str, text: str) -> bool:
    """Whether the pattern is found anywhere in the text.

    Raises:
        ValueError: it is no pattern, or one that takes more than linear time or 10 MB.
    """
    if len(pattern) > MOST_CHARACTERS:
        raise ValueError(f"expected at most {MOST_CHARACTERS} characters, got {len(pattern)}")
    try:
        return bool(_MATCHES.execute({"text": text, "pattern": pattern}))
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        why = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])
        raise ValueError(f"expected a pattern of RE2's syntax, got {pattern[:100]!r}: {why}"[:400]) from None


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    if not isinstance(instance, str):
        return
    try:
        fits = found(pattern, instance)
    except ValueError as error:
        yield ValidationError(str(error))
        return
    if not fits:
        yield ValidationError(f"{instance[:100]!r} does not match {pattern[:100]!r}")


LinearValidator = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
"""JSON Schema 2020-12 but for `pattern`, as above."""
