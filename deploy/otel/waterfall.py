#!/usr/bin/env python3
"""A picture of one trace: listens for OTLP over HTTP, and draws the first whole trace that it is told.

    .tools/venv/bin/python deploy/otel/waterfall.py docs/trace.svg &
    OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 make demo </dev/null

A trace is whole when the person has the answer and everybody has told: it has a root, a span `whatsapp send`,
and no span whose parent is missing.
"""

import argparse
import gzip
import sys
import threading
import time
from dataclasses import dataclass
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LAST = "whatsapp send"
QUIET_S = 6.0
"""Longer than the five seconds for which spans are gathered before they are told."""

WIDTH, LEFT, RIGHT, ROW, TOP = 1000, 400, 70, 28, 64
COLORS = ["#2a6f97", "#bc6c25", "#588157", "#7b2cbf"]


@dataclass(frozen=True)
class Span:
    id: str
    parent: str
    name: str
    service: str
    begin: int
    end: int
    events: tuple[tuple[str, int], ...]


class Traces:
    """What was told so far, by trace."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: dict[str, dict[str, Span]] = {}
        self._last_news = time.monotonic()

    def add(self, request: ExportTraceServiceRequest) -> None:
        with self._lock:
            self._last_news = time.monotonic()
            for resource in request.resource_spans:
                who = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for span in (span for scope in resource.scope_spans for span in scope.spans):
                    trace = self._traces.setdefault(span.trace_id.hex(), {})
                    trace[span.span_id.hex()] = Span(
                        id=span.span_id.hex(),
                        parent=span.parent_span_id.hex(),
                        name=span.name,
                        service=who.get("service.name", "?"),
                        begin=span.start_time_unix_nano,
                        end=span.end_time_unix_nano,
                        events=tuple((event.name, event.time_unix_nano) for event in span.events),
                    )

    def whole(self) -> tuple[str, list[Span]] | None:
        with self._lock:
            if time.monotonic() - self._last_news < QUIET_S:
                return None
            for trace_id, spans in self._traces.items():
                parents = {span.parent for span in spans.values()} - {""}
                is_rooted = any(span.parent == "" for span in spans.values())
                is_sent = any(span.name == LAST for span in spans.values())
                if is_rooted and is_sent and parents <= set(spans):
                    return trace_id, list(spans.values())
            return None


def in_order(spans: list[Span]) -> list[tuple[int, Span]]:
    """Depth first, each with its depth; siblings by their beginning."""
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.begin):
        children.setdefault(span.parent, []).append(span)

    def below(parent: str, depth: int) -> list[tuple[int, Span]]:
        rows = []
        for span in children.get(parent, []):
            rows += [(depth, span), *below(span.id, depth + 1)]
        return rows

    return below("", 0)


def draw(trace_id: str, spans: list[Span]) -> str:
    rows = in_order(spans)
    begin, end = min(span.begin for span in spans), max(span.end for span in spans)
    services = list(dict.fromkeys(span.service for _, span in rows))
    color = {name: COLORS[n % len(COLORS)] for n, name in enumerate(services)}
    height = TOP + ROW * len(rows) + 34

    def x(at: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at - begin) / max(end - begin, 1)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-weight="bold">trace {trace_id}</text>',
    ]
    for n, name in enumerate(services):
        out.append(f'<rect x="{12 + n * 190}" y="36" width="11" height="11" fill="{color[name]}"/>')
        out.append(f'<text x="{28 + n * 190}" y="46" fill="#444">{escape(name)}</text>')
    for tick in range(5):
        at = begin + (end - begin) * tick // 4
        out.append(
            f'<line x1="{x(at):.1f}" y1="{TOP - 6}" x2="{x(at):.1f}" y2="{height - 26}" '
            'stroke="#dddddd"/>'
            f'<text x="{x(at):.1f}" y="{height - 10}" text-anchor="middle" fill="#444">'
            f"{(at - begin) / 1e6:.1f} ms</text>"
        )
    for n, (depth, span) in enumerate(rows):
        y = TOP + ROW * n
        took = (span.end - span.begin) / 1e6
        out.append(f'<text x="{12 + depth * 13}" y="{y + 16}">{escape(span.name)}</text>')
        out.append(
            f'<rect x="{x(span.begin):.1f}" y="{y + 4}" rx="2" height="16" fill="{color[span.service]}" '
            f'width="{max(x(span.end) - x(span.begin), 2):.1f}"/>'
            f'<text x="{x(span.end) + 5:.1f}" y="{y + 16}" fill="#444" font-size="11">{took:.1f} ms</text>'
        )
        for name, at in span.events:
            out.append(
                f'<circle cx="{x(at):.1f}" cy="{y + 12}" r="3.5" fill="#ffffff" stroke="#111111">'
                f"<title>{escape(name)}</title></circle>"
            )
    return "\n".join([*out, "</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("picture", type=Path, help="the SVG to write")
    parser.add_argument("--port", type=int, default=4318, help="on 127.0.0.1; 0 takes a free one")
    parser.add_argument("--patience", type=float, default=600, help="seconds until it gives up")
    args = parser.parse_args()
    traces = Traces()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                traces.add(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing to say of a request."""

    server = ThreadingHTTPServer(("127.0.0.1", args.port), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    deadline = time.monotonic() + args.patience
    while time.monotonic() < deadline:
        if whole := traces.whole():
            args.picture.write_text(draw(*whole))
            print(f"trace {whole[0]}: {args.picture}")
            return 0
        time.sleep(0.2)
    print("no whole trace came in time", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
