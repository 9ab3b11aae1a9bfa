"""Rows that a page has by the thousand: written here, because a template takes ten times as long for them.

Everything is escaped: text is never HTML.
"""

from __future__ import annotations

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from triggerapp.dashboard.logs import LogRow
from triggerapp.dashboard.waterfall import Span
from triggerapp.templatetags.triggers import clock, iso, level, status, took

register = template.Library()

_NOTHING = SafeString("")
_OPEN = SafeString(" data-open")
_SPAN = (
    '<tr class="span-{}{}">\n<td class="label">{}{}</td>\n<td>{}</td>\n<td class="bar"><svg viewBox="0 0 1000 14" '
    'preserveAspectRatio="none" aria-hidden="true"><rect{} x="{}" y="2" width="{}" height="10"/></svg></td>\n'
    '<td class="number">{}</td><td class="faint">{}{}</td></tr>'
)
_LINE = (
    '<tr class="line is-{}"><td class="number"><time datetime="{}" title="{}">{}</time></td><td title="{}">{}</td>'
    '<td class="said">{}</td></tr>'
)


@register.simple_tag
def span_row(span: Span) -> SafeString:
    """One bar of the time line, with what it is and how it went."""
    kind = format_html('<span class="faint">{}</span> ', span.kind) if span.kind in ("step", "run") else _NOTHING
    if span.link:
        label = format_html('<a href="{}">{}</a>', span.link, span.label)
    else:
        label = format_html("<code>{}</code>", span.label)
    badge = status(span.status) if span.status else _NOTHING
    bad = " span-bad" if span.is_bad else ""
    more = "" if span.goes_on_since is None else _OPEN
    return format_html(
        _SPAN, span.kind, bad, kind, label, badge, more, span.x, span.width, took(span), span.note, _said(span)
    )


def _said(span: Span) -> SafeString:
    if not span.said:
        return _NOTHING
    return format_html(' <a href="?{}#log">{} line{}</a>', span.lines, span.said, "" if span.said == 1 else "s")


@register.simple_tag
def line_row(line: LogRow) -> SafeString:
    """One line of a log; before the first one of a step, what step that is."""
    moment = iso(line.at)
    row = format_html(
        _LINE, line.level_name, moment, moment, clock(line.at), line.logger, level(line.level_name), line.text
    )
    if not line.begins:
        return row
    step = format_html(" <code>{}</code>", line.step) if line.step else _NOTHING
    head = format_html('<tr class="span"><th scope="rowgroup" colspan="3">attempt {}{}</th></tr>', line.attempt, step)
    return format_html("{}{}", head, row)
