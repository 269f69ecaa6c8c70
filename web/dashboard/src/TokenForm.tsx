/** Asks for a token where the daemon wants one. */

import { useState } from "react";
import type { Connection } from "./daemon";

const TOKEN_CAUSES: readonly (string | null)[] = ["unauthenticated", "auth_timeout", "bad_token", "token_expired"];

export function wantsToken(connection: Connection): boolean {
  return connection.state !== "connected" && connection.state !== "degraded" && TOKEN_CAUSES.includes(connection.cause);
}

const WORDS: Readonly<Record<string, string>> = {
  bad_token: "That token is not valid here. Ask the operator for another one.",
  token_expired: "The token has expired. Enter a new one.",
};

export function TokenForm({ cause, show }: { cause: string | null; show: (token: string) => void }) {
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const said =
    problem ?? WORDS[cause ?? ""] ?? "This server asks who you are. Enter the token that its operator gave you.";
  return (
    <form
      className="banner"
      aria-label="Who you are"
      data-tone={problem || WORDS[cause ?? ""] ? "bad" : "info"}
      data-testid="token"
      onSubmit={(event) => {
        event.preventDefault();
        const text = token.trim();
        if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(text)) show(text);
        else setProblem("That is no token: it has three parts with points between them.");
      }}
    >
      <label htmlFor="aurex-token">
        <strong>Token.</strong> {said}
      </label>
      <input
        id="aurex-token"
        type="password"
        autoComplete="off"
        required
        value={token}
        onChange={(event) => {
          setToken(event.target.value);
          setProblem(null);
        }}
      />
      <button type="submit" className="button primary">
        Connect
      </button>
    </form>
  );
}
