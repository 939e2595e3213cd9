// Line icons, 24 units wide, drawn for this page.

import type { ComponentChildren } from "preact";

function Icon(props: { children: ComponentChildren }) {
  return (
    <svg viewBox="0 0 24 24" width="26" height="26" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      {props.children}
    </svg>
  );
}

export const ScanIcon = () => (
  <Icon>
    <path d="M4 8V5a1 1 0 0 1 1-1h3M16 4h3a1 1 0 0 1 1 1v3M20 16v3a1 1 0 0 1-1 1h-3M8 20H5a1 1 0 0 1-1-1v-3M4 12h16" />
  </Icon>
);
export const CountIcon = () => (
  <Icon>
    <circle cx="9" cy="8" r="3.2" />
    <path d="M3 20c0-3.6 2.6-6 6-6s6 2.4 6 6M19 8v6M16 11h6" />
  </Icon>
);
export const FiguresIcon = () => (
  <Icon>
    <path d="M4 20V11M10 20V5M16 20v-7M21 20H3" />
  </Icon>
);
export const MenuIcon = () => (
  <Icon>
    <path d="M4 7h16M4 12h16M4 17h16" />
  </Icon>
);
export const YesIcon = () => (
  <svg viewBox="0 0 100 100" width="132" height="132" fill="none" stroke="currentColor" stroke-width="11" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
    <path d="M18 54 42 77 84 26" />
  </svg>
);
export const NoIcon = () => (
  <svg viewBox="0 0 100 100" width="132" height="132" fill="none" stroke="currentColor" stroke-width="11" stroke-linecap="round" aria-hidden="true">
    <path d="M24 24 76 76M76 24 24 76" />
  </svg>
);
export const WaitIcon = () => (
  <svg viewBox="0 0 100 100" width="132" height="132" fill="none" stroke="currentColor" stroke-width="11" stroke-linecap="round" aria-hidden="true">
    <path d="M50 22v34M50 76v1" />
  </svg>
);
export const TorchIcon = () => (
  <Icon>
    <path d="M13 3 5 14h6l-1 7 8-11h-6l1-7Z" />
  </Icon>
);
