/** Messages as the daemon sends them. */
import type { Alert, AlertRule, Candle, PriceUpdate, Welcome } from "../src/protocol.gen.js";

const PUBLISHED = "2026-01-01T12:00:00.123Z";

export function price(
  close: number,
  more: Partial<PriceUpdate["data"]> & { update_count?: number; symbol?: string } = {},
): PriceUpdate {
  const { update_count = 1, ...data } = more;
  return {
    type: "price_update",
    data: {
      symbol: "TESTGOLD",
      close,
      change: null,
      change_pct: null,
      timestamp: "2026-01-01T12:00:00Z",
      bid: close - 0.1,
      ask: close + 0.1,
      source: "simulated",
      instrument: "test",
      quality: "simulated",
      ...data,
    },
    timestamp: PUBLISHED,
    update_count,
  };
}

export function candle(more: Partial<Candle["data"]> = {}): Candle {
  return {
    type: "candle",
    data: {
      symbol: "TESTGOLD",
      interval: "1m",
      start: "2026-01-01T12:00:00Z",
      end: "2026-01-01T12:01:00Z",
      open: 2700,
      high: 2701,
      low: 2699,
      close: 2700.5,
      ticks: 10,
      instrument: "test",
      final: false,
      revision: 0,
      filled: false,
      ...more,
    },
    timestamp: PUBLISHED,
    update_count: 1,
  };
}

export function alert(more: Partial<Alert["data"]> & { update_count?: number } = {}): Alert {
  const { update_count = 1, ...data } = more;
  return {
    type: "alert",
    data: {
      alert_id: `a-${String(update_count)}`,
      rule_id: "r-1",
      symbol: "TESTGOLD",
      condition: { kind: "crosses_up", level: 2700 },
      close: 2700.1,
      previous_close: 2699.9,
      source: "simulated",
      instrument: "test",
      quality: "simulated",
      timestamp: "2026-01-01T12:00:00Z",
      fired: PUBLISHED,
      late: false,
      paused_until: null,
      redelivered: false,
      note: "",
      ...data,
    },
    timestamp: PUBLISHED,
    update_count,
  };
}

export function rule(more: Partial<AlertRule> = {}): AlertRule {
  return {
    rule_id: "r-1",
    owner: "local",
    state: "armed",
    symbol: "TESTGOLD",
    condition: { kind: "above", level: 2700 },
    repeat: "once",
    hysteresis: null,
    cooldown_s: 0,
    expires: null,
    snoozed_until: null,
    note: "",
    created: "2026-01-01T12:00:00Z",
    fired_count: 0,
    last_fired: null,
    ...more,
  };
}

export function welcome(more: Partial<Welcome["data"]> = {}): Welcome {
  return {
    type: "welcome",
    data: {
      session: "s-1",
      version: "0.1.0",
      epoch: "e1",
      server_time: PUBLISHED,
      auth: "open",
      heartbeat: { ping_interval_s: 20, pong_timeout_s: 10, silence_s: 5 },
      limits: {
        max_message_bytes: 16_384,
        max_messages_per_second: 10,
        max_control_frames_per_second: 10,
        max_channels: 256,
        idle_timeout_s: 300,
        send_queue_bytes: 65_536,
      },
      ...more,
    },
    timestamp: PUBLISHED,
  };
}
