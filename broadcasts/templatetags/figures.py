"""Numbers as figures: what a bar needs to be drawn, with the strings SVG wants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django import template
from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from broadcasts.reports import Span
from broadcasts.templatetags.moments import Expected, is_short

register = template.Library()

# What people tell apart: how the ten stored statuses are shown, in the order of a bar.
PARTS: tuple[tuple[str, Promise, tuple[str, ...]], ...] = (
    ("sent", _("Sent"), ("sent",)),
    ("failed", _("Failed"), ("failed",)),
    ("unknown", _("Unknown"), ("unknown",)),
    ("working", _("Being sent"), ("processing", "queued")),
    ("waiting", _("Waiting"), ("pending", "paused")),
    ("expired", _("Expired"), ("expired",)),
    ("cancelled", _("Cancelled"), ("cancelled",)),
    ("skipped", _("Left out"), ("skipped",)),
)
# A part that is there must be visible: this much of the bar at least, in percent.
SMALLEST = 0.7


@dataclass(frozen=True)
class Segment:
    """One part of a bar. `x` and `width` are percent of the bar as SVG attributes spell them."""

    name: str
    label: Promise
    count: int
    x: str
    width: str


@register.filter
def segments(counts: Mapping[str, int] | None) -> list[Segment]:
    """Returns the parts of a bar that are not empty, from messages counted by status."""
    numbers = counts or {}
    parts = [(name, label, sum(numbers.get(s, 0) for s in of)) for name, label, of in PARTS]
    parts = [part for part in parts if part[2]]
    total = sum(count for _name, _label, count in parts)
    raised = [max(count / total * 100, SMALLEST) for _name, _label, count in parts]
    drawn, x = [], 0.0
    for (name, label, count), share in zip(parts, raised, strict=True):
        width = share / sum(raised) * 100
        drawn.append(Segment(name, label, count, f"{x:.2f}", f"{width:.2f}"))
        x += width
    return drawn


@register.filter
def in_words(parts: Iterable[Segment]) -> str:
    """Returns what the bar says for those who do not see it: "868 Sent, 7 Failed"."""
    words = ", ".join(f"{intcomma(part.count)} {part.label}" for part in parts)
    return words or str(_("Nothing yet"))


@dataclass(frozen=True)
class Column:
    """One column of a plot: what was sent, and on top of it what failed. Heights in pixels."""

    span: Span
    x: str
    width: str
    sent_y: str
    sent_height: str
    failed_y: str
    failed_height: str


@dataclass(frozen=True)
class Plot:
    """Columns over time. `x` and `width` in percent, so that the text keeps its size; the lines
    are (y, number) pairs."""

    columns: list[Column]
    lines: list[tuple[str, str]]
    ticks: list[tuple[str, str, Span]]
    height: int
    floor: int
    total: int
    failed: int


GUTTER = 9.0  # percent, for the numbers at the left


@register.filter
def plot(spans: Sequence[Span], height: int = 170) -> Plot:
    """Returns what a template needs to draw these spans as columns, in `height` pixels."""
    floor, top = height - 22, 14
    most = _round_up(max((span.total for span in spans), default=0))
    slot = (100 - GUTTER) / max(len(spans), 1)
    scale = (floor - top) / most

    def column(n: int, span: Span) -> Column:
        sent = span.sent * scale
        # One failure among thousands must be seen.
        failed = max(span.failed * scale, 2.0) if span.failed else 0.0
        return Column(
            span,
            x=f"{GUTTER + n * slot + slot * 0.14:.3f}",
            width=f"{slot * 0.72:.3f}",
            sent_y=f"{floor - sent:.1f}",
            sent_height=f"{sent:.1f}",
            failed_y=f"{floor - sent - failed - 1:.1f}",
            failed_height=f"{failed:.1f}",
        )

    last = len(spans) - 1
    ticks = [
        (f"{GUTTER + (n + 0.5) * slot:.2f}", anchor, spans[n])
        for n, anchor in ((0, "start"), (last // 2, "middle"), (last, "end"))
        if spans
    ]
    return Plot(
        columns=[column(n, span) for n, span in enumerate(spans)],
        lines=[
            (f"{floor - most * part * scale + 0.5:.1f}", _short(most * part)) for part in (0.5, 1)
        ],
        ticks=ticks,
        height=height,
        floor=floor,
        total=sum(span.sent for span in spans),
        failed=sum(span.failed for span in spans),
    )


def _round_up(number: int) -> int:
    """Returns the next round number that halves well: 2, 4, 6, 10, 20, 40, 60, 100, ..."""
    size = 1
    while True:
        for step in (2, 4, 6, 10):
            if step * size >= number:
                return step * size
        size *= 10


def _short(number: float) -> str:
    return f"{number / 1000:g}k" if number >= 1000 else f"{number:g}"


@dataclass(frozen=True)
class Curve:
    """Where a forecast's curve bends, in a drawing 330 wide, and the times below it: beginning,
    half, end. The one in the middle is left out where it would repeat another."""

    half_x: str
    end_x: str
    labels: tuple[str, str, str]


@register.filter
def curve(forecast: Expected) -> Curve | None:
    """Returns the curve of a forecast, None where there is none or all goes at once."""
    first, half, finish = forecast.first_at, forecast.half_at, forecast.finish_at
    if not (first and half and finish) or finish - first < timedelta(seconds=1):
        return None
    end_x = 310.0
    shown = "H:i:s" if is_short(forecast) else _tells_apart(first, finish)
    begins, halves, ends = (
        date_format(timezone.localtime(at), shown) for at in (first, half, finish)
    )
    labels = (begins, "" if halves in (begins, ends) else halves, ends)
    # Kept away from the edges, where the times of beginning and end are written.
    edge = 30.0 + 6 * max(map(len, labels))
    half_x = min(max((half - first) / (finish - first) * end_x, edge), 320.0 - edge)
    return Curve(f"{half_x:.1f}", f"{end_x:.1f}", labels)


def _tells_apart(first: datetime, finish: datetime) -> str:
    """Returns the shortest format in which these two read differently, and so does what is
    between them, mostly."""
    begins, ends = timezone.localtime(first), timezone.localtime(finish)
    if begins.date() == ends.date():
        return "H:i"
    if finish - first < timedelta(days=6):
        return "D H:i"
    return "j M" if begins.year == ends.year else "j M Y"
