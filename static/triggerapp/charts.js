// The curves of the page of metrics. Without it there is the table below them.
(function () {
  "use strict";
  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  var hour = uPlot.fmtDate("{HH}:{mm}"), day = uPlot.fmtDate("{YYYY}-{MM}-{DD}"); // eslint-disable-line no-undef
  function times(plot, moments, axis, space, step) {
    var last = "";
    return moments.map(function (moment) {
      var at = new Date(moment * 1000), today = day(at), before = last;
      last = today;
      return step >= 86400 ? today : today === before ? hour(at) : hour(at) + "\n" + today;
    });
  }
  function draw(place) {
    var chart = JSON.parse(place.dataset.chart);
    var colours = chart.unit === "s" ? ["--busy", "--idle"] : ["--good", "--bad", "--over"];
    var dashes = [[], [6, 3], [2, 3]];
    var axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
    var series = chart.names.map(function (name, n) {
      return { label: name, stroke: colour(colours[n]), dash: dashes[n], width: 2, spanGaps: true };
    });
    place.textContent = "";
    return new uPlot({ // eslint-disable-line no-undef
      width: place.clientWidth, height: 220, series: [{ value: "{YYYY}-{MM}-{DD} {HH}:{mm}" }].concat(series),
      axes: [Object.assign({ values: times }, axis), Object.assign({ size: 60 }, axis)], scales: { y: { range: { min: { pad: 0, soft: 0, mode: 1 }, max: { pad: 0.1, soft: 1, mode: 2 } } } }
    }, chart.data, place);
  }
  var places = Array.from(document.querySelectorAll("[data-chart]"));
  var plots = places.map(draw);
  window.addEventListener("resize", function () {
    plots.forEach(function (plot, n) { plot.setSize({ width: places[n].clientWidth, height: 220 }); });
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", function () {
    plots.forEach(function (plot, n) { plot.destroy(); plots[n] = draw(places[n]); });
  });
})();
