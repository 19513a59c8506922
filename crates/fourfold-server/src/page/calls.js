// The list of calls, and the form that begins one. Neither is shown on a server without calls.

import { asProblem, problemIn } from "./problem.js";
import { bytes } from "./format.js";
import { copyOf, say } from "./slots.js";
import { hashOf } from "./stream.js";
import { ask } from "./token.js";

const BEGIN = new URL("../v1/call/", import.meta.url).href;
const CALLS = new URL("../v1/calls", import.meta.url).href;
const SHOWN = 12;
const REFRESH_MS = 2000;

export class Calls {
  #slots;
  #asked = 0;
  #refused = false; // asking again would be refused again
  #chosen = "";

  constructor(slots) {
    this.#slots = slots;
    slots["call-form"].addEventListener("submit", (event) => {
      event.preventDefault();
      this.#begin();
    });
    document.addEventListener("visibilitychange", () => this.refresh());
    setInterval(() => this.refresh(), REFRESH_MS);
  }

  choose(name) {
    this.#chosen = name;
    for (const link of this.#slots["call-list"].querySelectorAll("a")) this.#mark(link);
  }

  /** Another token is held. */
  introduced() {
    this.#refused = false;
    this.refresh();
  }

  async refresh() {
    if (document.hidden || this.#refused) return;
    const turn = (this.#asked += 1);
    try {
      const answer = await ask(`${CALLS}?limit=${SHOWN}`, { cache: "no-store" });
      if (turn !== this.#asked) return;
      this.#refused = answer.status === 401;
      if (answer.ok) this.#show(await answer.json());
    } catch {
      // The list of streams says that the server does not answer.
    }
  }

  async #begin() {
    const { elements } = this.#slots["call-form"];
    const output = this.#slots["call-answer"];
    const body = elements.body.value;
    const headers = body === "" ? {} : { "Content-Type": isJson(body) ? "application/json" : "text/plain; charset=utf-8" };
    const name = encodeURIComponent(elements.name.value);
    try {
      const answer = await ask(BEGIN + name, { method: "POST", headers, body: body === "" ? null : body });
      if (!answer.ok) throw await problemIn(answer);
      output.classList.remove("bad");
      say(output, "");
      location.hash = hashOf(`calls/${answer.headers.get("call-id")}`);
    } catch (error) {
      output.classList.add("bad");
      say(output, asProblem(error).line);
      output.title = output.textContent;
    }
    this.refresh();
  }

  #show({ calls, names }) {
    const { "call-section": section, "call-form": form, "call-list": list, "call-note": note } = this.#slots;
    section.hidden = calls.length === 0 && names.length === 0;
    form.hidden = names.length === 0;
    const known = [...form.elements.name.options].map(({ value }) => value);
    if (known.join() !== names.map(({ name }) => name).join()) {
      form.elements.name.replaceChildren(...names.map(({ name, kind }) => new Option(kind === "command" ? `${name} (program)` : name, name)));
    }
    say(note, calls.length > 0 ? "" : "None yet.");
    while (list.children.length > calls.length) list.lastElementChild.remove();
    while (list.children.length < calls.length) list.append(copyOf("stream-item"));
    calls.forEach((call, index) => this.#fill(list.children[index].firstElementChild, call));
  }

  #fill(link, call) {
    const [label, facts] = link.children;
    link.dataset.name = `calls/${call.id}`;
    link.dataset.state = call.ending?.outcome ?? call.state;
    link.href = hashOf(link.dataset.name);
    say(label, call.name);
    say(facts, factsOf(call));
    link.title = facts.textContent;
    this.#mark(link);
  }

  #mark(link) {
    if (link.dataset.name === this.#chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** How it stands, since when or how long, how much. `got` are bytes, where the server does not tell yet. */
export function factsOf({ state, startedAt, ending }, got) {
  const ms = ending ? ending.durationMs : Math.max(0, Date.now() - Date.parse(startedAt));
  const size = ending?.bytes ?? got;
  return [ending?.outcome ?? state, elapsed(ms), size === undefined ? "" : bytes(size)].filter(Boolean).join(" · ");
}

function elapsed(ms) {
  if (!Number.isFinite(ms)) return "";
  const seconds = Math.floor(ms / 1000);
  if (seconds < 10) return `${(ms / 1000).toFixed(1)} s`;
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function isJson(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
