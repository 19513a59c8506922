// A panel: one subscription, seen and steered.
//
// For tests, and for whoever wants to watch it, each panel element carries its state as attributes, set in the
// same turn as the records arrive:
//
//   data-transport              websocket, sse, long-poll, short-poll
//   data-state                  connecting, live, waiting, cut, closed, error
//   data-offset                 the offset in hand
//   data-records data-gaps      how many
//   data-lost data-doubled data-disordered
//
// Its buttons are [data-action="cut"] and [data-action="switch"][data-to="sse"] and so on. Each batch is also
// told by a bubbling `records` event whose `detail` is { transport, records, offset }.

import { Chart } from "./chart.js";
import { copyOnClick } from "./copy.js";
import { bytes, count, duration } from "./format.js";
import { Series } from "./series.js";
import { copyOf, say, slotsIn } from "./slots.js";
import { Subscription } from "./subscription.js";
import { TRANSPORTS } from "./transport.js";

const FRAMING = new Set(["websocket", "sse"]);
const RECENT = 8;
const RECENT_CHARS = 160; // more would never be seen on one line

export class Panel {
  #slots;
  #items = [];
  #recent = [];
  #series = new Series();
  #drawn = null; // the charts on show, to see when the series want others
  #charts = [];
  #frame = null;
  #on;

  /** `on` has `changed(panel)`, `switched(panel)` and `codeWanted(panel)`. */
  constructor(stream, transport, offset, on) {
    this.#on = on;
    this.element = copyOf("panel");
    this.#slots = slotsIn(this.element);
    this.#furnish();
    this.subscription = new Subscription(stream, transport, offset, {
      changed: () => this.#changed(),
      arrived: (records) => this.#arrived(records),
    });
    this.#changed();
  }

  start() {
    this.subscription.resume();
  }

  /** Goes on from the offset in hand, whatever it did before. */
  resume() {
    this.subscription.resume();
  }

  restart(offset) {
    this.#series = new Series();
    this.#recent = [];
    this.subscription.restart(offset);
  }

  stop() {
    this.subscription.stop();
    cancelAnimationFrame(this.#frame);
  }

  /** A second has passed. */
  tick() {
    this.#series.tick();
    this.#render();
  }

  #furnish() {
    const tabs = this.element.querySelector(".tabs");
    for (const [id, { label }] of Object.entries(TRANSPORTS)) {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.action = "switch";
      button.dataset.to = id;
      button.textContent = label;
      button.title = `Go on by ${label}`;
      button.addEventListener("click", () => this.#switch(id));
      tabs.append(button);
    }
    const recent = this.element.querySelector(".recent");
    for (let i = 0; i < RECENT; i += 1) this.#items.push(recent.appendChild(document.createElement("li")));
    const button = (action) => this.element.querySelector(`[data-action="${action}"]`);
    button("cut").addEventListener("click", () => this.subscription.cut());
    button("code").addEventListener("click", () => this.#on.codeWanted(this));
    copyOnClick(button("copy-offset"), () => this.subscription.offset);
  }

  #switch(transport) {
    if (transport === this.subscription.transport) return;
    this.subscription.switchTo(transport);
    this.#on.switched(this);
  }

  #arrived(records) {
    this.#series.take(records);
    this.#recent = [...records.slice(-RECENT).reverse(), ...this.#recent].slice(0, RECENT);
    const { transport, offset } = this.subscription;
    this.element.dispatchEvent(new CustomEvent("records", { bubbles: true, detail: { transport, records, offset } }));
  }

  #changed() {
    const { transport, state, offset, records, gaps, continuity } = this.subscription;
    const { lost, doubled, disordered } = continuity;
    Object.assign(this.element.dataset, { transport, state, offset, records, gaps, lost, doubled, disordered });
    this.#on.changed(this);
    this.#render();
  }

  // However many batches come between two frames, the page is drawn once.
  #render() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #draw() {
    const { stream, transport, state, note, offset, records, requests, bytes: received, latency, continuity } = this.subscription;
    const { label, about } = TRANSPORTS[transport];
    const slots = this.#slots;
    say(slots.label, label);
    say(slots.state, state);
    say(slots.about, note || about);
    slots.about.title = note;
    // Of a text stream a poll carries the bytes of many records as one.
    say(slots["records-label"], stream.isJson || FRAMING.has(transport) ? "Records" : "Pieces");
    say(slots.records, count(records));
    say(slots.latency, duration(latency.median));
    say(slots.requests, count(requests));
    say(slots.bytes, bytes(received));
    for (const fault of ["lost", "doubled", "disordered"]) {
      say(slots[fault], continuity.judged ? count(continuity[fault]) : "–");
      slots[fault].classList.toggle("bad", continuity[fault] > 0);
    }
    say(slots.offset, offset);
    for (const tab of this.element.querySelectorAll(".tabs button")) {
      tab.setAttribute("aria-pressed", String(tab.dataset.to === transport));
    }
    this.element.querySelector('[data-action="cut"]').disabled = state === "cut" || state === "closed";
    this.#items.forEach((item, index) => say(item, index < this.#recent.length ? lineOf(this.#recent[index]) : ""));
    this.#drawCharts();
  }

  #drawCharts() {
    if (this.#drawn !== this.#series.charts) {
      this.#drawn = this.#series.charts;
      this.#charts = this.#drawn.map((spec) => new Chart(spec));
      this.#slots.charts.replaceChildren(...this.#charts.map((chart) => chart.element));
    }
    for (const chart of this.#charts) chart.draw(this.#series);
  }
}

function lineOf(record) {
  const text = typeof record === "string" ? record : JSON.stringify(record);
  return text.slice(0, RECENT_CHARS).replace(/\s+/g, " ");
}
