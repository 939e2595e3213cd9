// Why would this ticket be let in here, or not? Asked for people; nothing is booked, held or logged by asking.

import type { JSX } from "preact";
import { useState } from "preact/hooks";
import { pick, t } from "./i18n";
import { Icon } from "./icons";
import { call } from "./rpc";
import { asCallError } from "./store";
import type { Explanation, ExplainStep } from "./types";

const CODE_MOST = 512; // characters, as the server takes them
const PLAIN = { way_out: false, id_number: false, stamp: false, holder: "", product: "" };

export function Why({ lane }: { lane: string }): JSX.Element {
  const [code, setCode] = useState("");
  const [face, setFace] = useState(false);
  const [more, setMore] = useState(PLAIN);
  const [asking, setAsking] = useState(false);
  const [told, setTold] = useState<Explanation | null>(null);
  const [failure, setFailure] = useState("");

  const ask = async () => {
    const presented = code.trim();
    if (presented === "" || asking) return;
    setCode(""); // a usable ticket: it does not stay on the screen
    setMore({ ...more, holder: "" });
    setTold(null);
    setFailure("");
    setAsking(true);
    try {
      setTold(await call("site.explain", { code: presented, lane, face_ok: face, ...more, holder: more.holder.trim(), product: more.product.trim() }));
    } catch (error) {
      const failed = asCallError(error);
      setFailure(pick(failed.zh, failed.en));
    } finally {
      setAsking(false);
    }
  };
  return (
    <section class="why" aria-label={t("why")}>
      <form
        class="inline"
        onSubmit={(event) => {
          event.preventDefault();
          void ask();
        }}
      >
        <label>
          {t("whyCode")}
          <input
            name="why-code"
            value={code}
            maxLength={CODE_MOST}
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => setCode(event.currentTarget.value)}
          />
        </label>
        <button type="submit" disabled={asking}>
          {t("why")}
        </button>
      </form>
      <label class="why-face">
        <input type="checkbox" checked={face} onChange={(event) => setFace(event.currentTarget.checked)} /> {t("whyFace")}
      </label>
      <More more={more} set={setMore} />
      {failure !== "" && (
        <p class="error" role="status">
          <Icon name="cross" /> {failure}
        </p>
      )}
      {told !== null && <Answer told={told} />}
    </section>
  );
}

/** What a lane's reader does not tell by the code alone. */
function More({ more, set }: { more: typeof PLAIN; set: (more: typeof PLAIN) => void }): JSX.Element {
  const flag = (name: "way_out" | "id_number" | "stamp", text: string) => (
    <label class="why-face">
      <input type="checkbox" name={`why-${name}`} checked={more[name]} onChange={(event) => set({ ...more, [name]: event.currentTarget.checked })} /> {text}
    </label>
  );
  const word = (name: "holder" | "product", text: string) => (
    <label>
      {text}
      <input
        name={`why-${name}`}
        value={more[name]}
        maxLength={64}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => set({ ...more, [name]: event.currentTarget.value })}
      />
    </label>
  );
  return (
    <details class="why-more">
      <summary>{pick("更多条件", "More")}</summary>
      {flag("way_out", pick("出园", "They want out"))}
      {flag("id_number", pick("输入的是证件号", "The code is an ID's number"))}
      {flag("stamp", pick("假定工作人员已核对本人", "Suppose that staff have looked at the holder"))}
      {word("holder", pick("同时出示的证件号", "ID shown beside it"))}
      {word("product", pick("选定的产品", "Product that staff chose"))}
    </details>
  );
}

function Answer({ told }: { told: Explanation }): JSX.Element {
  const text = pick(told.text_zh, told.text_en);
  return (
    <div data-testid="why" data-code={told.code} role="status">
      <p class={told.admitted ? "good" : "error"}>
        <Icon name={told.admitted ? "check" : "cross"} /> {told.admitted ? t("whyAdmitted", { n: told.pax }) : t("whyRefused")} · {text}
      </p>
      <ol class="why-steps">
        {told.steps.map((step) => (
          <Step key={step.check} step={step} />
        ))}
      </ol>
    </div>
  );
}

function Step({ step }: { step: ExplainStep }): JSX.Element {
  const wrong = step.code !== "";
  return (
    <li data-check={step.check} data-verdict={step.verdict} class={step.verdict === "refused" ? "is-wrong" : ""}>
      <Icon name={wrong ? "cross" : "check"} /> <b>{pick(step.name_zh, step.name_en)}</b> {pick(step.text_zh, step.text_en)}
      {wrong && (
        <span class="why-cure">
          <Icon name="arrowIn" /> {t("whyCure")} {pick(step.cure_zh, step.cure_en)}
        </span>
      )}
    </li>
  );
}
