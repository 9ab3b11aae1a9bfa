"""What tests run within a page."""

from __future__ import annotations

KEEP_STREAM = """window.EventSource = class extends EventSource {
  constructor(...all) { super(...all); window.stream = this; }
}"""
"""Keeps the page's stream where a test can speak for the server."""
SAY_AT_ONCE = """([event, ...said]) => {
  said.forEach(data => stream.dispatchEvent(new MessageEvent(event, {data})));
  return document.getElementById(event).textContent;
}"""
"""Says all of it before the page is drawn again."""
BARS = """Object.fromEntries([...document.querySelectorAll('.spans tbody tr')].map(row =>
  [row.className.slice(5), row.querySelector('rect').getBoundingClientRect().toJSON()]))"""
"""Where the bars of the time line are, by kind."""
HIDE = """away => {
  Object.defineProperty(document, 'hidden', {value: away, configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
"""The tab is left, or come back to."""
MADE_OF_TEXT = """() => [...document.querySelectorAll('*')].filter(each =>
  each.matches("img[src=x], [href^='javascript:'], iframe, base, [hx-get^='/evil']")
  || [...each.attributes].some(one => one.name.startsWith('on') || one.name.startsWith('hx-on'))
).map(each => each.outerHTML)"""
"""Elements and attributes that only a text from outside can have made."""
