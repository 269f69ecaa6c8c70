/** What may be asked about alerts over HTTP, where the line that there is carries no requests: the same answers. */
import { AurexError } from "./errors.js";
import { HttpFailure, type Http } from "./http.js";
import type { ClientMessage, ServerMessage } from "./protocol.gen.js";

type AlertMessage = Extract<ClientMessage, { type: `alert.${string}` }>;

const ALERTS = "api/v1/alerts";

/** The statuses of the daemon's answers, as the codes that it has in messages. */
const CODES: Readonly<Record<number, string>> = {
  400: "invalid_message",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  409: "too_many_rules",
  429: "rate_limited",
  503: "unavailable",
};

/** Whether this is one of them. */
export function isAlertMessage(message: ClientMessage): message is AlertMessage {
  return message.type.startsWith("alert.");
}

/** Ask it. @throws AurexError with the codes that the WebSocket has */
export async function askOverHttp(http: Http, message: AlertMessage, ms: number): Promise<ServerMessage> {
  const { method, url, body, answer } = requestOf(http, message);
  try {
    const data = await http.ask(method, url, { body, ms });
    return { type: answer, data, timestamp: "" } as ServerMessage; // it is what the daemon's schema says of both
  } catch (error) {
    if (!(error instanceof HttpFailure)) throw error;
    throw new AurexError(CODES[error.status] ?? error.code, error.message, error.retryAfterMs);
  }
}

interface Request {
  readonly method: string;
  readonly url: URL;
  readonly body?: unknown;
  readonly answer: ServerMessage["type"];
}

function requestOf(http: Http, message: AlertMessage): Request {
  const ruleOf = (ruleId: string): URL => http.url(`${ALERTS}/${encodeURIComponent(ruleId)}`);
  switch (message.type) {
    case "alert.create":
      return { method: "POST", url: http.url(ALERTS), body: message.data, answer: "alert.created" };
    case "alert.list": {
      const url = http.url(ALERTS, { symbol: message.data?.symbol ?? undefined });
      return { method: "GET", url, answer: "alert.listed" };
    }
    case "alert.update": {
      const { rule_id: ruleId, ...body } = message.data;
      return { method: "PATCH", url: ruleOf(ruleId), body, answer: "alert.updated" };
    }
    case "alert.delete":
      return { method: "DELETE", url: ruleOf(message.data.rule_id), answer: "alert.deleted" };
    case "alert.ack":
      return { method: "POST", url: http.url(`${ALERTS}/ack`), body: message.data, answer: "alert.acked" };
  }
}
