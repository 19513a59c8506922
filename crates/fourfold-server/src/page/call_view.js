// The chosen call: how it stands, its portions as they come, how it ended, and the button that cancels it.

import { factsOf } from "./calls.js";
import { say } from "./slots.js";
import { Subscription } from "./subscription.js";
import { ask } from "./token.js";

const CALLS = new URL("../v1/calls/", import.meta.url).href;
const LOOK_MS = 1000;
const PORTIONS_MAX = 500; // what a person may scroll back; the four panels read all of it

export class CallView {
  #slots;
  #id = null;
  #state = null;
  #subscription = null;
  #typed; // called when a call that had no content type has one

  constructor(slots, typed) {
    this.#slots = slots;
    this.#typed = typed;
    slots["call-cancel"].addEventListener("click", () => this.#cancel());
    setInterval(() => this.#look(), LOOK_MS);
  }

  /** Shows the call whose stream this is; of another stream nothing. */
  show(stream) {
    this.hide();
    if (!isCall(stream.name)) return;
    this.#id = stream.name.slice("calls/".length);
    const { "call-view": view, portions, "call-progress": bar, "call-cancel": cancel, "call-stderr": stderr } = this.#slots;
    view.hidden = false;
    view.dataset.state = "";
    portions.replaceChildren();
    bar.hidden = true;
    cancel.hidden = true;
    stderr.hidden = true;
    for (const slot of ["call-name", "call-facts", "call-why"]) say(this.#slots[slot], "");
    view.scrollIntoView({ block: "nearest" }); // The list may be far below it.
    this.#look();
    if (stream.contentType === "") return; // Read once it is known how.
    const arrived = (records) => this.#arrived(stream, records);
    this.#subscription = new Subscription(stream, "websocket", "-1", { arrived, changed: () => this.#changed() });
    this.#subscription.resume();
  }

  hide() {
    this.#subscription?.stop();
    this.#subscription = null;
    this.#id = null;
    this.#state = null;
    this.#slots["call-view"].hidden = true;
  }

  #arrived(stream, records) {
    const { portions, "call-progress": bar } = this.#slots;
    const atEnd = portions.scrollTop + portions.clientHeight > portions.scrollHeight - 8;
    const texts = records.map((record) => (stream.isJson ? `${JSON.stringify(record)}\n` : String(record)));
    portions.append(...texts.slice(-PORTIONS_MAX).map((text) => document.createTextNode(text)));
    while (portions.childNodes.length > PORTIONS_MAX) portions.firstChild.remove();
    if (atEnd) portions.scrollTop = portions.scrollHeight;
    const progress = records.map((record) => record?.progress).findLast((part) => typeof part === "number" && part >= 0 && part <= 1);
    if (progress === undefined) return;
    bar.hidden = false;
    bar.value = progress;
  }

  #changed() {
    if (this.#subscription?.state === "closed" && !this.#state?.ending) this.#look();
    this.#say();
  }

  async #look() {
    const id = this.#id;
    if (id === null || this.#state?.ending || document.hidden) return;
    try {
      const answer = await ask(CALLS + encodeURIComponent(id), { cache: "no-store" });
      if (!answer.ok) return;
      const state = await answer.json();
      if (id !== this.#id || this.#state?.ending) return; // Another was chosen meanwhile, or a later answer was quicker.
      this.#state = state;
      if (this.#subscription === null && state.contentType !== undefined) return this.#typed();
      this.#say();
    } catch {
      // Asked again.
    }
  }

  async #cancel() {
    const { "call-cancel": cancel } = this.#slots;
    cancel.disabled = true;
    await ask(`${CALLS + encodeURIComponent(this.#id)}/cancel`, { method: "POST" }).catch(() => {});
    cancel.disabled = false;
    this.#look();
  }

  #say() {
    const state = this.#state;
    if (state === null) return;
    const { ending } = state;
    const { "call-view": view, "call-cancel": cancel, "call-stderr": stderr } = this.#slots;
    view.dataset.state = ending?.outcome ?? state.state;
    say(this.#slots["call-name"], state.name);
    say(this.#slots["call-facts"], factsOf(state, this.#subscription?.bytes));
    cancel.hidden = state.state === "ended";
    say(this.#slots["call-why"], [ending?.code, ending?.error].filter(Boolean).join(": "));
    stderr.hidden = !ending?.stderr;
    say(stderr, ending?.stderr ?? "");
  }
}

export const isCall = (name) => name.startsWith("calls/");
