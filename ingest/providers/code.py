"""Presets of those that hold source code and work on it: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import Header, Pointer
from ingest.providers.base import Preset
from ingest.verify.mac import Hmac

CODE: dict[str, Preset] = {
    # docs.github.com, "Validating webhook deliveries". The delivery id is not signed: the body alone is.
    # A redelivery by hand keeps the id. A form-encoded webhook has no action in its type.
    "github": Preset(
        title="GitHub",
        scheme=Hmac(header="X-Hub-Signature-256", prefix="sha256="),
        id=(Header("X-GitHub-Delivery"),),
        type=(Header("X-GitHub-Event"), Pointer("/action")),
    ),
}
