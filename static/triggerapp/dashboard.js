// Conveniences. Every page works without them.
(function () {
  "use strict";
  function all(selector) { return Array.from(document.querySelectorAll(selector)); }
  function rows() { return all("table.list tbody tr"); }
  function here() { return document.querySelector("table.list tr.here"); }  // the row that keys are for
  function move(by) {
    var found = rows(), was = here(), now = found[Math.max(0, Math.min(found.length - 1, found.indexOf(was) + by))];
    if (was) was.classList.remove("here");
    if (!now) return;
    now.classList.add("here");
    now.scrollIntoView({ block: "nearest" });
  }
  function open() {
    var link = here() && here().querySelector("a[href]");
    if (link) link.click();
  }
  function box() { return here() && here().querySelector("input[name=run]"); }
  function chosen() { return all("input[name=run]:checked").length; }
  function matching() { return document.querySelector("#bulk input[name=all]:checked"); }
  function tell() {
    var said = document.getElementById("chosen");
    if (said) said.textContent = matching() ? "all that match" : chosen() ? chosen() + " selected" : "none selected";
  }
  function toggle() {
    if (box()) { box().checked = !box().checked; tell(); }
  }
  // A key asks before it does anything; on a list it is for the row that it stands on, if none is selected.
  function press(name) {
    var button = document.querySelector("[data-key='" + name + "']");
    if (!button) return;
    if (box() && !chosen() && !matching()) toggle();
    if (button.form.dataset.confirm || window.confirm(button.textContent.trim() + "?")) button.click();
  }
  var keys = {
    j: function () { move(1); }, k: function () { move(-1); }, x: toggle, Enter: open,
    c: function () { press("c"); }, r: function () { press("r"); }
  };
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys.hasOwnProperty(event.key)) return;
    if (/^(TEXTAREA|SELECT)$/.test(event.target.tagName) || event.target.matches("input:not([type=checkbox])")) return;
    if (event.key === "Enter" && event.target !== document.body) return;
    event.preventDefault();
    keys[event.key]();
  });
  document.addEventListener("change", function (event) {
    if (event.target.matches("[data-select-all]"))
      all("input[name=run]").forEach(function (box) { box.checked = event.target.checked; });
    tell();
  });
  document.addEventListener("click", function (event) {
    if (event.target.closest("[data-back]") && history.length > 1) {  // where what was filled in still is
      event.preventDefault();
      history.back();
    }
    var button = event.target.closest("[data-copy]");
    if (button) copy(button, document.getElementById(button.dataset.copy));
  });
  function copy(button, shown) {
    function select() { window.getSelection().selectAllChildren(shown); }  // the clipboard is there over TLS only
    if (!navigator.clipboard) select();
    else navigator.clipboard.writeText(shown.textContent).then(function () { praise(button); }, select);
  }
  function praise(button) {
    if (button.dataset.said) return;  // clicked twice: its own word is kept by the first
    var word = button.innerHTML;
    button.dataset.said = button.textContent = "Copied";
    setTimeout(function () { button.innerHTML = word; delete button.dataset.said; }, 1500);
  }
  // Whether what is shown is what is.
  function live(word, state) {
    var said = document.querySelector("[data-live]");
    if (said) { said.textContent = word; said.className = "live " + state; }
  }
  document.addEventListener("htmx:sseError", function () { live("the server is away, trying again", "away"); });
  function question(form, button) {
    if (form.id !== "bulk") return form.dataset.confirm;
    var runs = matching() ? "all runs that match the filter" : chosen() === 1 ? "1 run" : chosen() + " runs";
    return (button ? button.textContent.trim() : "Change") + " " + runs + "?";
  }
  document.addEventListener("submit", function (event) {
    var form = event.target;
    if (!form.dataset.confirm) return;
    if (form.id === "bulk" && !chosen() && !matching()) {
      event.preventDefault();
      document.getElementById("chosen").textContent = "Select runs first.";
    } else if (!window.confirm(question(form, event.submitter))) event.preventDefault();
  });
  // A browser has six connections to a host, and a live page holds one: a tab that nobody looks at gives its own back, and
  // asks for nothing. Who comes back is told what changed since.
  var streams = new Map(), place = "";
  document.addEventListener("htmx:sseOpen", function (event) {
    var before = streams.get(event.target), now = event.detail.source;
    if (before && before !== now) before.close();
    streams.set(event.target, now);
    if (document.hidden) now.close(); else live("live", "");
  });
  document.addEventListener("htmx:sseMessage", function (event) { place = event.detail.lastEventId || place; });
  document.addEventListener("htmx:sseClose", function (event) {
    streams.delete(event.target);
    live("as it ended", "over");
  });
  document.addEventListener("visibilitychange", function () {
    streams.forEach(function (stream, page) { if (document.hidden) stream.close(); else again(page); });
  });
  function again(page) {
    var address = page.getAttribute("sse-connect").replace(/&place=[^&]*/, "");
    page.setAttribute("sse-connect", address + "&place=" + encodeURIComponent(place));
    var hearers = Array.from(page.querySelectorAll("[sse-swap], [hx-trigger^='sse:']"));
    [page].concat(hearers).forEach(function (each) { htmx.trigger(each, "htmx:afterProcessNode"); });  // as if it were new
  }
  document.addEventListener("htmx:beforeRequest", function (event) { if (document.hidden) event.preventDefault(); });
})();
