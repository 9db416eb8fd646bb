"""Whether telemetry is on, and where to: by the standard OpenTelemetry variables, not by Headrace's settings.

On is `events.otel_spans`, which is imported only then: a process without telemetry does without the SDK.
"""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from events.errors import ConfigError
from events.telemetry import NoTelemetry, Telemetry

HTTP = "http/protobuf"
"""The one protocol that is spoken. Collectors listen for it on port 4318."""

_log = structlog.get_logger(__name__)


def make_telemetry(service: str, environ: Mapping[str, str]) -> Telemetry:
    """The telemetry of one process. Make it after any fork, and `close` it at the end.

    Args:
        service: the `service.name`, for example `headrace-ingest`; `OTEL_SERVICE_NAME` wins.
        environ: this process's environment. It decides whether telemetry is on and where spans go; the SDK
            reads the other standard variables (sampler, headers, certificates, batches) from it by itself.

    Raises:
        ConfigError: the SDK refuses the value of one of its variables.
    """
    endpoint = endpoint_of(environ)
    if endpoint is None:
        return NoTelemetry()
    protocol = environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol and protocol != HTTP:
        _log.warning("telemetry.protocol", expected=HTTP, got=protocol, effect=f"spans go out as {HTTP}")
    from events.otel_spans import OtelTelemetry  # noqa: PLC0415 - see the module's header

    try:
        return OtelTelemetry(environ.get("OTEL_SERVICE_NAME") or service, endpoint)
    except ValueError as error:
        raise ConfigError("telemetry", [f"OTEL_…: {error}"]) from error


def endpoint_of(environ: Mapping[str, str]) -> str | None:
    """The URL that spans are posted to; None when telemetry is off.

    Off is: no endpoint is named, `OTEL_SDK_DISABLED=true`, or an `OTEL_TRACES_EXPORTER` without `otlp` in it.
    """
    exporters = environ.get("OTEL_TRACES_EXPORTER", "").replace(" ", "") or "otlp"
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or "otlp" not in exporters.split(","):
        return None
    if traces := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "").strip():
        return traces
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip()
    return f"{base.removesuffix('/')}/v1/traces" if base else None
