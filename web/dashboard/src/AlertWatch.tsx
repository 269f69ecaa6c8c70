/** Makes alerts noticed when they fire, and when the page comes back to what fired while it was away. */

import { useAurexClient } from "@aurexd/client/react";
import { useEffect } from "react";
import { describe } from "./alert-form";
import { useApp } from "./app-context";
import { chime, notification } from "./notify";
import { firedWords } from "./panels/Alerts";

/** How many of those that waited are shown one by one. */
const ONE_BY_ONE = 3;
const GATHER_MS = 300;

export function AlertWatch() {
  const client = useAurexClient();
  const { settings, toasts } = useApp();
  useEffect(() => {
    let waited = 0;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = client.onAlert((alert) => {
      const { sound, notifications } = settings.get();
      const decimals = client.symbols.get()?.find((one) => one.symbol === alert.symbol)?.decimals ?? 2;
      const title = `${alert.symbol} ${describe(alert.condition, decimals)}`;
      const detail = firedWords(alert, decimals);
      const away = alert.redelivered || alert.late;
      if (away) {
        waited += 1;
        if (waited > ONE_BY_ONE) {
          clearTimeout(timer);
          timer = setTimeout(() => {
            const more = waited - ONE_BY_ONE;
            waited = 0;
            toasts.show(
              {
                tone: "info",
                title: `${more} more fired while you were away`,
                detail: "They stand in the alerts' history.",
              },
              Infinity,
            );
          }, GATHER_MS);
          return;
        }
      }
      toasts.show({ tone: "info", title, detail }, Infinity);
      // Of several tabs, one makes a noise.
      if (!client.connection.leader) return;
      if (sound) chime();
      if (notifications) notification(title, detail, alert.alert_id);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [client, settings, toasts]);
  return null;
}
