// Small plots: latency histograms, equity with its drawdown, how good predictions have been.
import { $, bytes, colour, duration, number, percent, surface } from "./format.js";
import { look } from "./chart.js";

// --- latency ------------------------------------------------------------------------------------

const WINDOW_NS = 60e9, before = { feed: [], inference: [], lag: [] };

export function histogram(name, title, latency, ts) {
  if (!latency) return;
  const kept = before[name];
  const full = new Map(latency.buckets);
  if (!kept.length || ts - kept[kept.length - 1].ts > 2e9) kept.push({ ts, full });
  while (kept.length > 2 && ts - kept[1].ts > WINDOW_NS) kept.shift();
  const since = kept[0].full;
  let counts = [...full].map(([edge, count]) => [edge, count - (since.get(edge) || 0)]).filter(([, count]) => count > 0);
  if (!counts.length) counts = [...full];
  const total = counts.reduce((sum, [, count]) => sum + count, 0);
  const at = (share) => { let seen = 0; for (const [edge, count] of counts) { seen += count; if (seen >= share * total) return edge; } return 0; };
  const caption = $(`h-${name}`);
  caption.replaceChildren(title, document.createElement("br"), `p50 ${duration(at(0.5))}`, document.createElement("br"), "p99 ");
  const strong = document.createElement("b");
  strong.textContent = duration(at(0.99));
  caption.append(strong);
  bars(document.querySelector(`[data-histogram="${name}"]`), counts, at(0.99));
}

const LEAST_NS = 1000; // what is shorter stands in one bar: a feed's clocks may even disagree by a little

function bars(canvas, all, p99) {
  const to = surface(canvas);
  if (!to || !all.length) return;
  const short = all.filter(([edge]) => edge <= LEAST_NS).reduce((sum, [, count]) => sum + count, 0);
  const counts = all.filter(([edge]) => edge > LEAST_NS);
  if (short) counts.unshift([LEAST_NS, short]);
  const { context, width, height } = to, floor = height - 14;
  const x = (edge) => Math.log2(edge) * 4, low = x(counts[0][0]), high = Math.max(x(counts[counts.length - 1][0]), low + 8);
  const step = width / (high - low + 1), most = Math.max(...counts.map(([, count]) => count));
  for (const [edge, count] of counts) {
    context.fillStyle = edge > p99 ? colour("--warn") : colour("--accent");
    const tall = Math.max(1.5, floor * Math.sqrt(count / most));
    context.fillRect((x(edge) - low) * step, floor - tall, Math.max(1.5, step - 1), tall);
  }
  context.fillStyle = colour("--quiet");
  context.font = "10px system-ui";
  context.fillText(duration(counts[0][0]), 0, height - 2);
  const end = duration(counts[counts.length - 1][0]);
  context.fillText(end, width - context.measureText(end).width, height - 2);
}

export function cache(inference) {
  const found = $("cache");
  if (!inference) { found.textContent = "no models in this run"; return; }
  const { cache: held } = inference, asked = held.hits + held.misses;
  let bar = found.querySelector("progress");
  if (!bar) {
    bar = document.createElement("progress");
    found.replaceChildren(document.createElement("span"), bar, document.createElement("span"));
  }
  bar.max = held.budget_bytes;
  bar.value = held.used_bytes;
  found.firstChild.textContent = `KV cache ${bytes(held.used_bytes)} of ${bytes(held.budget_bytes)}, ${held.sequences} sequences`;
  found.lastChild.textContent = `${number(held.evictions, 0)} evictions · ${asked ? percent(held.hits / asked, 1) : "–"} hits · `
    + `${number(inference.tokens, 0)} tokens · ${inference.waiting} waiting · ${number(inference.lost_events, 0)} lost`;
  for (const made of document.querySelectorAll("dd[data-drift]")) made.textContent = drifted(inference.drift[made.dataset.drift]);
}

function drifted(index) {
  return index === undefined ? "–" : index.toFixed(2);
}

// --- equity ----------------------------------------------------------------------------------------

let chart, worth, fall;

export function startEquity() {
  const { createChart, AreaSeries } = window.LightweightCharts;
  chart = createChart($("equity-chart"), look(10));
  const quiet = { priceLineVisible: false, lineWidth: 2 };
  worth = chart.addSeries(AreaSeries, quiet);
  fall = chart.addSeries(AreaSeries, { ...quiet, lineWidth: 1, invertFilledArea: true, priceFormat: { type: "custom", minMove: 1e-6, formatter: (x) => `${(100 * x).toFixed(3)}%` } }, 1);
  restyleEquity();
}

