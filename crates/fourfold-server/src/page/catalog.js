// The list of streams: a page of it at a time, filtered by prefix, fresh while it is looked at.

import { asProblem, problemIn } from "./problem.js";
import { copyOf, say } from "./slots.js";
import { hashOf, listUrl, nameFault, urlOf } from "./stream.js";
import { HAS_RULES, ask } from "./token.js";

const PAGE = 40;
const REFRESH_MS = 5000;
const TYPING_MS = 200;

export class Catalog {
  #slots;
  #after = "";
  #next = null;
  #chosen = "";
  #asked = 0;
  #refused = false; // asking again would be refused again

  constructor(slots) {
    this.#slots = slots;
    let typing;
    slots.prefix.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#turnTo(""), TYPING_MS);
    });
    slots.prefix.addEventListener("keydown", ({ key, target }) => {
      if (key === "Enter" && nameFault(target.value) === null) location.hash = hashOf(target.value);
    });
    slots.first.addEventListener("click", () => this.#turnTo(""));
    slots.more.addEventListener("click", () => this.#turnTo(this.#next));
    document.addEventListener("visibilitychange", () => this.refresh());
    setInterval(() => this.refresh(), REFRESH_MS);
  }

  choose(name) {
    this.#chosen = name;
    for (const link of this.#slots.list.querySelectorAll("a")) this.#mark(link);
  }

  /** Another token is held. */
  introduced() {
    this.#refused = false;
    this.#turnTo("");
  }

  async refresh() {
    if (document.hidden || this.#refused) return;
    const turn = (this.#asked += 1);
    try {
      const page = await listed({ prefix: this.#slots.prefix.value, limit: PAGE, after: this.#after });
      if (turn === this.#asked) this.#show(page); // a later question overtook this one otherwise
    } catch (error) {
      if (turn !== this.#asked) return;
      const { status, retry, line } = asProblem(error);
      this.#refused = HAS_RULES && status === 401 && !retry;
      if (this.#refused) this.#show({ streams: [] });
      say(this.#slots["list-note"], this.#refused ? line : "The list cannot be had at the moment.");
    }
  }

  #turnTo(after) {
    this.#after = after;
    this.#slots.list.scrollTop = 0;
    this.refresh();
  }

  #show({ streams, next }) {
    const { list, first, more } = this.#slots;
    this.#next = next ?? null;
    first.disabled = this.#after === "";
    more.disabled = this.#next === null;
    const none = HAS_RULES ? "None that may be listed. Enter in the filter opens one by its name." : "None yet.";
    const empty = next ? "None of these may be listed; Next looks on." : this.#after ? "No more." : none;
    say(this.#slots["list-note"], streams.length > 0 ? "" : empty);
    while (list.children.length > streams.length) list.lastElementChild.remove();
    while (list.children.length < streams.length) list.append(copyOf("stream-item"));
    streams.forEach((stream, index) => this.#fill(list.children[index].firstElementChild, stream));
  }

  // The items stay where they are and only change what they say, so that the focus survives a refresh.
  #fill(link, { name, contentType, streamClosed }) {
    const [label, type] = link.children;
    link.href = hashOf(name);
    link.dataset.name = name;
    link.title = name;
    say(label, name);
    say(type, streamClosed ? "closed" : shortType(contentType));
    this.#mark(link);
  }

  #mark(link) {
    if (link.dataset.name === this.#chosen) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

/** The listing's entry of one stream, or `null`. Asked of the list, where "there is none" is not an error; with rules a stream may be read and not listed. */
export async function entryOf(name) {
  if (HAS_RULES) return asked(name);
  const { streams } = await listed({ prefix: name, limit: 1 });
  return streams.length > 0 && streams[0].name === name ? streams[0] : null;
}

/** The first stream there is, or `null`. */
export async function firstEntry() {
  const { streams } = await listed({ limit: 1 });
  return streams[0] ?? null;
}

async function asked(name) {
  if (nameFault(name) !== null) return null;
  const answer = await ask(`${urlOf(name)}?offset=now`, { cache: "no-store" });
  if (answer.status === 404) return null;
  if (!answer.ok) throw await problemIn(answer);
  const [contentType, streamNextOffset] = ["content-type", "stream-next-offset"].map((header) => answer.headers.get(header));
  return { name, contentType, streamNextOffset };
}

async function listed(query) {
  const given = Object.entries(query).filter(([, value]) => value !== "");
  const answer = await ask(listUrl(given), { cache: "no-store" });
  if (!answer.ok) throw await problemIn(answer);
  return answer.json();
}

function shortType(contentType = "") {
  const bare = contentType.split(";")[0].trim();
  return bare === "application/json" ? "json" : bare.replace(/^text\/plain$/, "text");
}
