/** What every part of the page may use: the daemon, the settings, and how to open the alert form. */

import { createContext, useContext } from "react";
import type { AlertForm } from "./alert-form";
import type { Daemon, StatusLog } from "./daemon";
import type { SettingsStore } from "./settings";
import type { Toasts } from "./toasts";

export interface App {
  readonly daemon: Daemon;
  readonly settings: SettingsStore;
  readonly toasts: Toasts;
  readonly log: StatusLog;
  /** Opens the form: for a new rule, or for the one that is to be changed. */
  readonly editAlert: (form: AlertForm, ruleId?: string) => void;
}

const Context = createContext<App | null>(null);

export const AppProvider = Context.Provider;

export function useApp(): App {
  const app = useContext(Context);
  if (!app) throw new Error("this part of the page stands outside of the dashboard");
  return app;
}
