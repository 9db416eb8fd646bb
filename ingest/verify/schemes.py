"""The signature schemes that a stored definition may hold, and the names that everyone needs with them.

Promises: a description is plain data (it is stored as JSON, told apart by its `scheme`); compiling happens once
for each source, and what it returns does no I/O, reads no clock and never raises. Each scheme has a module of its
own beside this one; those that only a preset uses are not in the union.
"""

from __future__ import annotations

from ingest.verify.apikey import ApiKey
from ingest.verify.base import (
    NO_SECRET,
    TOLERANCE,
    Description,
    Incoming,
    Refused,
    Site,
    Verification,
    Verified,
    Verifier,
    headers_of,
    refuse_all,
)
from ingest.verify.basic import Basic
from ingest.verify.mac import Hmac, Pairs, Timestamp
from ingest.verify.standard import Standard
from ingest.verify.token import Bearer
from ingest.verify.unsigned import Unsigned

__all__ = [
    "NO_SECRET",
    "TOLERANCE",
    "ApiKey",
    "Basic",
    "Bearer",
    "Description",
    "Hmac",
    "Incoming",
    "Pairs",
    "Refused",
    "Scheme",
    "Site",
    "Standard",
    "Timestamp",
    "Unsigned",
    "Verification",
    "Verified",
    "Verifier",
    "headers_of",
    "refuse_all",
]

Scheme = Hmac | Standard | Bearer | Basic | ApiKey | Unsigned
