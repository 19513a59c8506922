// A panel's code, ready to copy. It follows the panel when that switches its transport.

import { codeFor } from "./code.js";
import { copyOnClick } from "./copy.js";
import { copyOf, say, slotsIn } from "./slots.js";
import { TRANSPORTS } from "./transport.js";

export class CodeCard {
  #slots;
  #code = { curl: "", script: "" };

  constructor() {
    this.element = copyOf("code-card");
    this.#slots = slotsIn(this.element);
    for (const button of this.element.querySelectorAll("[data-copy]")) {
      copyOnClick(button, () => this.#code[button.dataset.copy]);
    }
  }

  show(stream, transport, offset) {
    this.#code = codeFor(transport, stream, offset);
    this.element.dataset.transport = transport;
    say(this.#slots.label, TRANSPORTS[transport].label);
    say(this.#slots.curl, this.#code.curl);
    say(this.#slots.script, this.#code.script);
  }

  reveal() {
    this.element.scrollIntoView({ block: "center" });
    this.element.focus({ preventScroll: true });
  }
}
