// A question in the middle of the page, for what is not done by one press: a name, a reason, a password to read off.

import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef } from "preact/hooks";
import { t } from "./i18n";
import { Icon } from "./icons";

interface DialogProps {
  title: string;
  onClose(): void;
  children: ComponentChildren;
}

/** The browser's own modal dialog keeps the focus inside; the evacuation stays reachable by its own key after Escape. */
export function Dialog({ title, onClose, children }: DialogProps): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const close = useRef(onClose);
  close.current = onClose;
  useEffect(() => {
    const element = dialog.current!;
    element.show();
    element.querySelector<HTMLElement>("input, select, textarea, button:not(.quiet)")?.focus();
    const escape = (event: KeyboardEvent) => {
      if (event.key === "Escape") close.current();
    };
    window.addEventListener("keydown", escape);
    return () => window.removeEventListener("keydown", escape);
  }, []);
  return (
    <dialog ref={dialog} class="card dialog" aria-label={title}>
      <header class="section-head">
        <h2>{title}</h2>
        <span class="spacer" />
        <button type="button" class="quiet" onClick={onClose}>
          <Icon name="cross" /> {t("close")}
        </button>
      </header>
      {children}
    </dialog>
  );
}
