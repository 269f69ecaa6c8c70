// The page until the dashboard replaces it: live prices over the WebSocket, sources by asking every few seconds.
"use strict";

const SOURCES_EVERY_MS = 5000;
const RECONNECT_BASE_MS = 1000;
const RECONNECT_CAP_MS = 30000;
const ROLLOUT_CLOSED = 4505;

const cards = new Map();
let silenceMs = 15000;
let failures = 0;
let lastHeard = 0;
let socket = null;
let token = "";

const text = (element, value) => { if (element.textContent !== value) element.textContent = value; };
const say = (state, words) => {
  const line = document.getElementById("connection");
  line.dataset.state = state;
  text(line, words);
};

// A token stays in this page's memory: not in its address, and not in the browser's store.
const get = (path) => fetch(path, token ? { headers: { Authorization: `Bearer ${token}` } } : {});
const offered = () => (token ? ["aurex.v1.json", `aurex.token.${token}`] : ["aurex.v1.json"]);

function askForToken(words) {
  token = "";
  say("lost", words);
  document.getElementById("ask").hidden = false;
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = document.getElementById("token");
  const text = typed.value.trim();
  typed.value = "";
  if (!/^[\w.-]+$/.test(text)) return askForToken("this is no token");
  token = text;
  document.getElementById("ask").hidden = true;
  connect();
});

function card(symbol) {
  let known = cards.get(symbol);
  if (!known) {
    const element = document.getElementById("price").content.firstElementChild.cloneNode(true);
    document.getElementById("prices").append(element);
    const fields = {};
    for (const field of element.querySelectorAll("[data-field]")) fields[field.dataset.field] = field;
    text(fields.symbol, symbol);
    known = { element, fields, decimals: 2, close: null, time: null };
    cards.set(symbol, known);
  }
  return known;
}

function showPrice(data) {
  const known = card(data.symbol);
  const { fields } = known;
  const shown = (price) => price.toFixed(known.decimals);
  text(fields.close, shown(data.close));
  if (known.close !== null && data.close !== known.close) fields.close.dataset.move = data.close > known.close ? "up" : "down";
  text(fields.instrument, data.instrument);
  text(fields.quote, data.bid === null ? "" : `bid ${shown(data.bid)}  ask ${shown(data.ask)}`);
  showQuality(data.symbol, data.quality, data.source);
  known.close = data.close;
  known.time = Date.parse(data.timestamp);
}

function showQuality(symbol, quality, source) {
  const { element, fields } = card(symbol);
  element.dataset.quality = quality;
  text(fields.quality, quality);
  text(fields.source, source ? `from ${source}` : "");
}

function showStatus(data) {
  showQuality(data.symbol, data.quality, data.source);
  const { fields } = card(data.symbol);
  text(fields.instrument, data.instrument);
  text(fields.reason, data.quality === "stale" || data.quality === "closed" ? data.reason : "");
}

function showAges() {
  for (const { fields, time } of cards.values()) {
    if (time !== null) text(fields.age, `as of ${new Date(time).toLocaleString()}`);
  }
  if (socket && lastHeard && Date.now() - lastHeard > silenceMs) {
    say("lost", "the line is dead, reconnecting…");
    socket.close();
  }
}

function receive(event) {
  lastHeard = Date.now();
  const message = JSON.parse(event.data);
  if (message.type === "welcome") {
    silenceMs = 3000 * message.data.heartbeat.silence_s;
    say("connected", "connected");
  } else if (message.type === "subscribed") failures = 0;
  else if (message.type === "price_update") showPrice(message.data);
  else if (message.type === "status") showStatus(message.data);
  else if (message.type === "error") say("lost", message.data.message);
}

async function connect() {
  const base = new URL("api/v1/ws/stream", location.href);
  base.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  let channels = [];
  try {
    const response = await get("api/v1/sources");
    const answer = await response.json();
    if (response.status === 401 || response.status === 403) {
      askForToken(answer.error.message);
      return;
    }
    showSources(answer);
    for (const { symbol, decimals } of answer.symbols) card(symbol).decimals = decimals;
    channels = answer.symbols.flatMap(({ symbol }) => [`price:${symbol}`, `status:${symbol}`]);
  } catch {
    retry({});
    return;
  }
  socket = new WebSocket(base, offered());
  socket.onopen = () => socket.send(JSON.stringify({ type: "subscribe", id: 1, data: { channels } }));
  socket.onmessage = receive;
  socket.onclose = (event) => {
    socket = null;
    lastHeard = 0;
    let advice = {};
    try { advice = JSON.parse(event.reason); } catch { /* a proxy's close has no reason of ours */ }
    if (event.code === 4006 || event.code === 4500) askForToken("the token is not valid any more");
    else if (event.code === ROLLOUT_CLOSED) readEvents(channels);
    else if (event.code >= 4500 && event.code < 5000) say("lost", `closed by the server (${event.code})`);
    else retry(advice);
  };
}

// The same messages for whom no WebSocket is open to; a browser reconnects an event stream by itself.
function readEvents(channels) {
  const events = new EventSource(`api/v1/stream?channels=${channels.join(",")}`);
  events.onmessage = receive;
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) retry({});
    else say("lost", "connection lost, trying again…");
  };
}

function retry(advice) {
  const interval = Math.min(RECONNECT_CAP_MS, RECONNECT_BASE_MS * 2 ** failures);
  failures += 1;
  const wait = advice.retry_after_ms ?? Math.random() * interval;
  say("lost", `connection lost, trying again in ${Math.ceil(wait / 1000)} s`);
  setTimeout(connect, wait);
}

function showSources({ sources }) {
  const rows = sources.map((source) => {
    const row = document.createElement("tr");
    const when = source.next_attempt ? ` — next attempt ${new Date(source.next_attempt).toLocaleTimeString()}` : "";
    const cells = [
      source.name,
      Object.keys(source.symbols).join(", "),
      source.state,
      String(source.ticks),
      source.last_tick ? new Date(source.last_tick).toLocaleTimeString() : "never",
      source.state === "connected" ? "" : (source.last_error ?? "") + when,
    ];
    for (const [index, value] of cells.entries()) {
      const cell = row.insertCell();
      cell.textContent = value;
      if (index === 2) cell.className = `state-${source.state}`;
    }
    return row;
  });
  document.getElementById("sources").replaceChildren(...rows);
}

async function pollSources() {
  if (!document.getElementById("ask").hidden) return;
  try { showSources(await (await get("api/v1/sources")).json()); } catch { /* the connection line says it */ }
}

setInterval(showAges, 1000);
setInterval(pollSources, SOURCES_EVERY_MS);
connect();
