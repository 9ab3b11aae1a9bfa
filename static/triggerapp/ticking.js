// Counts on from what the server wrote: ages, durations of what goes on, and the time line of a run that has not ended.
// It counts what passes, from the server's now: the clock of this machine may be wrong, or be set meanwhile.
(function () {
  "use strict";
  var units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]], timer;
  var begin = Date.parse(document.body.dataset.now) - performance.now();
  function all(selector, within) { return Array.from((within || document).querySelectorAll(selector)); }
  function since(moment) { return (begin + performance.now() - Date.parse(moment)) / 1000; }
  function write(place, text) { if (place.textContent !== text) place.textContent = text; }
  function age(seconds) {
    var length = Math.abs(seconds), unit = units.find(function (each) { return length >= each[0]; }) || units[3];
    var text = Math.floor(length / unit[0]) + " " + unit[1];
    return seconds < 0 ? "in " + text : text + " ago";
  }
  function duration(seconds) {  // as the server writes it, or what it sends would read otherwise for a second
    if (seconds < 1) return Math.max(0, seconds * 1000).toFixed(0) + " ms";
    if (seconds < 60) return seconds.toFixed(1) + " s";
    var left = Math.floor(seconds), first = units.findIndex(function (each) { return left >= each[0]; });
    return units.slice(first, first + 2).map(function (unit) {
      var number = Math.floor(left / unit[0]);
      left -= number * unit[0];
      return number ? number + " " + unit[1] : "";
    }).filter(Boolean).join(" ");
  }
  // What is over keeps its place in time, so all that it has of the growing whole becomes less.
  function stretch(table) {
    var whole = since(table.dataset.from), drawn = whole - since(table.dataset.until);
    var scale = Math.max(1, whole / Math.max(drawn, 0.001));
    if (scale < 1.001 * (table.dataset.scale || 1)) return;  // no pixel of it would change, and there may be 2,000 rows
    table.dataset.scale = scale;
    all("rect", table).forEach(function (bar) {
      var width = bar.dataset.width = bar.dataset.width || bar.getAttribute("width");
      if ("open" in bar.dataset) width = 1000 * scale - bar.getAttribute("x");
      bar.setAttribute("width", Math.max(width, 2 * scale));
      bar.parentNode.setAttribute("viewBox", "0 0 " + 1000 * scale + " 14");
    });
    all(".ticks span", table).forEach(function (mark, n, marks) {
      if (n) write(mark, duration(whole * n / (marks.length - 1)));
    });
  }
  // A machine that slept counted less than passed: what came since is newer than our now.
  function catchUp(table) { begin += Math.max(0, -since(table.dataset.until) * 1000); }
  function tick() {
    if (document.querySelector("[data-live].away")) return;  // nobody knows whether it still goes on
    all("table[data-until]").forEach(catchUp);
    all("time[data-ago]").forEach(function (place) { write(place, age(since(place.dateTime))); });
    all("[data-since]").forEach(function (place) { write(place, duration(since(place.dataset.since))); });
    all("table[data-from]").forEach(stretch);
  }
  function look() {
    clearInterval(timer);
    if (document.hidden) return;
    tick();
    timer = setInterval(tick, 1000);
  }
  document.addEventListener("visibilitychange", look);
  look();
})();
