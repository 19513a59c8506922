// The two forms: one creates a stream, one appends a record to the chosen one. Each shows the server's answer.

import { asProblem, problemIn } from "./problem.js";
import { say } from "./slots.js";
import { nameFault, urlOf } from "./stream.js";
import { HAS_RULES, ask, hold, token } from "./token.js";

/** `created(name)` is called when the stream is there, whether it was new or not. */
export function creationForm(form, output, created) {
  onSubmit(form, output, async () => {
    const name = form.elements.name.value.trim();
    const fault = nameFault(name);
    if (fault !== null) return { bad: true, text: `${fault}.` };
    const answer = await ask(urlOf(name), { method: "PUT", headers: { "Content-Type": form.elements.type.value } });
    if (!answer.ok) throw await problemIn(answer);
    form.reset();
    created(name);
    return { text: answer.status === 201 ? "Created." : "It was there already." };
  });
}

/** `chosen()` gives the stream that is appended to. */
export function appendForm(form, output, chosen) {
  onSubmit(form, output, async () => {
    const stream = chosen();
    const body = form.elements.record.value;
    const fault = stream.isJson ? jsonFault(body) : null;
    if (fault !== null) return { bad: true, text: fault };
    const answer = await ask(stream.url, { method: "POST", headers: { "Content-Type": stream.contentType }, body });
    if (!answer.ok) throw await problemIn(answer);
    form.elements.record.select();
    return { text: `Stream-Next-Offset: ${answer.headers.get("stream-next-offset")}` };
  });
}

/** The token: `held()` is called when it is another one, or none. Nobody asks for it where there are no rules. */
export function tokenForm(section, form, output, held) {
  section.hidden = !HAS_RULES;
  const show = () => {
    form.reset();
    form.elements.token.placeholder = token() === "" ? "none" : "held in this tab";
    form.elements.forget.disabled = token() === "";
  };
  onSubmit(form, output, async () => {
    const fault = hold(form.elements.token.value);
    if (fault !== null) return { bad: true, text: fault };
    show();
    held();
    return { text: token() === "" ? "" : `It ends ${endOf(token())}.` };
  });
  form.elements.forget.addEventListener("click", () => {
    hold("");
    show();
    held();
    output.classList.remove("bad");
    say(output, "Forgotten.");
  });
  show();
}

// Only told, never trusted: the server judges.
function endOf(text) {
  try {
    const bytes = Uint8Array.from(atob(text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
    const { exp } = JSON.parse(new TextDecoder().decode(bytes));
    return typeof exp === "number" ? new Date(exp * 1000).toLocaleString() : "when the server says so";
  } catch {
    return "when the server says so";
  }
}

function onSubmit(form, output, act) {
  const button = form.querySelector("button");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    const answer = await act().catch((error) => ({ bad: true, text: asProblem(error).line }));
    button.disabled = false;
    output.classList.toggle("bad", answer.bad === true);
    output.title = answer.text;
    say(output, answer.text);
  });
}

// Said here and not by the server, because a browser logs a refused request as an error of the page.
function jsonFault(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return `Not JSON: ${error.message}`;
  }
}
