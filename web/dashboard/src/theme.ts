/** Dark or light: as the user says, else as the device does. */

import { useSyncExternalStore } from "react";
import { useApp } from "./app-context";
import { useSettings } from "./settings";

const QUERY = "(prefers-color-scheme: light)";

function subscribe(listener: () => void): () => void {
  const query = matchMedia(QUERY);
  query.addEventListener("change", listener);
  return () => query.removeEventListener("change", listener);
}

export type ThemeName = "dark" | "light";

export function useThemeName(): ThemeName {
  const { settings } = useApp();
  const { theme } = useSettings(settings);
  const device = useSyncExternalStore(subscribe, () => (matchMedia(QUERY).matches ? "light" : "dark"));
  return theme === "auto" ? device : theme;
}
