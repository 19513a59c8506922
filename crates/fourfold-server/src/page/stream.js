// A stream as the page knows it: its name, its content type, its URLs.
//
// Promises: a URL made here is safe inside single quotes, double quotes and backticks, so that it can be
// pasted into a shell or a script; and names that a URL parser would fold away (`..`) never become a URL.

const ROOT = new URL("../v1/stream/", import.meta.url);

export class Stream {
  constructor(name, contentType) {
    this.name = name;
    this.contentType = contentType;
    this.isJson = /^application\/([\w.-]+\+)?json\b/i.test(contentType);
    this.url = urlOf(name);
    this.socketUrl = this.url.replace(/^http/, "ws");
  }

  /** The records in one body: the elements of a JSON answer; of other types the body is one piece. */
  recordsIn(text) {
    if (!this.isJson) return text === "" ? [] : [text];
    return text === "" ? [] : JSON.parse(text);
  }
}

/** Why a stream cannot have this name, or `null` if it can. The server has the last word. */
export function nameFault(name) {
  if (name === "") return "a name is needed";
  if (new TextEncoder().encode(name).length > 1024) return "a name has at most 1,024 bytes";
  const segments = name.split("/");
  if (segments.includes("")) return "a segment between slashes may not be empty";
  if (segments.includes(".") || segments.includes("..")) return "“.” and “..” are not segments";
  return null;
}

export function urlOf(name) {
  const path = name.split("/").map((segment) => encodeURIComponent(segment).replaceAll("'", "%27"));
  return ROOT.href + path.join("/");
}

export function listUrl(query) {
  return `${ROOT.href}?${new URLSearchParams(query)}`;
}

export function hashOf(name) {
  return `#${name.split("/").map(encodeURIComponent).join("/")}`;
}

/** The name in the page's own URL, or `""`. Someone may have typed it, so a bad escape is no name. */
export function nameInHash() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}
