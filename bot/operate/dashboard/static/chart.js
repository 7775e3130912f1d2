// Candles with our fills, what a model expected, and what it expects now.
import { $, colour } from "./format.js";

const charts = () => window.LightweightCharts;
const MINUTES = { D: 1440 };
let chart, bars, expected, cone = [], markers, interval_s = 60, last = null;

export function look(textSize = 11) {
  return {
    layout: { background: { color: "transparent" }, textColor: colour("--quiet"), fontSize: textSize, attributionLogo: false,
      panes: { separatorColor: colour("--line") } },
    grid: { vertLines: { color: colour("--line") }, horzLines: { color: colour("--line") } },
    rightPriceScale: { borderColor: colour("--line") },
    timeScale: { borderColor: colour("--line"), timeVisible: true, secondsVisible: false },
    crosshair: { mode: 0 }, autoSize: true,
  };
}

export function start() {
  const { createChart, CandlestickSeries, LineSeries, createSeriesMarkers } = charts();
  chart = createChart($("chart"), look());
  bars = chart.addSeries(CandlestickSeries);
  const quiet = { lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false };
  expected = chart.addSeries(LineSeries, { ...quiet, lineWidth: 1, lineStyle: 1 });
  cone = [2, 0, 2].map((lineStyle) => chart.addSeries(LineSeries, { ...quiet, lineWidth: lineStyle ? 1 : 2, lineStyle }));
  markers = createSeriesMarkers(bars, []);
  restyle();
}

export function restyle() {
  const up = colour("--up"), down = colour("--down"), accent = colour("--accent");
  chart.applyOptions(look());
  bars.applyOptions({ upColor: up, downColor: down, wickUpColor: up, wickDownColor: down, borderVisible: false });
  [expected, ...cone].forEach((line) => line.applyOptions({ color: accent }));
}

export function setTick(text) {
  const digits = (text.split(".")[1] || "").length;
  [bars, expected, ...cone].forEach((s) => s.applyOptions({ priceFormat: { type: "price", precision: digits, minMove: 10 ** -digits } }));
}

export function setCandles(answer, fresh) {
  interval_s = 60 * (MINUTES[answer.interval] || Number(answer.interval) || 1);
  const data = answer.rows.map((row) => ({ time: row.open_ts / 1e9, open: +row.open, high: +row.high, low: +row.low, close: +row.close }));
  const ended = data.length ? data[data.length - 1].time : 0;
  if (last && last.time > ended) data.push(last);
  else last = null;
  bars.setData(data);
  if (fresh) {
    const shown = Math.max(40, Math.round($("chart").clientWidth / 9));
    chart.timeScale().setVisibleLogicalRange({ from: data.length - shown, to: data.length + 6 });
  }
}

export function clear() { last = null; bars.setData([]); expected.setData([]); cone.forEach((c) => c.setData([])); markers.setMarkers([]); }

// The bar that is still forming, from the last trades as they are seen here.
export function tick(ts, price) {
  const data = bars.data();
  if (!price || !data.length) return;
  const time = Math.floor(ts / 1e9 / interval_s) * interval_s, closed = data[data.length - 1];
  if (time < closed.time) return;
  if (!last || last.time !== time) {
    const open = closed.time < time ? closed.close : closed.open;
    last = { time, open, high: Math.max(open, price), low: Math.min(open, price), close: price };
  } else {
    last = { ...last, high: Math.max(last.high, price), low: Math.min(last.low, price), close: price };
  }
  bars.update(last);
}

export function setFills(fills) {
  const sums = new Map();
  for (const fill of fills) {
    const time = Math.floor(fill.exchange_ts / 1e9 / interval_s) * interval_s, key = `${time}${fill.side}`;
    const found = sums.get(key) || { time, side: fill.side, count: 0 };
    found.count += 1;
    sums.set(key, found);
  }
  const first = bars.data()[0]?.time ?? 0;
  markers.setMarkers([...sums.values()].filter((each) => each.time >= first).sort((a, b) => a.time - b.time).map((each) => ({
    time: each.time, position: each.side === "Buy" ? "belowBar" : "aboveBar", shape: each.side === "Buy" ? "arrowUp" : "arrowDown",
    color: colour(each.side === "Buy" ? "--up" : "--down"), size: Math.min(1.6, 0.6 + each.count / 20) })));
}

// A bar's time for what is expected at the end of a horizon: a closed bar ends one interval later.
function barOf(ns) { return Math.floor(ns / 1e9 / interval_s) * interval_s; }

export function setForecasts(forecasts) {
  const points = new Map();
  for (const row of forecasts) points.set(barOf(row.read_ts + row.horizon_ns) - (row.horizon_ns >= interval_s * 1e9 ? interval_s : 0), row.price * Math.exp(row.expected_return));
  expected.setData([...points].sort((a, b) => a[0] - b[0]).map(([time, value]) => ({ time, value })));
}

export function setCone(expectation) {
  const start = expectation && { time: barOf(expectation.read_ts), value: expectation.price };
  const far = expectation ? expectation.horizons.filter(([ns]) => ns >= interval_s * 1e9) : [];
  if (!far.length) { cone.forEach((line) => line.setData([])); return; }
  const value = (of) => [start, ...far.map(([ns, mean, , quantiles]) => ({ time: barOf(expectation.read_ts + ns), value: expectation.price * Math.exp(of(mean, quantiles)) }))];
  const lines = [value((mean, q) => q.length ? q[0] : mean), value((mean) => mean), value((mean, q) => q.length ? q[q.length - 1] : mean)];
  cone.forEach((line, at) => line.setData(lines[at].filter((point, i, all) => !i || point.time > all[i - 1].time)));
}
