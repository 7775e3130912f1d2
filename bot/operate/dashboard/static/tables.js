// Tables. Cells are [text, class, exact text]; rows are written with textContent, never as HTML.
import { $, clock, duration, exact, number, sign, usdt } from "./format.js";

function table(id, heads, rows, empty) {
  const found = $(id), key = JSON.stringify(rows);
  if (found.dataset.key === key) return;
  found.dataset.key = key;
  const head = document.createElement("thead"), body = document.createElement("tbody");
  const line = (cells, tag) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const [text, kind, exactText] = Array.isArray(cell) ? cell : [cell];
      const made = document.createElement(tag);
      made.textContent = text;
      if (kind) made.className = kind;
      if (exactText !== undefined && exactText !== null) made.dataset.exact = exactText;
      row.append(made);
    }
    return row;
  };
  head.append(line(heads, "th"));
  for (const each of rows) body.append(line(each, "td"));
  if (!rows.length) {
    const row = line([[empty, "empty"]], "td");
    row.firstChild.colSpan = heads.length;
    body.append(row);
  }
  found.replaceChildren(head, body);
}

const short = (symbol) => symbol.replace("linear:", "");
const side = (name) => [name, `text ${name === "Buy" ? "up" : "down"}`];

export function positions(holdings, isLive) {
  table("positions", ["symbol", "position", "entry", ...(isLive ? ["price", "unrealized"] : []), "realized", "fees", "funding"],
    holdings.map((each) => [short(each.symbol), [exact(each.position), sign(each.position), each.position],
      each.average_entry === null ? "–" : [number(each.average_entry, 4), "", each.average_entry],
      ...(isLive ? [exact(each.price), [usdt(each.unrealized_pnl), sign(each.unrealized_pnl), each.unrealized_pnl]] : []),
      [usdt(each.realized_pnl), sign(each.realized_pnl), each.realized_pnl], [number(each.fees, 4), "", each.fees], [number(each.funding, 4), "", each.funding]]),
    "nothing traded yet");
}

export function orders(open, ts, isLive) {
  table("orders", ["order", ["side", "text"], ["symbol", "text"], "leaves", "price", "ahead", "place", "age", ["strategy", "text"]],
    open.map((each) => [String(each.order_id), side(each.side), [short(each.symbol), "text"], exact(each.leaves), exact(each.price),
      each.state === "travelling" ? "travelling" : [exact(each.ahead), "", each.ahead], place(each), duration(ts - each.ts), [each.strategy, "text"]]),
    isLive ? "no open orders" : "none");
}

// How far an order has come: how much of the queue at its arrival is gone.
function place(order) {
  if (order.ahead === null || order.ahead_at_arrival === null) return "–";
  const arrival = Number(order.ahead_at_arrival);
  return arrival ? `${Math.round(100 * (1 - Number(order.ahead) / arrival))} %` : "first";
}

export function fills(found) {
  table("fills", ["fill", ["time", "text"], ["side", "text"], ["symbol", "text"], "qty", "price", "fee", "realized", ["cause", "text"], "ahead"],
    found.slice().reverse().map((each) => [String(each.fill_id), [clock(each.exchange_ts), "text"], side(each.side), [short(each.symbol), "text"],
      [exact(each.qty), "", each.qty], [exact(each.price), "", each.price], [number(each.fee, 4), "", each.fee], [usdt(each.realized_pnl), sign(each.realized_pnl), each.realized_pnl],
      [`${each.cause}${each.maker ? "" : " (taker)"}`, "text"], exact(each.ahead_at_arrival)]),
    "no fills yet");
}

export function feed(state) {
  table("feed", ["connection", ["state", "text"], "frames", "connects", "lost", "resubscribed"],
    state.feeds.map((each) => [each.conn, [each.state, `text ${each.state === "live" ? "up" : "down"}`], number(each.frames, 0), String(each.connects), String(each.disconnects), String(each.resubscribes)]),
    "no connection");
}

export function gaps(found) {
  table("gaps", ["gap", ["from", "text"], "lasted", ["reason", "text"]],
    found.slice().reverse().map((each) => [short(each.symbol), [clock(each.ts, true), "text"], each.end_ts === null ? ["open", "down"] : duration(each.end_ts - each.ts), [each.reason, "text"]]),
    "no gaps");
}
