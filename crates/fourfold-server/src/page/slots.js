// The places in the markup that scripts fill: `data-slot="name"`. Text goes in as text, never as markup,
// because names and records are whatever someone sent.

/** All slots below a node, by name. */
export function slotsIn(node) {
  return Object.fromEntries([...node.querySelectorAll("[data-slot]")].map((slot) => [slot.dataset.slot, slot]));
}

/** A fresh copy of a template's one element. */
export function copyOf(templateId) {
  return document.getElementById(templateId).content.firstElementChild.cloneNode(true);
}

/** Sets a text only if it is another one, so that what does not change is not laid out or read out again. */
export function say(slot, text) {
  if (slot.textContent !== text) slot.textContent = text;
}
