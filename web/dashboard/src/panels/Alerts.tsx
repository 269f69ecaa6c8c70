/** The user's alert rules, and what has fired with the reason why. */

import { useState } from "react";
import { blank, describe, formOf } from "../alert-form";
import { useApp } from "../app-context";
import {
  type AlertData,
  type RuleView,
  useAlertHistory,
  useAlerts,
  useDefaultSymbol,
  usePriceNow,
  useSymbols,
  whyFired,
} from "../daemon";
import { number, span, time } from "../format";
import { Bell, Plus } from "../icons";
import { useNow } from "../now";
import { useSettings } from "../settings";
import { failureWords, qualityWords, sentence, type Tone } from "../words";
import { Badge } from "./Quality";

const RULE_STATES: Readonly<Record<string, { tone: Tone; label: string }>> = {
  armed: { tone: "good", label: "Armed" },
  snoozed: { tone: "quiet", label: "Snoozed" },
  done: { tone: "quiet", label: "Done" },
  expired: { tone: "quiet", label: "Expired" },
};

const SNOOZE_MS = 3_600_000;

export function AlertsPanel() {
  const { editAlert, settings } = useApp();
  const chosen = useSettings(settings).symbol;
  const fallback = useDefaultSymbol();
  const symbol = chosen ?? fallback ?? "";
  const priceNow = usePriceNow(symbol);
  const symbols = useSymbols();
  const alerts = useAlerts();
  const [tab, setTab] = useState<"rules" | "history">("rules");
  const decimals = symbols.find((one) => one.symbol === symbol)?.decimals ?? 2;
  const barred = alerts.error !== null && alerts.rules.length === 0;
  return (
    <div className="stack">
      <div className="row">
        <div className="segments" role="tablist" aria-label="Alerts">
          <Tab id="rules" tab={tab} choose={setTab}>
            Rules{alerts.rules.length > 0 ? ` (${alerts.rules.length})` : ""}
          </Tab>
          <Tab id="history" tab={tab} choose={setTab}>
            History
          </Tab>
        </div>
        <button
          type="button"
          className="button"
          data-new-alert
          disabled={barred}
          onClick={() => editAlert(blank(symbol, decimals, priceNow()?.close, priceNow()?.close))}
        >
          <Plus /> New alert
        </button>
      </div>
      <div role="tabpanel" id={`alerts-${tab}`} aria-labelledby={`alerts-tab-${tab}`}>
        {tab === "rules" ? <Rules /> : <History />}
      </div>
      <Ways />
    </div>
  );
}

function Tab(props: {
  id: "rules" | "history";
  tab: string;
  choose: (tab: "rules" | "history") => void;
  children: React.ReactNode;
}) {
  const { id, tab, choose, children } = props;
  return (
    <button
      type="button"
      role="tab"
      id={`alerts-tab-${id}`}
      aria-selected={tab === id}
      aria-controls={`alerts-${id}`}
      tabIndex={tab === id ? 0 : -1}
      onClick={() => choose(id)}
      onKeyDown={(event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        const other = id === "rules" ? "history" : "rules";
        choose(other);
        document.getElementById(`alerts-tab-${other}`)?.focus();
      }}
    >
      {children}
    </button>
  );
}

function Rules() {
  const alerts = useAlerts();
  if (alerts.error && alerts.rules.length === 0) return <p className="empty">{alertTrouble(alerts.error)}</p>;
  if (alerts.rules.length === 0) {
    return (
      <p className="empty">
        {alerts.loading
          ? "Loading\u2026"
          : "No alerts yet. Make one here, or point at a price in the chart and press the + beside the scale."}
      </p>
    );
  }
  return (
    <ul className="rules" data-testid="rules">
      {[...alerts.rules].reverse().map((rule) => (
        <Rule key={rule.key} rule={rule} />
      ))}
    </ul>
  );
}

/** Why there are no alerts, and what to do. */
export function alertTrouble(error: { code: string; message: string }): string {
  switch (error.code) {
    case "not_available":
      return "This server has no alerts.";
    case "forbidden":
      return "Alerts need a token that allows them, or a browser on the daemon's own machine.";
    default:
      return sentence(error.message);
  }
}

