// The page: one stream of the run's state, and what the ledger holds, asked for when it has grown.
import { $, clock, duration, exact, number, percent, put, rows, sign, usdt } from "./format.js";
import * as chart from "./chart.js";
import * as depth from "./depth.js";
import * as plots from "./plots.js";
import * as tables from "./tables.js";

const WORDS = {
  pause: ["Pause trading?", "Only orders that reduce a position will pass. Resume ends it."],
  resume: ["Resume trading?", "Strategies may open positions again."],
  cancel_all: ["Cancel all orders?", "Every open order is cancelled; positions stay, and strategies may quote again."],
  flatten: ["Flatten and halt?", "All orders are cancelled, every position is closed at the market, and this run opens none again."],
  stop: ["Stop the bot?", "All orders are cancelled, the ledger is completed, and the process ends. Positions stay."],
};
const ask = (name, extra = "") => rows(`/api/${name}?symbol=${encodeURIComponent(symbol)}${extra}`);
let symbol = "", state = null, source = null, waiting = false, tickText = "", logged = 0, heard = 0;
const due = {};

// What is fetched: each at most so often, and only when `changed` says that there is more.
function every(name, ms, changed, work) {
  const now = performance.now(), each = (due[name] ??= { at: -1e9, key: undefined, busy: false });
  if (each.busy || now - each.at < ms || each.key === changed) return;
  Object.assign(each, { at: now, key: changed, busy: true });
  work().catch((error) => { toast(error.message); each.key = undefined; }).finally(() => { each.busy = false; });
}

function connect() {
  source?.close();
  source = new EventSource(`/api/stream?symbol=${encodeURIComponent(symbol)}`);
  source.onmessage = (message) => {
    state = JSON.parse(message.data);
    heard = performance.now();
    if (!waiting) { waiting = true; requestAnimationFrame(render); }
  };
  source.onerror = () => status();
}

function render() {
  waiting = false;
  document.body.classList.toggle("stored", !state.is_live);
  if (!symbol && state.symbols.length) { choose(state.symbols[0]); return; }
  head();
  tiles();
  const quote = state.quotes.find((each) => each.symbol === symbol);
  if (quote) market(quote);
  tables.positions(state.holdings, state.is_live);
  tables.orders(state.orders, state.ts, state.is_live);
  put("orders-note", state.orders.length ? String(state.orders.length) : "");
  put("feed-note", state.open_gaps.length ? `unknown now: ${state.open_gaps.join(", ")}` : "every book is known");
  if (state.is_live) live();
  stored();
}

function head() {
  put("run", `${state.instance} · ${state.run}`);
  document.title = `${usdt(state.money.net_pnl)} · kvtrader`;
  $("untrained").hidden = !state.untrained.length;
  $("commands").hidden = !state.is_live;
  $("commands").querySelector('[data-command="pause"]').hidden = state.trading === "reducing";
  $("commands").querySelector('[data-command="resume"]').hidden = state.trading !== "reducing";
  if (!$("symbols").children.length) {
    for (const name of state.symbols) {
      const button = document.createElement("button");
      button.textContent = name.replace("linear:", "");
      button.dataset.symbol = name;
      button.onclick = () => choose(name);
      $("symbols").append(button);
    }
  }
  for (const button of $("symbols").children) button.setAttribute("aria-pressed", String(button.dataset.symbol === symbol));
  status();
}

function status() {
  const pill = $("status"), stale = performance.now() - heard > 6000;
  const text = !state ? "connecting" : stale ? "no connection" : !state.is_live ? state.status : state.trading === "active" ? "trading" : state.trading;
  put(pill, text);
  pill.className = `pill ${stale || text === "halted" || text === "failed" ? "bad" : text === "trading" || text === "finished" ? "ok" : "warn"}`;
}

function tiles() {
  const { money, counts } = state;
  put("equity", number(money.equity), money.equity);
  put("equity-more", money.wallet === null ? "" : `wallet ${number(money.wallet)} USDT`);
  put("net_pnl", usdt(money.net_pnl), money.net_pnl, sign(money.net_pnl));
  put("pnl-more", `realized ${usdt(money.realized_pnl)}, fees ${number(money.fees)}, funding ${number(money.funding)}`);
  $("pnl-more").title = $("pnl-more").textContent;
  put("unrealized_pnl", money.unrealized_pnl === null ? "–" : usdt(money.unrealized_pnl), money.unrealized_pnl, sign(money.unrealized_pnl ?? 0));
  const held = state.holdings.filter((each) => Number(each.position)).length;
  put("unrealized-more", `${held} ${held === 1 ? "position" : "positions"}`);
  put("fills-count", number(counts.fills, 0), String(counts.fills));
  put("fills-more", `${number(counts.orders, 0)} orders, ${number(counts.gaps, 0)} gaps`);
  if (!state.is_live) return;
  put("lag", duration(state.loop_lag.p99_ns));
  put("lag-more", `inbox ${state.queues.inbox}, ledger ${state.queues.ledger}`);
  put("inference", state.inference ? duration(state.inference.latency.p99_ns) : "–");
  put("inference-more", state.inference ? `${number(state.inference.predictions, 0)} predictions` : "no models");
}

