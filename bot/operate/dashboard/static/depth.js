// The order book over time: price up, time to the right, more is brighter; our orders at the edge.
import { $, ask, colour, surface } from "./format.js";

const MOST = 300, FEWEST = 40, EVERY_MS = 2000, ROWS = 110, LADDER = 0.2;
let columns = [], shown = "";

export async function load(symbol) {
  shown = symbol;
  columns = [];
  const numbers = new Float64Array(await (await ask(`/api/depth?symbol=${encodeURIComponent(symbol)}`)).arrayBuffer());
  if (shown !== symbol) return;
  const found = [];
  for (let at = 0; at + 3 <= numbers.length;) {
    const bids = numbers[at + 1], asks = numbers[at + 2], levels = numbers.subarray(at + 3, at + 3 + 2 * (bids + asks));
    const side = (from, count) => Array.from({ length: count }, (_, i) => [levels[2 * (from + i)], levels[2 * (from + i) + 1]]);
    found.push({ ms: numbers[at], bids: side(0, bids), asks: side(bids, asks) });
    at += 3 + 2 * (bids + asks);
  }
  columns = [...found, ...columns];
}

export function draw(book, ts, orders) {
  if (book && book.symbol === shown) {
    const column = { ms: ts / 1e6, bids: book.bids, asks: book.asks };
    const before = columns[columns.length - 2];
    if (before && column.ms - before.ms < EVERY_MS) columns[columns.length - 1] = column;
    else columns.push(column);
    columns = columns.slice(-MOST);
  }
  const to = surface($("depth"));
  if (!to || !columns.length) return;
  const range = rangeOf(columns);
  const mapWidth = to.width * (1 - LADDER) - 58;
  heat(to, range, mapWidth);
  ladder(to, range, mapWidth, columns[columns.length - 1]);
  axis(to, range);
  own(to, range, mapWidth, orders);
}

const middle = (column) => column.bids.length && column.asks.length ? (column.bids[0][0] + column.asks[0][0]) / 2 : null;

function rangeOf(all) {
  const mids = all.map(middle).filter((x) => x !== null);
  const now = all[all.length - 1], mid = mids[mids.length - 1];
  const reach = Math.max(...[now.bids, now.asks].filter((s) => s.length).map((s) => Math.abs(s[s.length - 1][0] - mid)));
  let low = mid - reach, high = mid + reach;
  for (const each of mids) { low = Math.min(low, each - reach / 3); high = Math.max(high, each + reach / 3); }
  return { low, high, y: (price, height) => height * (1 - (price - low) / (high - low)) };
}

function heat({ context, height }, { low, high }, width) {
  const count = columns.length, across = Math.max(FEWEST, count), image = new ImageData(across, ROWS), size = new Float32Array(ROWS);
  const sizes = columns.flatMap((c) => [...c.bids, ...c.asks].map((level) => level[1])).sort((a, b) => a - b);
  const most = Math.log1p(sizes[Math.floor(sizes.length * 0.985)] || 1);
  const paints = ["--bid", "--ask"].map((name) => colour(name).split(",").map(Number));
  columns.forEach((column, index) => {
    const x = across - count + index;
    [column.bids, column.asks].forEach((side, which) => {
      size.fill(0);
      for (const [price, qty] of side) {
        const row = Math.floor((1 - (price - low) / (high - low)) * ROWS);
        if (row >= 0 && row < ROWS) size[row] = Math.max(size[row], qty);
      }
      size.forEach((qty, row) => {
        if (!qty) return;
        const at = 4 * (row * across + x), share = Math.min(1, Math.log1p(qty) / most);
        image.data.set([...paints[which], Math.round(18 + 237 * share ** 1.7)], at);
      });
    });
  });
  const small = new OffscreenCanvas(across, ROWS);
  small.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, across, ROWS, 0, 0, width, height);
  context.strokeStyle = colour("--text");
  context.lineWidth = 1.2;
  context.beginPath();
  columns.forEach((column, index) => {
    const mid = middle(column);
    if (mid === null) return;
    context.lineTo(((across - count + index + 0.5) / across) * width, height * (1 - (mid - low) / (high - low)));
  });
  context.stroke();
}

function ladder({ context, width, height }, range, left, column) {
  const space = width - 58 - left - 4, most = Math.max(...[...column.bids, ...column.asks].map((level) => level[1]));
  [["--bid", column.bids], ["--ask", column.asks]].forEach(([name, side]) => {
    context.fillStyle = `rgba(${colour(name)}, .75)`;
    for (const [price, qty] of side) context.fillRect(left + 4, range.y(price, height) - 1, Math.max(1, space * Math.sqrt(qty / most)), 2);
  });
}

function axis({ context, width, height }, range) {
  context.fillStyle = colour("--quiet");
  context.font = "11px system-ui";
  context.textBaseline = "middle";
  const span = range.high - range.low, digits = span > 50 ? 0 : span > 5 ? 1 : span > 0.5 ? 2 : 4;
  for (let i = 1; i < 7; i += 1) {
    const price = range.low + (span * i) / 7;
    context.fillText(price.toFixed(digits), width - 53, range.y(price, height));
  }
}

function own({ context, height }, range, width, orders) {
  context.fillStyle = colour("--own");
  for (const order of orders) {
    if (order.symbol !== shown || order.price === null) continue;
    const y = range.y(Number(order.price), height);
    if (y < 0 || y > height) continue;
    context.beginPath();
    context.moveTo(width + 2, y);
    context.lineTo(width + 10, y - 4);
    context.lineTo(width + 10, y + 4);
    context.fill();
    context.fillRect(width - 26, y - 0.75, 26, 1.5);
  }
}
