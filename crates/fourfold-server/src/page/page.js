// The page: which stream is chosen, its four panels, and what the header says of them.

import { CallView, isCall } from "./call_view.js";
import { Calls } from "./calls.js";
import { Catalog, entryOf, firstEntry } from "./catalog.js";
import { CodeCard } from "./code_card.js";
import { appendForm, creationForm, tokenForm } from "./forms.js";
import { count } from "./format.js";
import { Panel } from "./panel.js";
import { asProblem } from "./problem.js";
import { say, slotsIn } from "./slots.js";
import { Stream, hashOf, nameInHash } from "./stream.js";
import { HAS_RULES, token } from "./token.js";
import { TRANSPORTS } from "./transport.js";

const DEFAULT = "demo/vitals";
const READING = new Set(["live", "waiting"]);
const TOLD = new Set(["cut", "closed", "error"]); // states worth interrupting a screen reader for

const slots = slotsIn(document);
const catalog = new Catalog(slots);
const calls = new Calls(slots);
const callView = new CallView(slots, () => choose());
let stream = null;
let start = "now";
let panels = [];
let cards = [];
let choice = 0;

/** `again` goes on, where the same stream is chosen, from the offsets in hand. */
async function choose({ again = false } = {}) {
  const turn = (choice += 1);
  let entry = null;
  let fault = null;
  try {
    const name = nameInHash();
    entry = name ? await entryOf(name) : ((HAS_RULES ? null : await entryOf(DEFAULT)) ?? (await firstEntry()));
  } catch (error) {
    fault = asProblem(error);
  }
  if (turn !== choice) return; // another choice was made meanwhile
  if (entry === null) return showEmpty(nameInHash(), fault);
  if (again && stream?.name === entry.name) {
    callView.show(stream);
    return panels.forEach((panel) => panel.resume());
  }
  if (!nameInHash()) history.replaceState(null, "", hashOf(entry.name));
  show(entry);
}

function show(entry) {
  leave();
  stream = new Stream(entry.name, entry.contentType ?? ""); // a call whose target has not answered yet has none
  document.title = `${stream.name} · Fourfold`;
  slots.empty.hidden = true;
  slots.chosen.hidden = false;
  say(slots["stream-name"], stream.name);
  say(slots["stream-type"], stream.contentType);
  say(slots["append-label"], stream.isJson ? "Append a record (JSON; an array is many)" : "Append a record (text)");
  slots.append.elements.record.value = stream.isJson ? '{"note":"hello from this page"}' : "hello from this page";
  say(slots["append-answer"], "");
  catalog.choose(stream.name);
  calls.choose(stream.name);
  slots.append.hidden = isCall(stream.name); // Only its target writes to it, and all of it is looked for.
  slots.start.hidden = isCall(stream.name);
  callView.show(stream);

  // All four begin at one and the same offset: the tail as the listing saw it.
  const offset = from() === "now" ? entry.streamNextOffset : from();
  const on = { changed: summarize, switched: announceSwitch, codeWanted: (panel) => cards[panels.indexOf(panel)].reveal() };
  panels = Object.keys(TRANSPORTS).map((transport) => new Panel(stream, transport, offset, on));
  cards = panels.map(() => new CodeCard());
  slots.panels.replaceChildren(...panels.map((panel) => panel.element));
  slots.codes.replaceChildren(...cards.map((card) => card.element));
  showCode();
  if (stream.contentType !== "") for (const panel of panels) panel.start();
}

function showEmpty(name, fault) {
  leave();
  stream = null;
  catalog.choose("");
  calls.choose("");
  callView.hide();
  document.title = "Fourfold";
  slots.chosen.hidden = true;
  slots.empty.hidden = false;
  say(slots["empty-title"], fault ? titleOf(fault) : name ? `There is no stream “${name}”` : "No stream yet");
  const hint = fault?.status === 401 ? " Paste one below “Token”." : "";
  say(slots["empty-text"], fault ? `${fault.line}.${hint}` : "Create it, or choose another.");
  if (name) slots.create.elements.name.value = name;
  summarize();
}

function titleOf({ status }) {
  if (status === 401) return token() === "" ? "A token is needed" : "The token is not taken";
  return status === 403 ? "That is not permitted" : "The server does not answer";
}

function leave() {
  for (const panel of panels) panel.stop();
  panels = [];
}

function from() {
  return isCall(stream.name) ? "-1" : start;
}

async function startFrom(offset) {
  start = offset;
  for (const button of document.querySelectorAll('[data-action="start"]')) {
    button.setAttribute("aria-pressed", String(button.dataset.offset === offset));
  }
  showCode();
  const asked = panels;
  const entry = offset === "now" ? await entryOf(stream.name).catch(() => null) : null;
  if (asked !== panels) return; // another stream was chosen meanwhile
  for (const panel of panels) panel.restart(entry?.streamNextOffset ?? offset);
}

function showCode() {
  panels.forEach((panel, index) => cards[index].show(stream, panel.subscription.transport, from()));
}

function announceSwitch(panel) {
  showCode();
  announce(`Switched to ${TRANSPORTS[panel.subscription.transport].label}`);
}

function announce(text) {
  say(slots.announcer, text);
}

const told = new WeakMap();
function summarize(panel) {
  const subscriptions = panels.map((each) => each.subscription);
  const sum = (figure) => count(subscriptions.reduce((total, each) => total + figure(each), 0));
  const reading = subscriptions.filter(({ state }) => READING.has(state)).length;
  say(slots.reading, panels.length ? `${reading} of ${panels.length}` : "–");
  say(slots.total, panels.length ? sum((each) => each.records) : "–");
  say(slots.lost, panels.length ? sum((each) => each.continuity.lost) : "–");

  if (!panel || panel.subscription === undefined) return;
  const { state, transport } = panel.subscription;
  const before = told.get(panel);
  told.set(panel, state);
  if (before !== state && TOLD.has(state)) announce(`${TRANSPORTS[transport].label}: ${state}`);
}

function foldSide(open) {
  document.querySelector(".side-fold").setAttribute("aria-expanded", String(open));
}

creationForm(slots.create, slots["create-answer"], (name) => {
  catalog.refresh();
  if (nameInHash() === name) choose();
  else location.hash = hashOf(name);
});
tokenForm(slots["token-section"], slots["token-form"], slots["token-answer"], () => {
  catalog.introduced();
  calls.introduced();
  choose({ again: true });
});
slots["token-hint"].hidden = !HAS_RULES;
appendForm(slots.append, slots["append-answer"], () => stream);
for (const button of document.querySelectorAll('[data-action="start"]')) {
  button.addEventListener("click", () => startFrom(button.dataset.offset));
}
document.querySelector(".side-fold").addEventListener("click", ({ target }) => {
  foldSide(target.getAttribute("aria-expanded") !== "true");
});
slots.skip.addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the stream's name
  slots.panels.focus();
});
addEventListener("hashchange", () => {
  foldSide(false);
  choose();
});
setInterval(() => panels.forEach((panel) => panel.tick()), 1000);

catalog.refresh();
calls.refresh();
choose();
