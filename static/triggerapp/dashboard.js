// Conveniences. Every page works without them.
(function () {
  "use strict";
  function rows() { return Array.from(document.querySelectorAll("table.list tbody tr")); }
  function here() { return document.querySelector("table.list tr.here"); }
  function move(by) {
    var all = rows(), at = all.indexOf(here());
    var next = all[Math.max(0, Math.min(all.length - 1, at + by))];
    if (!next) return;
    all.forEach(function (row) { row.classList.toggle("here", row === next); });
    next.scrollIntoView({ block: "nearest" });
  }
  function open() {
    var link = here() && here().querySelector("a[href]");
    if (link) link.click();
  }
  function press(name) {
    var button = document.querySelector("[data-key='" + name + "']");
    if (button) button.focus();
  }
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT|BUTTON|A|SUMMARY)$/.test(event.target.tagName)) return;
    if (event.key === "j") move(1);
    else if (event.key === "k") move(-1);
    else if (event.key === "Enter") open();
    else if (event.key === "c" || event.key === "r") press(event.key);
    else return;
    event.preventDefault();
  });
  document.addEventListener("change", function (event) {
    if (!event.target.matches("[data-select-all]")) return;
    document.querySelectorAll("input[name=run]").forEach(function (box) { box.checked = event.target.checked; });
  });
  document.addEventListener("click", function (event) {
    var button = event.target.closest("[data-copy]");
    if (button && navigator.clipboard) navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
  });
  document.addEventListener("submit", function (event) {
    var question = event.target.dataset.confirm;
    if (question && !window.confirm(question)) event.preventDefault();
  });
  // A tab that nobody looks at asks for nothing.
  document.addEventListener("htmx:beforeRequest", function (event) {
    if (document.hidden) event.preventDefault();
  });
})();
