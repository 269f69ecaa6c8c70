/** The form in which an alert rule is made or changed. */

import { type ReactNode, useId, useLayoutEffect, useRef, useState } from "react";
import {
  type AlertForm,
  check,
  CONDITION_KINDS,
  CONDITIONS,
  type ConditionKind,
  MAX_NOTE,
  type Problems,
  WINDOWS_S,
} from "./alert-form";
import { useApp } from "./app-context";
import { useAlerts, usePrice, useSymbols } from "./daemon";
import { number } from "./format";
import { Cross } from "./icons";
import { useNow } from "./now";
import { failureWords } from "./words";

export interface Editing {
  readonly form: AlertForm;
  /** Null: a new one. */
  readonly ruleId: string | null;
}

/** What a form of any kind asks for first. */
const FIRST_FIELD = "[name=level], [name=low], [name=amount], [name=percent]";

export function AlertDialog({ editing, close }: { editing: Editing; close: () => void }) {
  const { toasts } = useApp();
  const alerts = useAlerts();
  const symbols = useSymbols();
  const [form, setForm] = useState(editing.form);
  const [problems, setProblems] = useState<Problems>({});
  const [failure, setFailure] = useState<string | null>(null);
  const [saving, setSaving] = useState(false);
  const dialog = useRef<HTMLDialogElement>(null);
  const title = useId();
  const decimals = symbols.find((one) => one.symbol === form.symbol)?.decimals ?? 2;
  const price = usePrice(form.symbol);
  const now = useNow();
  const fields = CONDITIONS[form.kind].fields;
  const change = (part: Partial<AlertForm>) => {
    setForm({ ...form, ...part });
    setProblems({});
    setFailure(null);
  };

  // While it is still in the page: only then does the browser give the focus back to where it was.
  useLayoutEffect(() => {
    const element = dialog.current;
    element?.showModal();
    // Where there are keys, what is typed first; elsewhere it would only bring a keyboard up over the form.
    if (matchMedia("(pointer: fine)").matches) element?.querySelector<HTMLInputElement>(FIRST_FIELD)?.select();
    return () => element?.close();
  }, []);

  const save = async () => {
    const checked = check(form, decimals, now);
    if (!checked.rule) {
      setProblems(checked.problems);
      const first = Object.keys(checked.problems)[0];
      dialog.current?.querySelector<HTMLElement>(`[name="${first}"]`)?.focus();
      return;
    }
    setSaving(true);
    try {
      const { symbol: _, ...rest } = checked.rule;
      if (editing.ruleId === null) await alerts.create(checked.rule);
      else await alerts.update({ rule_id: editing.ruleId, ...rest });
      toasts.show({ tone: "good", title: editing.ruleId === null ? "Alert made" : "Alert changed", detail: "" });
      close();
    } catch (error) {
      setFailure(failureWords(error));
      setSaving(false);
    }
  };

  const text = (
    name: "level" | "low" | "high" | "amount" | "percent" | "hysteresis" | "cooldownMinutes",
    label: string,
    after?: string,
  ) => (
    <Field label={label} problem={problems[name]} after={after}>
      {(props) => (
        <input
          {...props}
          name={name}
          inputMode="decimal"
          autoComplete="off"
          value={form[name]}
          onChange={(event) => change({ [name]: event.target.value })}
        />
      )}
    </Field>
  );

  return (
    <dialog
      ref={dialog}
      className="dialog"
      aria-labelledby={title}
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
    >
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void save();
        }}
      >
        <div className="dialog-head">
          <h2 id={title}>{editing.ruleId === null ? "New alert" : "Edit alert"}</h2>
          <button type="button" className="icon-button" onClick={close} aria-label="Close">
            <Cross />
          </button>
        </div>
        <div className="fields">
          <Field label="Symbol" problem={problems.symbol}>
            {(props) =>
              editing.ruleId === null ? (
                <select
                  {...props}
                  name="symbol"
                  value={form.symbol}
                  onChange={(event) => change({ symbol: event.target.value })}
                >
                  {symbols.map((one) => (
                    <option key={one.symbol}>{one.symbol}</option>
                  ))}
                </select>
              ) : (
                <input {...props} name="symbol" value={form.symbol} readOnly />
              )
            }
          </Field>
          <Field label="When" problem={problems.kind}>
            {(props) => (
              <select
                {...props}
                name="kind"
                value={form.kind}
                onChange={(event) => change({ kind: event.target.value as ConditionKind })}
              >
                {CONDITION_KINDS.map((kind) => (
                  <option key={kind} value={kind}>
                    {CONDITIONS[kind].label}
                  </option>
                ))}
              </select>
            )}
          </Field>
          {fields.includes("level")
            ? text("level", "Level", price ? `now ${number(price.close, decimals)}` : undefined)
            : null}
          {fields.includes("low") ? text("low", "From") : null}
          {fields.includes("high")
            ? text("high", "To", price ? `now ${number(price.close, decimals)}` : undefined)
            : null}
          {fields.includes("amount") ? text("amount", "By") : null}
          {fields.includes("percent") ? text("percent", "By", "%") : null}
          {fields.includes("window") ? (
            <Field label="Within">
              {(props) => (
                <select
                  {...props}
                  name="window"
                  value={form.window}
                  onChange={(event) => change({ window: Number(event.target.value) })}
                >
                  {(WINDOWS_S.some(([seconds]) => seconds === form.window)
                    ? WINDOWS_S
                    : [...WINDOWS_S, [form.window, `${form.window} s`] as const]
                  ).map(([seconds, label]) => (
                    <option key={seconds} value={seconds}>
                      {label}
                    </option>
                  ))}
                </select>
              )}
            </Field>
          ) : null}
          {fields.includes("direction") ? (
            <Field label="Direction">
              {(props) => (
                <select
                  {...props}
                  name="direction"
                  value={form.direction}
                  onChange={(event) => change({ direction: event.target.value as AlertForm["direction"] })}
                >
                  <option value="either">up or down</option>
                  <option value="up">up</option>
                  <option value="down">down</option>
                </select>
              )}
            </Field>
          ) : null}
          <Field label="How often">
            {(props) => (
              <select
                {...props}
                name="repeat"
                value={form.repeat}
                onChange={(event) => change({ repeat: event.target.value as AlertForm["repeat"] })}
              >
                <option value="once">once, then it is done</option>
                <option value="every_time">every time</option>
                <option value="once_per_session">once per session of the market</option>
              </select>
            )}
          </Field>
          <Field label="Note" problem={problems.note}>
            {(props) => (
              <input
                {...props}
                name="note"
                maxLength={MAX_NOTE}
                value={form.note}
                onChange={(event) => change({ note: event.target.value })}
              />
            )}
          </Field>
          <details open={Boolean(form.hysteresis || form.cooldownMinutes || form.expires)}>
            <summary>More</summary>
            <div className="fields">
              {text("hysteresis", "Must come back by", "before it can fire again")}
              {text("cooldownMinutes", "At most every", "minutes")}
              <Field label="Expires" problem={problems.expires}>
                {(props) => (
                  <input
                    {...props}
                    name="expires"
                    type="datetime-local"
                    value={form.expires}
                    onChange={(event) => change({ expires: event.target.value })}
                  />
                )}
              </Field>
            </div>
          </details>
        </div>
        {failure ? (
          <p className="note" data-tone="bad" role="alert">
            {failure}
          </p>
        ) : null}
        <div className="dialog-foot">
          <button type="button" className="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" className="button primary" disabled={saving}>
            {editing.ruleId === null ? "Make alert" : "Save"}
          </button>
        </div>
      </form>
    </dialog>
  );
}

interface FieldProps {
  label: string;
  problem?: string | undefined;
  after?: string | undefined;
  children: (props: { id: string; "aria-invalid": boolean; "aria-describedby": string | undefined }) => ReactNode;
}

function Field({ label, problem, after, children }: FieldProps) {
  const id = useId();
  const said = problem ?? after;
  return (
    <div className="field">
      <label htmlFor={id}>{label}</label>
      <div>
        {children({ id, "aria-invalid": problem !== undefined, "aria-describedby": said ? `${id}-said` : undefined })}
        {said ? (
          <p id={`${id}-said`} className={problem ? "problem" : "muted small"}>
            {said}
          </p>
        ) : null}
      </div>
    </div>
  );
}
