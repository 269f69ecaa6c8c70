/** Puts the dashboard into an element of a page, and takes it away again. */

import { AurexWebSocketClient } from "@aurexd/client";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Dashboard } from "./Dashboard";
import { type Session, Sessions } from "./session";
import { SettingsStore } from "./settings";
import { Toasts } from "./toasts";
import "./fonts.css";
import "react-grid-layout/css/styles.css";
import "./styles.css";

export interface DashboardOptions {
  /** Where the daemon is (`https://gold.example.org/`); unless said, where the page comes from. */
  readonly url?: string;
  /** A signed token, or how to get one; without it the user is asked when the daemon wants one. */
  readonly token?: string | (() => string | null | Promise<string | null>);
  /** Under which name the browser keeps the layout: one for each dashboard of a site that is to have its own. */
  readonly keepAs?: string;
  /** It is the whole page: the title shows the price. */
  readonly page?: boolean;
}

/** @returns takes it away, and closes the connection */
export function mountDashboard(element: HTMLElement, options: DashboardOptions = {}): () => void {
  const base = new URL(options.url ?? ".", document.baseURI);
  base.protocol = base.protocol.replace(/^ws/, "http");
  if (!base.pathname.endsWith("/")) base.pathname += "/";
  const { token } = options;
  const given = typeof token === "string" ? () => token : token;
  const sessions = new Sessions(base.href, given ?? null, (settings) => new AurexWebSocketClient(settings));
  const settings = new SettingsStore(storage(), options.keepAs);
  const root = createRoot(element);
  root.render(
    <StrictMode>
      <Dashboard sessions={sessions} settings={settings} toasts={new Toasts()} page={options.page ?? false} />
    </StrictMode>,
  );
  return () => {
    root.unmount();
    sessions.close();
  };
}

/** Null where the browser forbids it. */
function storage(): Storage | null {
  try {
    return localStorage;
  } catch {
    return null;
  }
}

export type { Session };
