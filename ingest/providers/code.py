"""Presets of those that hold source code and work on it: each names the document that its facts are from."""

from __future__ import annotations

from ingest.identity import First, FormPointer, Header, Pointer
from ingest.providers.base import Preset, Response
from ingest.verify.anyof import AnyOf
from ingest.verify.mac import Hmac, Timestamp
from ingest.verify.standard import Standard
from ingest.verify.token import Bearer

CODE: dict[str, Preset] = {
    # docs.github.com, "Validating webhook deliveries". The delivery id is not signed: the body alone is.
    # A redelivery by hand keeps the id. A form has the JSON in `payload`.
    "github": Preset(
        title="GitHub",
        scheme=Hmac(header="X-Hub-Signature-256", prefix="sha256="),
        id=(Header("X-GitHub-Delivery"),),
        type=(Header("X-GitHub-Event"), First((Pointer("/action"), FormPointer("payload", "/action")))),
    ),
    # docs.gitlab.com, "Webhooks": the secret token as it is, or a signing token (its merge request 230944: Standard
    # Webhooks; `webhook-id` has the value of `Idempotency-Key`, which stays the same in retries, but is signed). System
    # hooks have `event_name` in place of `object_kind`.
    "gitlab": Preset(
        title="GitLab",
        scheme=AnyOf((Bearer(header="X-Gitlab-Token", prefix=""), Standard())),
        id=(Header("webhook-id", "Idempotency-Key"),),
        type=(
            First((Pointer("/object_kind"), Pointer("/event_name"), Header("X-Gitlab-Event"))),
            Pointer("/object_attributes/action"),
        ),
    ),
    # support.atlassian.com, "Manage webhooks" and "Event payloads" (Cloud: X-Request-UUID); confluence.atlassian.com,
    # "Manage webhooks" of Bitbucket Data Center (X-Request-Id). Both sign alike.
    "bitbucket": Preset(
        title="Bitbucket",
        scheme=Hmac(header="X-Hub-Signature", prefix="sha256="),
        id=(Header("X-Request-UUID", "X-Request-Id"),),
        type=(Header("X-Event-Key"),),
    ),
    # linear.app/developers/webhooks; `LinearWebhookClient.verify` of @linear/sdk (60 s). What is not 200 is sent again.
    "linear": Preset(
        title="Linear",
        scheme=Hmac(
            header="Linear-Signature",
            timestamp=Timestamp(unit="ms", tolerance=60.0, pointer="/webhookTimestamp"),
        ),
        id=(Header("Linear-Delivery"),),
        type=(Pointer("/type"), Pointer("/action")),
        response=Response(status=200),
    ),
    # docs.sentry.io, "Integration platform: webhooks". The secret is the integration's client secret.
    "sentry": Preset(
        title="Sentry",
        scheme=Hmac(header="Sentry-Hook-Signature"),
        id=(Header("Request-ID"),),
        type=(Header("Sentry-Hook-Resource"), Pointer("/action")),
        response=Response(status=200),
    ),
}
