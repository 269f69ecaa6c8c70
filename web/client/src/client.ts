/** The client as a page uses it: prices, states, candles and alerts, whichever way they come. */
import { Alerts } from "./alerts.js";
import type { Backoff } from "./backoff.js";
import {
  candleChannel,
  channelOf,
  isChannelMessage,
  priceChannel,
  statusChannel,
  type ChannelMessage,
  type Interval,
} from "./channels.js";
import type { Encoding } from "./codec.js";
import { Connection, type ConnectionSettings, type TokenReason } from "./connection.js";
import { ambient, type Environment } from "./environment.js";
import type { AurexError } from "./errors.js";
import { DISCONNECTED, type ConnectionInfo, type ConnectionState, type Feed, type FeedEvents } from "./feed.js";
import type { PriceHistory, Sources, Stats, SymbolInfo } from "./http.gen.js";
import { Http } from "./http.js";
import { Ledger } from "./ledger.js";
import type { Transport } from "./machine.js";
import type {
  AlertData,
  Candle as CandleMessage,
  ClientMessage,
  NewsData,
  PriceData,
  PriceUpdate,
  SentimentData,
  ServerMessage,
  SignalData,
  Status,
  StatusData,
} from "./protocol.gen.js";
import { CandleSeries } from "./series.js";
import { SharedFeed } from "./tabs.js";
import { Listeners, Store, type ReadableStore, type Unsubscribe } from "./store.js";

/** Any message of the server. */
export type WebSocketMessage = ServerMessage;

/** All may be left out. */
export interface ClientOptions {
  /** Where the daemon is (`https://gold.example.org`, `ws://localhost:8000`); else where the page comes from. */
  readonly url?: string;
  /** The symbols that are meant where none is named; else the server's default ones. */
  readonly symbols?: readonly string[];
  /** A signed token, or how to get one: called before each connection, and in good time before the one in use expires. */
  readonly token?: string | ((reason: TokenReason) => string | null | Promise<string | null>);
  /** `json` unless said; MessagePack's decoder is loaded only then. */
  readonly encoding?: Encoding;
  /** Ways that may be used, the best first; all three unless said. */
  readonly transports?: readonly Transport[];
  /** How long to wait between tries: 1 s, doubling up to 30 s, with full jitter, unless said. */
  readonly backoff?: Partial<Backoff>;
  /** After so many failed tries in a row it is given up; `Infinity` unless said. */
  readonly maxAttempts?: number;
  /** Milliseconds between two questions where only polling works; 5000 unless said. */
  readonly pollMs?: number;
  /** Milliseconds until a request without an answer has failed; 10000 unless said. */
  readonly requestMs?: number;
  /** Milliseconds that a line is kept that nobody wants any more; 5000 unless said. */
  readonly lingerMs?: number;
  /**
   * One connection for all tabs of this site, where the browser can. True unless a `token` is given, since another tab
   * may be another user's: name the user then (`share: user.id`). False: one for each tab.
   */
  readonly share?: boolean | string;
  /** `auto` acknowledges alerts as they arrive; `manual` leaves that to `alerts.acknowledge`. `auto` unless said. */
  readonly acknowledge?: "auto" | "manual";
  /** For tests: clocks, sockets and the like of their own. */
  readonly environment?: Partial<Environment>;
}

/**
 * Live prices from aurexd.
 *
 * It connects when something is wanted of it (a handler, a hook, `connect()`), and stays connected until nothing is: it
 * reconnects, resumes where it was, and falls back to server-sent events or polling where it must.
 */
