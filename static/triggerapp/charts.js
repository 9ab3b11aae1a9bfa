// The curves of the page of metrics. Without it there is the table below them.
(function () {
  "use strict";
  function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }
  function draw(place) {
    var chart = JSON.parse(place.dataset.chart);
    var colours = chart.unit === "s" ? ["--busy", "--idle"] : ["--good", "--bad", "--over"];
    var dashes = [[], [6, 3], [2, 3]];
    var axis = { stroke: colour("--faint"), grid: { stroke: colour("--line") }, ticks: { stroke: colour("--line") } };
    var series = chart.names.map(function (name, n) {
      return { label: name, stroke: colour(colours[n]), dash: dashes[n], width: 2, spanGaps: true };
    });
    place.textContent = "";
    return new uPlot({ // eslint-disable-line no-undef
      width: place.clientWidth, height: 220, series: [{}].concat(series),
      axes: [axis, Object.assign({ size: 60 }, axis)], scales: { y: { range: { min: { pad: 0, soft: 0, mode: 1 }, max: { pad: 0.1, soft: 1, mode: 2 } } } }
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
