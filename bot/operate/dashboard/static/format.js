// Text to what a person reads. Money arrives as exact text; the exact text stays in `data-exact`.
export const $ = (id) => document.getElementById(id);

export function number(text, digits = 2, sign = false) {
  if (text === null || text === undefined || text === "") return "–";
  return Number(text).toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits,
    signDisplay: sign ? "exceptZero" : "auto" });
}

// As many digits as the text has, so that no tick is hidden.
export function exact(text) {
  if (text === null || text === undefined) return "–";
  const digits = (text.split(".")[1] || "").length;
  return number(text, digits);
}

export function usdt(text) { return number(text, Math.abs(Number(text)) < 100 ? 4 : 2, true); }
export function percent(value, digits = 2) { return value === null || value === undefined ? "–" : `${(100 * value).toFixed(digits)} %`; }
export function sign(text) { return Number(text) > 0 ? "up" : Number(text) < 0 ? "down" : ""; }

export function duration(ns) {
  if (ns === null || ns === undefined) return "–";
  if (ns < 1e3) return `${Math.round(ns)} ns`;
  if (ns < 1e6) return `${ns < 1e4 ? (ns / 1e3).toFixed(1) : Math.round(ns / 1e3)} µs`;
  if (ns < 1e9) { const ms = ns / 1e6; return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`; }
  const s = ns / 1e9;
  if (s < 120) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${(s / 3600).toFixed(1)} h` : `${(s / 86400).toFixed(1)} d`;
}

export function clock(ns, withDay = false) {
  if (!ns) return "–";
  const text = new Date(ns / 1e6).toISOString();
  return withDay ? `${text.slice(5, 10)} ${text.slice(11, 19)}` : text.slice(11, 23);
}

export function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  while (count >= 1024 && at < 3) { count /= 1024; at += 1; }
  return `${count.toFixed(at ? 1 : 0)} ${units[at]}`;
}

// Text into an element, touching the page only when it changes.
export function put(id, text, exactText, kind) {
  const element = typeof id === "string" ? $(id) : id;
  if (element.textContent !== text) element.textContent = text;
  if (exactText !== undefined && exactText !== null) element.dataset.exact = exactText;
  if (kind !== undefined) { element.classList.toggle("up", kind === "up"); element.classList.toggle("down", kind === "down"); }
}

export function colour(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

// A canvas's context at the screen's own resolution, cleared; null while it is not shown.
export function surface(canvas) {
  const ratio = devicePixelRatio || 1, width = canvas.clientWidth, height = canvas.clientHeight;
  if (!width || !height) return null;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

export async function ask(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (answer.status === 401) { location.reload(); throw new Error("the token is no longer known"); }
  if (!answer.ok) throw new Error((await answer.json()).error || answer.statusText);
  return answer;
}
export async function rows(path) { return (await ask(path)).json(); }
