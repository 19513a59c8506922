// The token that this page shows to a server that has rules. It stays in this tab: a reload finds it, another tab does not.

const KEY = "fourfold-token";

/** Whether the server has rules: it says so in the page. */
export const HAS_RULES = document.documentElement.dataset.access === "rules";

let held = HAS_RULES ? kept() : "";

/** The token, or `""`. */
export function token() {
  return held;
}

/** Holds another token, or none. What was copied with `Bearer` before it is understood. Returns what is wrong with it, or `null`. */
export function hold(text) {
  const bare = text.trim().replace(/^bearer\s+/i, "");
  if (bare !== "" && !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(bare)) return "A token is three parts of letters, digits, “-” and “_”, with dots between them.";
  held = bare;
  keep(bare);
  return null;
}

/** `fetch`, with the token. */
export function ask(url, { headers = {}, ...init } = {}) {
  return fetch(url, { ...init, headers: held === "" ? headers : { ...headers, Authorization: `Bearer ${held}` } });
}

// A browser that keeps nothing for a page throws; then the token is gone after a reload.
function kept() {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

function keep(text) {
  try {
    if (text === "") sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, text);
  } catch {
    // It is held.
  }
}
