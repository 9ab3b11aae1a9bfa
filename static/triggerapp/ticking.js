// Counts on from what the server wrote: ages, durations of what goes on, and the time line of a run that has not ended.
(function () {
  "use strict";
  var units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]], timer;
  var ahead = Date.now() - Date.parse(document.body.dataset.now);  // this clock may be wrong; the server's is meant
  function all(selector, within) { return Array.from((within || document).querySelectorAll(selector)); }
  function since(moment) { return (Date.now() - ahead - Date.parse(moment)) / 1000; }
  function write(place, text) { if (place.textContent !== text) place.textContent = text; }
  function age(seconds) {
    var length = Math.abs(seconds), unit = units.find(function (each) { return length >= each[0]; }) || units[3];
    var text = Math.floor(length / unit[0]) + " " + unit[1];
    return seconds < 0 ? "in " + text : text + " ago";
  }
  function duration(seconds) {
    var left = Math.floor(seconds), first = units.findIndex(function (each) { return left >= each[0]; });
    if (first < 0) return "0 s";
    return units.slice(first, first + 2).map(function (unit) {
      var number = Math.floor(left / unit[0]);
      left -= number * unit[0];
      return number ? number + " " + unit[1] : "";
    }).filter(Boolean).join(" ");
  }
  // What is over keeps its place in time, so all that it has of the growing whole becomes less.
  function stretch(table) {
    var whole = since(table.dataset.from), drawn = (Date.parse(table.dataset.until) - Date.parse(table.dataset.from)) / 1000;
    var scale = Math.max(1, whole / Math.max(drawn, 0.001));
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
  function tick() {
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
