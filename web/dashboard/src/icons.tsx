/** The few signs that are drawn; all say nothing to a screen reader, which reads the words beside them. */

import type { ReactNode } from "react";

function Icon({ children }: { children: ReactNode }) {
  return (
    <svg className="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      {children}
    </svg>
  );
}

export const Up = () => (
  <Icon>
    <path d="M8 3.2 13.6 12H2.4z" fill="currentColor" />
  </Icon>
);

export const Down = () => (
  <Icon>
    <path d="M8 12.8 2.4 4h11.2z" fill="currentColor" />
  </Icon>
);

export const Flat = () => (
  <Icon>
    <path d="M3 7h10v2H3z" fill="currentColor" />
  </Icon>
);

export const Dot = () => (
  <Icon>
    <circle cx="8" cy="8" r="4" fill="currentColor" />
  </Icon>
);

export const Ring = () => (
  <Icon>
    <circle cx="8" cy="8" r="4" fill="none" stroke="currentColor" strokeWidth="2" />
  </Icon>
);

export const Warn = () => (
  <Icon>
    <path d="M8 1.6 15 14H1z" fill="none" stroke="currentColor" strokeWidth="1.5" strokeLinejoin="round" />
    <path d="M7.2 6h1.6v4H7.2zm0 5h1.6v1.6H7.2z" fill="currentColor" />
  </Icon>
);

export const Cross = () => (
  <Icon>
    <path d="m4 4 8 8m0-8-8 8" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" />
  </Icon>
);

export const Plus = () => (
  <Icon>
    <path d="M8 3v10M3 8h10" stroke="currentColor" strokeWidth="1.6" strokeLinecap="round" />
  </Icon>
);

export const Bell = () => (
  <Icon>
    <path
      d="M8 2a4 4 0 0 0-4 4v3l-1.4 2.4h10.8L12 9V6a4 4 0 0 0-4-4Zm-1.5 10.4a1.5 1.5 0 0 0 3 0"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.3"
      strokeLinejoin="round"
    />
  </Icon>
);

export const Grip = () => (
  <Icon>
    <path
      d="M5.5 3.5h1v1h-1zm4 0h1v1h-1zm-4 4h1v1h-1zm4 0h1v1h-1zm-4 4h1v1h-1zm4 0h1v1h-1z"
      fill="currentColor"
      stroke="currentColor"
    />
  </Icon>
);

export const Sun = () => (
  <Icon>
    <circle cx="8" cy="8" r="3" fill="none" stroke="currentColor" strokeWidth="1.4" />
    <path
      d="M8 1.2v1.6m0 10.4v1.6M1.2 8h1.6m10.4 0h1.6M3.2 3.2l1.1 1.1m7.4 7.4 1.1 1.1m0-9.6-1.1 1.1m-7.4 7.4-1.1 1.1"
      stroke="currentColor"
      strokeWidth="1.3"
      strokeLinecap="round"
    />
  </Icon>
);

export const Moon = () => (
  <Icon>
    <path d="M13 9.6A5.4 5.4 0 0 1 6.4 3 5.4 5.4 0 1 0 13 9.6Z" fill="none" stroke="currentColor" strokeWidth="1.4" />
  </Icon>
);

export const Auto = () => (
  <Icon>
    <circle cx="8" cy="8" r="5.4" fill="none" stroke="currentColor" strokeWidth="1.4" />
    <path d="M8 2.6a5.4 5.4 0 0 1 0 10.8z" fill="currentColor" />
  </Icon>
);

export const Panels = () => (
  <Icon>
    <path
      d="M2.5 2.5h4v6h-4zm6.5 0h4.5v3.5H9zM9 8.5h4.5v5H9zm-6.5 2.5h4v2.5h-4z"
      fill="none"
      stroke="currentColor"
      strokeWidth="1.3"
    />
  </Icon>
);
