// What a panel does, for a shell and for a script: both work as they stand.

import { HAS_RULES } from "./token.js";

// Any 16 bytes will do as the key of a handshake; with curl's own WebSocket support still rare, this works everywhere.
const HANDSHAKE = [
  "-H 'Connection: Upgrade'",
  "-H 'Upgrade: websocket'",
  "-H 'Sec-WebSocket-Version: 13'",
  "-H 'Sec-WebSocket-Key: Zm91cmZvbGQgcmVhZGluZw=='",
].join(" ");

// Where the server has rules, with the token that stands in TOKEN for the shell, and in the first line of a script.
const [CURL_TOKEN, SCRIPT_TOKEN] = HAS_RULES ? [' -H "Authorization: Bearer $TOKEN"', ['const token = "…";']] : ["", []];
const PROTOCOLS = HAS_RULES ? ", [\"fourfold\", `fourfold.token.${token}`]" : "";
const HEADER = HAS_RULES ? ", authorization: `Bearer ${token}`" : "";
const HEADERS = HAS_RULES ? ", headers: { authorization: `Bearer ${token}` }" : "";
const sourceUrl = (url) => (HAS_RULES ? `\`${url}&access_token=\${token}\`` : `"${url}"`);

const WRITERS = {
  websocket: (stream, offset) => ({
    curl: `curl -sN --http1.1 -o -${CURL_TOKEN} ${HANDSHAKE} '${stream.url}?offset=${offset}'`,
    script: [
      `const socket = new WebSocket("${stream.socketUrl}?offset=${offset}"${PROTOCOLS});`,
      `socket.onmessage = ({ data }) => console.log(JSON.parse(data));`,
      `socket.onclose = ({ code, reason }) => console.log("closed", code, reason);`,
    ],
  }),
  sse: (stream, offset) => ({
    curl: `curl -sN${CURL_TOKEN} '${stream.url}?live=sse&offset=${offset}'`,
    script: [
      `const source = new EventSource(${sourceUrl(`${stream.url}?live=sse&offset=${offset}`)});`,
      `source.addEventListener("data", ({ data, lastEventId }) => console.log(lastEventId, ${payload(stream)}));`,
      `source.addEventListener("control", ({ data }) => JSON.parse(data).streamClosed && source.close());`,
    ],
  }),
  "long-poll": (stream, offset) => ({
    curl: `curl -si${CURL_TOKEN} '${stream.url}?live=long-poll&offset=${offset}'`,
    script: [
      `let at = "${offset}", got;`,
      `do {`,
      `  got = await fetch(\`${stream.url}?live=long-poll&offset=\${at}\`, { cache: "no-store"${HEADERS} });`,
      `  if (got.status !== 204) console.log(${body(stream)});`,
      `  at = got.headers.get("Stream-Next-Offset");`,
      `} while (got.ok && !got.headers.has("Stream-Closed"));`,
    ],
  }),
  "short-poll": (stream, offset) => ({
    curl: `curl -si${CURL_TOKEN} '${stream.url}?offset=${offset}'`,
    script: [
      `let at = "${offset}", tag = "", got;`,
      `do {`,
      `  got = await fetch(\`${stream.url}?offset=\${at}\`, { headers: { "If-None-Match": tag${HEADER} } });`,
      `  if (got.status !== 304) console.log(${body(stream)});`,
      `  [at, tag] = ["Stream-Next-Offset", "ETag"].map((name) => got.headers.get(name));`,
      `  await new Promise((wake) => setTimeout(wake, got.headers.get("Stream-Poll-After")));`,
      `} while (at && !got.headers.has("Stream-Closed"));`,
    ],
  }),
};

/** `{ curl, script }` for one transport, reading the stream from an offset. */
export function codeFor(transport, stream, offset) {
  const { curl, script } = WRITERS[transport](stream, offset);
  return { curl, script: [...SCRIPT_TOKEN, ...script].join("\n") };
}

function payload(stream) {
  return stream.isJson ? "JSON.parse(data)" : "data";
}

function body(stream) {
  return stream.isJson ? "await got.json()" : "await got.text()";
}
