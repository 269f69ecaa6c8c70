/**
 * The dashboard as an element, for pages of others:
 *
 *     <link rel="stylesheet" href="https://gold.example.org/page/mount-….css">
 *     <script type="module" src="https://gold.example.org/page/embed-….js"></script>
 *     <aurex-dashboard url="https://gold.example.org/"></aurex-dashboard>
 */

import { type DashboardOptions, mountDashboard } from "./mount";

export { mountDashboard, type DashboardOptions };

/** Attributes: `url` and `keep-as`, as `DashboardOptions` has them. A token is given as the property `token`. */
export class AurexDashboard extends HTMLElement {
  token: DashboardOptions["token"];
  #take: (() => void) | null = null;

  connectedCallback(): void {
    const url = this.getAttribute("url");
    const keepAs = this.getAttribute("keep-as");
    this.#take = mountDashboard(this, {
      ...(url !== null && { url }),
      ...(keepAs !== null && { keepAs }),
      ...(this.token !== undefined && { token: this.token }),
    });
  }

  disconnectedCallback(): void {
    this.#take?.();
    this.#take = null;
  }
}

if (!customElements.get("aurex-dashboard")) customElements.define("aurex-dashboard", AurexDashboard);
