/** What goes wrong with something that was asked of the server. */

/** A request was not acted on, or it is not known whether it was. */
export class AurexError extends Error {
  override readonly name = "AurexError";
  /**
   * One of the protocol's error codes, or of this client's own: `not_connected` (it was not sent), `connection_lost`
   * and `timeout` (it was sent, and there is no answer: it may or may not have been acted on).
   */
  readonly code: string;
  /** Wait at least so long before asking again. */
  readonly retryAfterMs: number | null;

  constructor(code: string, message: string, retryAfterMs: number | null = null) {
    super(message);
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}
