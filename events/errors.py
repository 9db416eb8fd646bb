"""Every error that Headrace raises on purpose, as one tree.

A message says what was expected, what came, and what to do. Foreign errors (drivers, parsers) are translated into
these where they enter; nothing above `events` catches a driver's exception.

    HeadraceError
    ├── ConfigError          settings or a definition file are wrong; nothing was started or changed
    ├── Unavailable          PostgreSQL or Redis cannot be reached now; the same call may succeed later
    │   └── Overloaded       a bounded queue is full: shed load now
    ├── OutcomeUnknown       the connection broke during COMMIT; the write may or may not be in the log
    ├── BadRow               the database refused this row's data; its neighbours in the batch were written
    ├── LeaseLost            a newer token exists: stop touching this stream
    └── NotFound             no such delivery, run, source or workflow
"""

from __future__ import annotations


class HeadraceError(Exception):
    """The root. The command line shows its text as one line."""


class ConfigError(HeadraceError):
    """One or more faults in settings or in a definition file, all of them at once.

    `faults` holds lines of the form "path: expected …, got …".
    """

    def __init__(self, subject: str, faults: list[str]) -> None:
        self.subject = subject
        self.faults = faults
        super().__init__(
            "\n".join([f"{subject}: {len(faults)} fault{'s' * (len(faults) != 1)}", *("  " + f for f in faults)])
        )


class Unavailable(HeadraceError):
    """A store cannot be reached now. Nothing was written; the same call may succeed later."""


class Overloaded(Unavailable):
    """A bounded queue is full. Shed load at once instead of growing."""


class OutcomeUnknown(Unavailable):
    """The connection broke while a commit was under way: the write may or may not have happened.

    To a sender this is a 5xx; its retry meets the dedup key and is answered with the first id.
    """


class BadRow(HeadraceError):
    """The database refused this row's data. Its neighbours in the same batch were written."""


class LeaseLost(HeadraceError):
    """A newer token exists for this work item: whatever we still do with it changes nothing. Stop."""


class NotFound(HeadraceError):
    """No such delivery, run, source or workflow."""