function Rule({ rule }: { rule: RuleView }) {
  const { editAlert, toasts } = useApp();
  const alerts = useAlerts();
  const now = useNow();
  const decimals = useSymbols().find((one) => one.symbol === rule.symbol)?.decimals ?? 2;
  const state = RULE_STATES[rule.state] ?? { tone: "warn" as const, label: rule.state };
  const words = describe(rule.condition, decimals);
  const attempt = (what: string, done: Promise<unknown>) => {
    done.catch((error: unknown) => toasts.show({ tone: "bad", title: what, detail: failureWords(error) }));
  };
  const snoozed = rule.state === "snoozed";
  const unborn = rule.pending === "create"; // the server does not know it yet
  const notes = [
    rule.repeat === "once" ? "once" : rule.repeat === "every_time" ? "every time" : "once per session",
    snoozed && rule.snoozed_until ? `until ${time(Date.parse(rule.snoozed_until), now)}` : null,
    rule.expires ? `expires ${time(Date.parse(rule.expires), now)}` : null,
    rule.cooldown_s > 0 ? `at most every ${span(rule.cooldown_s * 1000)}` : null,
  ].filter((note) => note !== null);
  return (
    <li className="rule" data-pending={rule.pending !== null} data-state={rule.state}>
      <div className="rule-words">
        <span>
          <strong>{rule.symbol}</strong> {words}
        </span>
        <span className="muted small">
          {notes.join(" \u00b7 ")}
          {rule.note ? ` \u00b7 \u201c${rule.note}\u201d` : ""}
        </span>
      </div>
      <Badge tone={state.tone} label={rule.pending ? "Saving" : state.label} />
      <div className="rule-actions">
        {rule.state === "armed" || snoozed ? (
          <button
            type="button"
            className="link"
            disabled={unborn}
            onClick={() =>
              attempt(
                snoozed ? "The alert was not woken" : "The alert was not snoozed",
                alerts.snooze(rule.rule_id, snoozed ? null : new Date(Date.now() + SNOOZE_MS)),
              )
            }
          >
            {snoozed ? "Wake" : "Snooze 1 h"}
            <span className="hidden">: {words}</span>
          </button>
        ) : null}
        <button
          type="button"
          className="link"
          disabled={unborn}
          onClick={() => editAlert(formOf(rule, decimals), rule.rule_id)}
        >
          Edit<span className="hidden">: {words}</span>
        </button>
        <button
          type="button"
          className="link"
          disabled={unborn}
          data-delete
          onClick={({ currentTarget }) => {
            focusNeighbour(currentTarget);
            attempt("The alert was not deleted", alerts.remove(rule.rule_id));
          }}
        >
          Delete<span className="hidden">: {words}</span>
        </button>
      </div>
    </li>
  );
}

/** The focus goes on to the next rule before its own goes away; after the last one, to where rules are made. */
function focusNeighbour(button: HTMLElement): void {
  const rule = button.closest("li");
  const other = rule?.nextElementSibling ?? rule?.previousElementSibling;
  const next = other
    ? other.querySelector<HTMLElement>("[data-delete]")
    : button.closest(".panel")?.querySelector<HTMLElement>("[data-new-alert]");
  next?.focus();
}

function History() {
  const { entries, error, loading } = useAlertHistory();
  if (entries.length === 0) {
    return <p className="empty">{error ?? (loading ? "Loading\u2026" : "No alert has fired yet.")}</p>;
  }
  return (
    <ol className="fired" data-testid="fired">
      {entries.map((alert) => (
        <Fired key={alert.alert_id} alert={alert} />
      ))}
    </ol>
  );
}

function Fired({ alert }: { alert: AlertData }) {
  const { daemon } = useApp();
  const now = useNow();
  const [why, setWhy] = useState<string | null>(null);
  const decimals = useSymbols().find((one) => one.symbol === alert.symbol)?.decimals ?? 2;
  const ask = () => {
    whyFired(daemon, alert.alert_id)
      .then((said) => setWhy(said === null ? "The server does not say more." : sentence(said)))
      .catch((error: unknown) => setWhy(failureWords(error)));
  };
  return (
    <li>
      <time dateTime={alert.fired}>{time(Date.parse(alert.fired), now)}</time>
      <div>
        <span>
          <strong>{alert.symbol}</strong> {describe(alert.condition, decimals)}
        </span>
        <span className="muted small">{firedWords(alert, decimals)}</span>
        {why === null ? (
          <button type="button" className="link" onClick={ask}>
            Why
            <span className="hidden">
              {" "}
              did {alert.symbol} {describe(alert.condition, decimals)} fire
            </span>
          </button>
        ) : (
          <span className="small" role="status">
            {why}
          </span>
        )}
      </div>
    </li>
  );
}

/** What made it fire, in words: `2,049.80 → 2,050.10 from alltick, live`. */
export function firedWords(alert: AlertData, decimals: number): string {
  const parts: string[] = [];
  if (alert.close !== null) {
    const before = alert.previous_close === null ? "" : `${number(alert.previous_close, decimals)} \u2192 `;
    const source = alert.source ? ` from ${alert.source}` : "";
    parts.push(
      `${before}${number(alert.close, decimals)}${source}, ${qualityWords(alert.quality).label.toLowerCase()}`,
    );
  }
  if (alert.late) parts.push("it happened while aurexd was down");
  else if (alert.redelivered) parts.push("it fired while this page was away");
  if (alert.note) parts.push(`\u201c${alert.note}\u201d`);
  return parts.join(" \u00b7 ");
}

/** How alerts make themselves noticed, besides on the page. */
function Ways() {
  const { settings, toasts } = useApp();
  const { sound, notifications } = useSettings(settings);
  const notify = async (wanted: boolean) => {
    if (!wanted) {
      settings.set({ notifications: false });
      return;
    }
    const answer = "Notification" in window ? await Notification.requestPermission() : "missing";
    if (answer === "granted") {
      settings.set({ notifications: true });
      return;
    }
    toasts.show({
      tone: "warn",
      title: "No notifications",
      detail:
        answer === "missing"
          ? "This browser has none."
          : "The browser does not allow this page to send them. Allow them in its settings for this site.",
    });
  };
  return (
    <div className="ways">
      <Bell />
      <label>
        <input type="checkbox" checked={sound} onChange={(event) => settings.set({ sound: event.target.checked })} />{" "}
        Sound
      </label>
      <label>
        <input type="checkbox" checked={notifications} onChange={(event) => void notify(event.target.checked)} />{" "}
        Browser notifications
      </label>
    </div>
  );
}
