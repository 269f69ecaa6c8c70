/** The short messages in the corner. */

import { useSyncExternalStore } from "react";
import { useApp } from "./app-context";
import { Cross } from "./icons";
import { Sign } from "./panels/Quality";

export function ToastList() {
  const { toasts } = useApp();
  const shown = useSyncExternalStore(toasts.subscribe, toasts.get);
  return (
    <div className="toasts" role="status" data-testid="toasts">
      {shown.map((toast) => (
        <div key={toast.id} className="toast" data-tone={toast.tone}>
          <Sign tone={toast.tone} />
          <div>
            <strong>{toast.title}</strong>
            {toast.detail ? <p>{toast.detail}</p> : null}
          </div>
          <button
            type="button"
            className="icon-button"
            aria-label={`Close: ${toast.title}`}
            onClick={() => toasts.close(toast.id)}
          >
            <Cross />
          </button>
        </div>
      ))}
    </div>
  );
}