export class AurexWebSocketClient {
  /** The user's alert rules, and what has fired. */
  readonly alerts: Alerts;
  readonly #options: ClientOptions;
  readonly #environment: Environment;
  readonly #http: Http;
  readonly #feed: Feed;
  readonly #connection = new Store<ConnectionInfo>(DISCONNECTED);
  readonly #symbols = new Store<readonly SymbolInfo[] | null>(null);
  readonly #defaults: Store<readonly string[] | null>;
  readonly #prices = new Map<string, Store<PriceData | null>>();
  readonly #statuses = new Map<string, Store<StatusData | null>>();
  readonly #series = new Map<string, CandleSeries>();
  readonly #wanted = new Map<string, number>();
  readonly #handlers = {
    message: new Listeners<[WebSocketMessage]>(),
    price: new Listeners<[PriceData, PriceUpdate]>(),
    status: new Listeners<[StatusData, Status]>(),
    candle: new Listeners<[CandleMessage]>(),
    news: new Listeners<[NewsData]>(),
    sentiment: new Listeners<[SentimentData]>(),
    signal: new Listeners<[SignalData]>(),
    connection: new Listeners<[ConnectionState, ConnectionInfo]>(),
    gap: new Listeners<[string, number | null]>(),
    refused: new Listeners<[string, AurexError]>(),
  };
  #token: ClientOptions["token"];
  #held = false;
  /** What has been subscribed and not left, be it to nothing yet. */
  #subscriptions = 0;
  #lingering: unknown = null;
  #learning: Promise<void> | null = null;

  constructor(options: ClientOptions = {}) {
    this.#options = options;
    this.#token = options.token;
    this.#defaults = new Store<readonly string[] | null>(options.symbols ?? null);
    const environment = { ...ambient(), ...options.environment };
    this.#environment = environment;
    this.#http = new Http(
      environment,
      () => this.#base(),
      () => this.#getToken("connect"),
    );
    const events: FeedEvents = {
      message: (message) => {
        this.#receive(message);
      },
      changed: (info) => {
        this.#changed(info);
      },
      gap: (channel, missed) => {
        if (channel.startsWith("candle:")) this.#series.get(channel)?.catchUp();
        this.#handlers.gap.call(channel, missed);
      },
      refused: (channel, error) => {
        this.#withdraw(channel);
        this.#handlers.refused.call(channel, error);
      },
    };
    const { backoff, maxAttempts, transports } = options;
    const settings: ConnectionSettings = {
      encoding: options.encoding ?? "json",
      pollMs: options.pollMs ?? 5000,
      requestMs: options.requestMs ?? 10_000,
      rules: {
        ...(transports && { transports }),
        ...(maxAttempts !== undefined && { maxAttempts }),
        ...(backoff && { backoff: { baseMs: 1000, capMs: 30_000, ...backoff } }),
      },
      token: (reason) => this.#getToken(reason),
    };
    const ledger = new Ledger();
    const connect = (to: FeedEvents): Connection => new Connection(environment, settings, this.#http, ledger, to);
    const { locks } = environment;
    const share = options.share ?? options.token === undefined;
    this.#feed =
      share === false || locks === undefined || environment.BroadcastChannel === undefined
        ? connect(events)
        : new SharedFeed(
            environment,
            locks,
            () => `aurexd ${this.#base()}${share === true ? "" : ` ${share}`}`,
            settings.requestMs,
            ledger,
            connect,
            events,
          );
    this.alerts = new Alerts({
      request: (message) => this.#feed.request(message),
      watch: () => this.subscribe("alert"),
      setTimeout: (callback, ms) => environment.setTimeout(callback, ms),
      now: () => this.serverNow(),
      acknowledges: () => options.acknowledge !== "manual" && this.connection.leader,
    });
  }

  // --- the connection ---

  /** `disconnected`, `connecting`, `connected`, or `degraded`: prices come, but not over the WebSocket. */
  get connectionState(): ConnectionState {
    return this.#connection.get().state;
  }

  /** Everything about the connection; an object that is never changed. */
  get connection(): ConnectionInfo {
    return this.#connection.get();
  }

  /** The same, to be listened to. */
  get connectionStore(): ReadableStore<ConnectionInfo> {
    return this.#connection;
  }

  /** Connect, and stay connected until `disconnect()`, whether anything is wanted or not. Also: try again. */
  connect(): void {
    this.#held = true;
    this.#start(true);
  }

  /** Disconnect, and stay so until `connect()` or until something new is wanted. */
  disconnect(): void {
    this.#held = false;
    this.#environment.clearTimeout(this.#lingering);
    this.#lingering = null;
    this.#feed.stop();
  }

  /** Show another token from now on, as another user or the same: connects anew. */
  setToken(token: ClientOptions["token"]): void {
    this.#token = token;
    this.#feed.restart();
  }

  /** Called whenever anything about the connection has changed; `info.state` may be as before. */
  onConnectionChange(handler: (state: ConnectionState, info: ConnectionInfo) => void): Unsubscribe {
    return this.#handlers.connection.add(handler);
  }

  /**
   * Called when messages of a channel were missed for good, and how many (null: it cannot be told). Not called for what
   * was sent again after a reconnect, nor for prices that the server left out because newer ones were there.
   */
  onGap(handler: (channel: string, missed: number | null) => void): Unsubscribe {
    return this.#handlers.gap.add(handler);
  }

  /**
   * Called when the server does not serve a channel to this client, or no more: the symbol was taken out, or the token
   * allows it no longer. It is asked for again on the next connection.
   */
  onRefused(handler: (channel: string, error: AurexError) => void): Unsubscribe {
    return this.#handlers.refused.add(handler);
  }

  /** The server's time, as far as it is known here. */
  serverNow(): Date {
    return new Date(this.#environment.wall() + this.#connection.get().clockOffsetMs);
  }

  // --- prices and states ---

  /**
   * Be told of each price: at once of the one that is known, then of every new one, in order, each once. Without a
   * `symbol`, of the server's default symbols.
   */
  onPriceUpdate(handler: (price: PriceData, message: PriceUpdate) => void, symbol?: string): Unsubscribe {
    return this.#on(this.#handlers.price, handler, symbol, priceChannel);
  }

  /** Be told when a symbol's quality, source or market changes. */
  onStatus(handler: (status: StatusData, message: Status) => void, symbol?: string): Unsubscribe {
    return this.#on(this.#handlers.status, handler, symbol, statusChannel);
  }

  /** Be told of the candle under way, at most four times a second, and of its final state. */
  onCandle(symbol: string, interval: Interval, handler: (candle: CandleMessage["data"]) => void): Unsubscribe {
    const stop = this.#handlers.candle.add(({ data }) => {
      if (data.symbol === symbol && data.interval === interval) handler(data);
    });
    const leave = this.subscribe(candleChannel(symbol, interval));
    return () => {
      stop();
      leave();
    };
  }

  /** Be told of each alert once. They are acknowledged as they arrive, unless `acknowledge` is `manual`. */
  onAlert(handler: (alert: AlertData) => void): Unsubscribe {
    return this.alerts.onAlert(handler);
  }

  onNews(handler: (news: NewsData) => void): Unsubscribe {
    return this.#both(this.#handlers.news.add(handler), "news");
  }

  onSentiment(symbol: string, handler: (sentiment: SentimentData) => void): Unsubscribe {
    const mine = this.#handlers.sentiment.add((data) => {
      if (data.symbol === symbol) handler(data);
    });
    return this.#both(mine, `sentiment:${symbol}`);
  }

  onSignal(symbol: string, handler: (signal: SignalData) => void): Unsubscribe {
    const mine = this.#handlers.signal.add((data) => {
      if (data.symbol === symbol) handler(data);
    });
    return this.#both(mine, `signal:${symbol}`);
  }

  /** Be told of every message of every channel that is subscribed to, and of answers about alert rules. */
  onMessage(handler: (message: WebSocketMessage) => void): Unsubscribe {
    return this.#handlers.message.add(handler);
  }

  /**
   * Have channels (`price:XAUUSD`) until the returned function is called; it counts how often each is wanted. Without
   * any, have a connection.
   */
  subscribe(...channels: string[]): Unsubscribe {
    this.#subscriptions += 1;
    for (const channel of channels) this.#wanted.set(channel, (this.#wanted.get(channel) ?? 0) + 1);
    this.#channelsChanged();
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#subscriptions -= 1;
      for (const channel of channels) {
        const count = (this.#wanted.get(channel) ?? 1) - 1;
        if (count > 0) this.#wanted.set(channel, count);
        else this.#wanted.delete(channel);
      }
      this.#channelsChanged();
    };
  }

  /**
   * A symbol's newest price, to be listened to; null before there is one, and when the server serves it no more. Does not
   * subscribe: see `subscribe`.
   */
  priceStore(symbol: string): ReadableStore<PriceData | null> {
    return storeOf(this.#prices, symbol);
  }

  /** A symbol's state, to be listened to; null before it is known. Does not subscribe: see `subscribe`. */
  statusStore(symbol: string): ReadableStore<StatusData | null> {
    return storeOf(this.#statuses, symbol);
  }

  /** A symbol's newest price that has come, or null. */
  getPrice(symbol: string): PriceData | null {
    return this.priceStore(symbol).get();
  }

  /** A symbol's candles: history and live. Call `open()` on it to begin. */
  candles(symbol: string, interval: Interval): CandleSeries {
    const channel = candleChannel(symbol, interval);
    let series = this.#series.get(channel);
    if (series === undefined) {
      series = new CandleSeries(symbol, interval, this.#http, () => this.subscribe(channel));
      this.#series.set(channel, series);
    }
    return series;
  }

  // --- what the server has ---

  /** The symbols of the server, with their decimals; null until `learnSymbols` has them. */
  get symbols(): ReadableStore<readonly SymbolInfo[] | null> {
    return this.#symbols;
  }

  /** The symbols that are meant where none is named; null while unknown. */
  get defaultSymbols(): ReadableStore<readonly string[] | null> {
    return this.#defaults;
  }

  /** Ask for the symbols, unless they are known; where it fails it is tried again at the next connection. */
  learnSymbols(): Promise<void> {
    if (this.#symbols.get() !== null) return Promise.resolve();
    this.#learning ??= this.fetchSources()
      .then(
        () => undefined,
        () => undefined,
      )
      .finally(() => {
        this.#learning = null;
      });
    return this.#learning;
  }

  /** Every source with its state, and every symbol with its carrier. @throws AurexError */
  async fetchSources(): Promise<Sources> {
    const sources = (await this.#http.get("api/v1/sources")) as Sources;
    this.#symbols.set(sources.symbols);
    if (this.#options.symbols === undefined) {
      const defaults = sources.symbols.filter((symbol) => symbol.default).map(({ symbol }) => symbol);
      if (defaults.join() !== this.#defaults.get()?.join()) this.#defaults.set(defaults);
    }
    return sources;
  }

  /** How many clients, how many messages. @throws AurexError */
  async fetchStats(): Promise<Stats> {
    return (await this.#http.get("api/v1/ws/stats")) as Stats;
  }

  /** Published prices, one by one, of the last `hours`. @throws AurexError */
  async fetchHistory(symbol: string, hours: number, limit = 1000): Promise<PriceHistory> {
    return (await this.#http.get("api/v1/prices/history", { symbol, hours, limit })) as PriceHistory;
  }

  /** Ask the daemon anything else over HTTP (`api/v1/…`), with the token; the answer's JSON. @throws AurexError */
  get(path: string, query: Readonly<Record<string, string | number | undefined>> = {}): Promise<unknown> {
    return this.#http.get(path.replace(/^\//, ""), query);
  }

  /** Ask anything that the protocol has; the answer, or what the server has against it. @throws AurexError */
  request(message: ClientMessage): Promise<ServerMessage> {
    return this.#feed.request(message);
  }

  // --- inside ---

  #on<D extends { readonly symbol: string }, M>(
    listeners: Listeners<[D, M]>,
    handler: (data: D, message: M) => void,
    symbol: string | undefined,
    channel: (symbol: string) => string,
  ): Unsubscribe {
    const mine = (data: D): boolean =>
      (symbol === undefined ? (this.#defaults.get() ?? []) : [symbol]).includes(data.symbol);
    const stop = listeners.add((data, message) => {
      if (mine(data)) handler(data, message);
    });
    const leave = symbol === undefined ? this.subscribeDefaults(channel) : this.subscribe(channel(symbol));
    return () => {
      stop();
      leave();
    };
  }

  /** Have a channel of each default symbol, as soon as they are known. */
  subscribeDefaults(channel: (symbol: string) => string): Unsubscribe {
    let leave: Unsubscribe = () => undefined;
    const follow = (): void => {
      const before = leave;
      leave = this.subscribe(...(this.#defaults.get() ?? []).map(channel));
      before();
    };
    const stop = this.#defaults.subscribe(follow);
    follow();
    if (this.#defaults.get() === null) void this.learnSymbols();
    const hold = this.subscribe(); // something is wanted, even before it is known what
    return () => {
      stop();
      leave();
      hold();
    };
  }

  #both(stop: Unsubscribe, channel: string): Unsubscribe {
    const leave = this.subscribe(channel);
    return () => {
      stop();
      leave();
    };
  }

  #channelsChanged(): void {
    this.#feed.setChannels(new Set(this.#wanted.keys()));
    if (this.#subscriptions > 0) this.#start(false);
    else if (!this.#held) this.#linger();
  }

  #start(again: boolean): void {
    this.#environment.clearTimeout(this.#lingering);
    this.#lingering = null;
    this.#feed.start(again);
  }

  /** Another page of the same application may want it in a moment, and React's StrictMode does. */
  #linger(): void {
    if (this.#lingering !== null) return;
    this.#lingering = this.#environment.setTimeout(() => {
      this.#lingering = null;
      this.#feed.stop();
    }, this.#options.lingerMs ?? 5000);
  }

  #receive(message: ServerMessage): void {
    if (isChannelMessage(message)) this.#keep(message);
    else this.alerts.take(message);
    this.#handlers.message.call(message);
  }

  #keep(message: ChannelMessage): void {
    switch (message.type) {
      case "price_update":
        storeOf(this.#prices, message.data.symbol).set(message.data);
        this.#handlers.price.call(message.data, message);
        break;
      case "status": {
        storeOf(this.#statuses, message.data.symbol).set(message.data);
        // A price is only as good as its symbol's state is now, be it that no price comes any more.
        const prices = storeOf(this.#prices, message.data.symbol);
        const price = prices.get();
        if (price !== null && price.quality !== message.data.quality) {
          prices.set({ ...price, quality: message.data.quality });
        }
        this.#handlers.status.call(message.data, message);
        break;
      }
      case "candle":
        this.#series.get(channelOf(message) ?? "")?.put(message);
        this.#handlers.candle.call(message);
        break;
      case "alert":
        this.alerts.take(message);
        break;
      case "news":
        this.#handlers.news.call(message.data);
        break;
      case "sentiment":
        this.#handlers.sentiment.call(message.data);
        break;
      case "signal":
        this.#handlers.signal.call(message.data);
        break;
    }
  }

  /** What was known of a channel is not what is now, and nobody would say when it is. */
  #withdraw(channel: string): void {
    const [kind, symbol = ""] = channel.split(":");
    if (kind === "price") {
      storeOf(this.#prices, symbol).set(null);
      if (this.#symbols.get() !== null) void this.fetchSources().catch(() => undefined); // it may be gone from there
    } else if (kind === "status") storeOf(this.#statuses, symbol).set(null);
  }

  #changed(info: ConnectionInfo): void {
    const before = this.#connection.get();
    this.#connection.set(info);
    const isNew = info.session !== before.session || info.transport !== before.transport;
    if (isNew && (info.state === "connected" || info.state === "degraded")) {
      if (this.#defaults.get() === null) void this.learnSymbols();
      if (info.leader) this.alerts.connected(); // the others hear the answer
    }
    this.#handlers.connection.call(info.state, info);
  }

  async #getToken(reason: TokenReason): Promise<string | null> {
    return typeof this.#token === "function" ? await this.#token(reason) : (this.#token ?? null);
  }

  #base(): string {
    const given = this.#options.url ?? this.#environment.base;
    if (given === undefined) {
      throw new Error('where is aurexd? new AurexWebSocketClient({ url: "http://localhost:8000" })');
    }
    const url = new URL(given, this.#environment.base);
    url.protocol = url.protocol.replace(/^ws/, "http");
    if (!url.pathname.endsWith("/")) url.pathname += "/";
    url.search = url.hash = "";
    return url.href;
  }
}

function storeOf<T>(stores: Map<string, Store<T | null>>, key: string): Store<T | null> {
  let store = stores.get(key);
  if (store === undefined) {
    store = new Store<T | null>(null);
    stores.set(key, store);
  }
  return store;
}

let shared: AurexWebSocketClient | null = null;

/** The one client of this page; `options` count at the first call. */
export function getWebSocketClient(options?: ClientOptions): AurexWebSocketClient {
  shared ??= new AurexWebSocketClient(options);
  return shared;
}