export function restyleEquity() {
  chart.applyOptions(look(10));
  worth.applyOptions({ lineColor: colour("--accent"), topColor: `${colour("--accent")}44`, bottomColor: `${colour("--accent")}00` });
  fall.applyOptions({ lineColor: colour("--down"), topColor: `${colour("--down")}00`, bottomColor: `${colour("--down")}55` });
  const panes = chart.panes();
  if (panes.length > 1) { panes[0].setStretchFactor(2); panes[1].setStretchFactor(1); }
}

export function setEquity(answer) {
  const points = new Map(answer.points.map(([ts, equity, down]) => [Math.floor(ts / 1e9), [equity, down]]));
  const sorted = [...points].sort((a, b) => a[0] - b[0]);
  worth.setData(sorted.map(([time, [value]]) => ({ time, value })));
  fall.setData(sorted.map(([time, [, value]]) => ({ time, value })));
  chart.timeScale().fitContent();
  $("equity-range").textContent = answer.points.length ? `peak ${number(answer.peak)}` : "";
}

// --- predictions -----------------------------------------------------------------------------------------

export function setQuality(found) {
  const known = found.filter((each) => each);
  $("quality-note").textContent = known.length ? "newest answers whose end is known" : "no predictions yet";
  $("quality").replaceChildren(...known.map(card));
  known.forEach((each, at) => { const plots = $("quality").children[at].querySelectorAll("canvas"); if (plots.length) { rolling(plots[0], each.ic_over_time); calibration(plots[1], each.calibration); } });
}

function card(each) {
  const made = document.createElement("div");
  made.className = "model";
  const title = document.createElement("h3"), note = document.createElement("span");
  title.textContent = each.model;
  note.className = "quiet";
  note.textContent = `${duration(each.horizon_ns)} ahead, ${number(each.n, 0)} answers${each.trained ? "" : ", untrained"}`;
  title.append(note);
  const list = document.createElement("dl");
  const facts = [["rank IC", each.ic === null ? "–" : each.ic.toFixed(3)], ["hit rate", percent(each.hit_rate, 1)], ["calibration", percent(each.calibration_error, 1)], ["drift", each.drift === null ? "–" : each.drift.toFixed(2)], ["input drift", "–"]];
  for (const [name, value] of facts) {
    const part = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name;
    dd.textContent = value;
    part.append(dt, dd);
    list.append(part);
  }
  list.lastChild.lastChild.dataset.drift = each.model; // told with the live state
  made.append(title, list);
  if (each.ic !== null) {
    const plots = document.createElement("div");
    plots.className = "plots";
    for (const name of ["rolling IC", "P(up) said and seen"]) {
      const figure = document.createElement("figure"), caption = document.createElement("figcaption");
      caption.textContent = name;
      figure.append(caption, document.createElement("canvas"));
      plots.append(figure);
    }
    made.append(plots);
  }
  return made;
}

function rolling(canvas, points) {
  const to = surface(canvas);
  if (!to || points.length < 2) return;
  const { context, width, height } = to, most = Math.max(0.1, ...points.map(([, value]) => Math.abs(value)));
  const x = (at) => (at / (points.length - 1)) * width, y = (value) => height / 2 - (value / most) * (height / 2 - 4);
  context.strokeStyle = colour("--line");
  context.beginPath(); context.moveTo(0, height / 2); context.lineTo(width, height / 2); context.stroke();
  context.strokeStyle = colour("--accent");
  context.lineWidth = 1.5;
  context.beginPath();
  points.forEach(([, value], at) => context.lineTo(x(at), y(value)));
  context.stroke();
  context.fillStyle = colour("--quiet");
  context.font = "10px system-ui";
  context.fillText(`+${most.toFixed(2)}`, 0, 9);
}

function calibration(canvas, bins) {
  const to = surface(canvas);
  if (!to) return;
  const { context, width, height } = to, most = Math.max(...bins.map(([, , count]) => count));
  context.strokeStyle = colour("--line");
  context.strokeRect(0.5, 0.5, width - 1, height - 1);
  context.beginPath(); context.moveTo(0, height); context.lineTo(width, 0); context.stroke();
  context.fillStyle = colour("--accent");
  for (const [said, seen, count] of bins) {
    context.beginPath();
    context.arc(said * width, (1 - seen) * height, 2 + 4 * Math.sqrt(count / most), 0, 7);
    context.fill();
  }
}