function market(quote) {
  put("chart-title", symbol.replace("linear:", "").replace("spot:", "Spot "));
  put("quote", quote.is_live ? `${exact(quote.bid)} / ${exact(quote.ask)} · mark ${exact(quote.mark)} · heard ${duration(quote.heard_ago_ns)} ago` : "book unknown");
  const text = quote.bid || quote.last || "";
  if (text.length > tickText.length) { tickText = text; chart.setTick(text); }
  chart.tick(state.ts, Number(quote.last || 0));
}

function live() {
  depth.draw(state.book, state.ts, state.orders);
  plots.histogram("feed", "feed", state.feed_latency, state.ts);
  plots.histogram("inference", "inference", state.inference?.latency, state.ts);
  plots.histogram("lag", "loop lag", state.loop_lag, state.ts);
  plots.cache(state.inference);
  tables.feed(state);
  every("log", 2000, Math.floor(heard / 2000), log);
}

function models() {
  const select = $("model");
  if (select.options.length) return select.value;
  for (const name of [...state.models, "none"]) select.add(new Option(name));
  select.onchange = () => { delete due.forecasts; stored(); };
  return select.value;
}

function stored() {
  const model = models(), facts = state.committed_facts, at = (s) => Math.floor(state.ts / 1e9 / s);
  every("candles", 3000, `${symbol} ${at(10)}`, async () => {
    const fresh = due.candles.fresh !== symbol, answer = await ask("candles", "&limit=1000");
    due.candles.fresh = symbol;
    chart.setCandles(answer, fresh);
    delete due.marks;
  });
  every("marks", 3000, `${symbol} ${state.counts.fills}`, async () => chart.setFills(await ask("fills", "&limit=1000")));
  every("forecasts", 5000, `${symbol} ${model} ${at(10)}`, async () => {
    chart.setForecasts(model === "none" ? [] : await ask("forecasts", `&model=${encodeURIComponent(model)}&limit=1000`));
    chart.setCone(state.expectations.find((each) => each.symbol === symbol && each.model === model));
  });
  every("fills", 1500, facts, async () => tables.fills(await rows("/api/fills?limit=100")));
  every("gaps", 3000, `${state.counts.gaps} ${state.open_gaps}`, async () => tables.gaps(await rows("/api/gaps?limit=50")));
  every("equity", 5000, at(10), async () => {
    const answer = await rows("/api/equity"), last = answer.points[answer.points.length - 1];
    plots.setEquity(answer);
    put("drawdown", last ? percent(last[2], 3) : "–", undefined, last && last[2] < 0 ? "down" : "");
    put("drawdown-more", `deepest ${percent(answer.deepest_drawdown, 3)}`);
  });
  every("quality", 10000, `${symbol} ${at(15)}`, async () => plots.setQuality(await ask("quality")));
}

async function log() {
  const lines = await rows(`/api/log?after=${logged}`), box = $("log");
  if (!lines.length) return;
  const follows = box.scrollTop + box.clientHeight >= box.scrollHeight - 30;
  for (const line of lines) {
    const made = document.createElement("span");
    made.className = line.level;
    made.textContent = `${line.text.replace(/\s+/g, " ")}\n`;
    box.append(made);
    logged = line.number;
  }
  while (box.children.length > 500) box.firstChild.remove();
  if (follows) box.scrollTop = box.scrollHeight;
}

function choose(name) {
  symbol = name;
  tickText = "";
  chart.clear();
  for (const key of ["candles", "marks", "forecasts", "quality"]) delete due[key];
  if (state.is_live) depth.load(name).catch((error) => toast(error.message));
  connect();
}

async function command(name) {
  const [title, text] = WORDS[name], dialog = $("confirm");
  put("confirm-title", title);
  put("confirm-text", text);
  put("confirm-yes", name === "cancel_all" ? "Cancel all" : name[0].toUpperCase() + name.slice(1));
  dialog.showModal();
  const chosen = await new Promise((done) => {
    dialog.querySelector("form").onsubmit = (event) => done(event.submitter.value);
    dialog.oncancel = () => done("no");
  });
  if (chosen !== "yes") return;
  const answer = await fetch("/api/command", { method: "POST", credentials: "same-origin", body: JSON.stringify({ name }),
    headers: { "content-type": "application/json", "x-kvtrader": "1" } });
  toast(answer.ok ? `${name.replace("_", " ")}: in the run's queue` : (await answer.json()).error);
}

function toast(text) {
  put("toast", text);
  $("toast").hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => { $("toast").hidden = true; }, 4000);
}

for (const button of $("commands").children) button.onclick = () => command(button.dataset.command).catch((error) => toast(error.message));
$("theme").onclick = () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("theme", next);
  document.documentElement.dataset.theme = next;
  chart.restyle();
  plots.restyleEquity();
  delete due.marks;
};
setInterval(() => { status(); put("freshness", state ? `state of ${clock(state.ts, true)} UTC` : ""); }, 1000);
chart.start();
plots.startEquity();
connect();
