"""The vendors' own packages, which sign and verify beside us. None of them is typed, so they come in as `Any`."""

from __future__ import annotations

from importlib import import_module
from typing import Any

twilio: Any = import_module("twilio.request_validator")
sendgrid: Any = import_module("sendgrid.helpers.eventwebhook")
adyen: Any = import_module("Adyen.util")
hubspot: Any = import_module("hubspot.utils.signature")
