"""The API's reference as a page, made from the OpenAPI document: no script, and nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1rem;color:#1b1f24;background:#fff}
summary{cursor:pointer;padding:.6rem;overflow-wrap:anywhere}summary b{display:inline-block;min-width:3.5rem}
details{border:1px solid #d0d7de;border-radius:6px;margin:.5rem 0}details>div{padding:0 1rem .6rem}
pre,code{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto;background:#f6f8fa;padding:.8rem;border-radius:6px}
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}details{border-color:#30363d}pre{background:#161b22}}
"""
_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@get("/", opt={"public": True, "exclude_from_auth": True}, include_in_schema=False, sync_to_thread=False)
def reference(request: Request[Any, Any, Any]) -> Response[str]:
    """All routes, each with what it takes and gives."""
    schema: dict[str, Any] = msgspec.to_builtins(request.app.openapi_schema.to_schema())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Headrace API</title><style>{_STYLE}</style><h1>Headrace API</h1>",
        f"<p>{escape(schema['info'].get('description', ''))}</p>",
        "<p>For machines: <a href=/openapi.json>openapi.json</a></p>",
    ]
    tags: dict[str, list[str]] = {}
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            tags.setdefault((operation.get("tags") or ["Other"])[0], []).append(_operation(method, path, operation))
    for tag, operations in tags.items():
        parts += [f"<h2>{escape(tag)}</h2>", *operations]
    headers = {"Content-Security-Policy": _CSP, "X-Content-Type-Options": "nosniff"}
    return Response("".join(parts), media_type=MediaType.HTML, headers=headers)


@get("/openapi.json", opt={"public": True, "exclude_from_auth": True}, include_in_schema=False, sync_to_thread=False)
def document(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """The same for machines: OpenAPI 3.1."""
    return request.app.openapi_schema.to_schema()


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    lines = [f"<p>{escape(operation.get('description', ''))}</p>"]
    for parameter in operation.get("parameters", ()):
        need = "required" if parameter.get("required") else "optional"
        told = escape(f"{parameter['name']} ({parameter['in']}, {need}) {parameter.get('description') or ''}")
        lines.append(f"<p><code>{told}</code></p>")
    if body := operation.get("requestBody"):
        lines.append(f"<h4>Body</h4><pre>{_json(body.get('content', {}))}</pre>")
    for status, response in operation.get("responses", {}).items():
        lines.append(f"<h4>{status}</h4><p>{escape(response.get('description') or '')}</p>")
    head = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{head}</summary><div>{''.join(lines)}</div></details>"


def _json(value: Any) -> str:
    return escape(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
