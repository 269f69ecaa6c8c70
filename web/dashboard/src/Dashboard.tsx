/** The whole of it: the bar above, what has to be said of the connection, the panels, and what comes up over them. */

import { AurexProvider } from "@aurexd/client/react";
import { type CSSProperties, useCallback, useEffect, useMemo, useState, useSyncExternalStore } from "react";
import type { AlertForm } from "./alert-form";
import { AlertDialog, type Editing } from "./AlertDialog";
import { AlertWatch } from "./AlertWatch";
import { AppProvider, useApp } from "./app-context";
import { useConnection, useDefaultSymbol, usePriceNow, useStatus, useSymbol, useSymbols } from "./daemon";
import { number } from "./format";
import { Grid } from "./Grid";
import { useNow } from "./now";
import { Sign } from "./panels/Quality";
import type { Session, Sessions } from "./session";
import { type SettingsStore, useSettings } from "./settings";
import { useThemeName } from "./theme";
import { ToastList } from "./ToastList";
import type { Toasts } from "./toasts";
import { TokenForm, wantsToken } from "./TokenForm";
import { TopBar } from "./TopBar";
import { connectionNotice, qualityWords } from "./words";

interface Props {
  readonly sessions: Sessions;
  readonly settings: SettingsStore;
  readonly toasts: Toasts;
  readonly page: boolean;
}

export function Dashboard({ sessions, settings, toasts, page }: Props) {
  const session = useSyncExternalStore(sessions.subscribe, sessions.get);
  const [editing, setEditing] = useState<Editing | null>(null);
  const { client, daemon, log } = session;
  const editAlert = useCallback((form: AlertForm, ruleId?: string) => {
    setEditing({ form, ruleId: ruleId ?? null });
  }, []);
  const app = useMemo(() => ({ daemon, log, settings, toasts, editAlert }), [daemon, log, settings, toasts, editAlert]);
  const close = useCallback(() => {
    setEditing(null);
  }, []);
  return (
    <AurexProvider client={client}>
      <AppProvider value={app}>
        <Frame page={page}>
          <TopBar />
          <ConnectionNotice session={session} sessions={sessions} />
          <Grid />
          <footer className="foot">
            Charts by{" "}
            <a href="https://www.tradingview.com/" target="_blank" rel="noreferrer">
              TradingView
            </a>{" "}
            Lightweight Charts
          </footer>
          <ToastList />
          <AlertWatch />
          <StatusWatch />
          <Said />
          {editing ? <AlertDialog editing={editing} close={close} /> : null}
          {page ? <Title /> : null}
        </Frame>
      </AppProvider>
    </AurexProvider>
  );
}

function Frame({ page, children }: { page: boolean; children: React.ReactNode }) {
  const theme = useThemeName();
  useEffect(() => {
    if (!page) return;
    document.documentElement.dataset["aurexTheme"] = theme;
  }, [page, theme]);
  const scheme: CSSProperties = { colorScheme: theme };
  return (
    <div className="aurex" data-theme={theme} style={scheme}>
      {children}
    </div>
  );
}

/** What is wrong with the line, and what can be done; the place for a token where one is wanted. */
function ConnectionNotice({ session, sessions }: { session: Session; sessions: Sessions }) {
  const connection = useConnection();
  const now = useNow();
  if (session.asks && wantsToken(connection)) {
    return <TokenForm cause={connection.cause} show={(token) => sessions.show(token)} />;
  }
  const notice = connectionNotice(connection, now);
  if (!notice) return null;
  return (
    <section className="banner" aria-label="Connection" data-tone={notice.tone} data-testid="banner">
      <Sign tone={notice.tone} />
      <p>
        <strong>{notice.title}.</strong> {notice.detail}
      </p>
      {connection.state === "connecting" || connection.state === "disconnected" ? (
        <button type="button" className="button" onClick={() => session.client.connect()}>
          Try now
        </button>
      ) : null}
    </section>
  );
}

/** Keeps the log of what changed, for all symbols, whatever panels there are. */
function StatusWatch() {
  const symbols = useSymbols();
  return symbols.map(({ symbol }) => <StatusWatchOne key={symbol} symbol={symbol} />);
}

function StatusWatchOne({ symbol }: { symbol: string }) {
  const { log } = useApp();
  const status = useStatus(symbol);
  useEffect(() => {
    if (status) log.put([status]);
  }, [log, status]);
  return null;
}

/** The symbol that is looked at. */
function useChosen(): string | null {
  const { settings } = useApp();
  const { symbol } = useSettings(settings);
  const fallback = useDefaultSymbol();
  return symbol ?? fallback;
}

/** For screen readers: what changes rarely and matters. Prices would drown everything. */
function Said() {
  const symbol = useChosen();
  const status = useStatus(symbol ?? "");
  const connection = useConnection();
  const words =
    connection.state === "connected" || connection.state === "degraded"
      ? status
        ? `${status.symbol}: ${qualityWords(status.quality).label}. ${status.reason}`
        : ""
      : "Not connected";
  return (
    <p className="hidden" role="status">
      {words}
    </p>
  );
}

/** The page's title has the price, for who looks at another tab. */
function Title() {
  const symbol = useChosen() ?? "";
  useNow(); // once a second is enough for who looks at another tab
  const price = usePriceNow(symbol)();
  const decimals = useSymbol(symbol)?.decimals ?? 2;
  const connection = useConnection();
  const lost = connection.state === "connecting" || connection.state === "disconnected";
  const doubt = lost ? "not connected \u00b7 " : price && price.quality !== "live" ? `${price.quality} \u00b7 ` : "";
  const title = price ? `${number(price.close, decimals)} ${symbol} \u00b7 ${doubt}aurexd` : `${doubt}aurexd`;
  useEffect(() => {
    document.title = title;
  }, [title]);
  return null;
}
