// What is appended in these tests, on each sort of stream, and how a record that was received is compared with it.

const TEXTS = [
  "plain",
  "",
  "Zażółć gęślą jaźń",
  "🦊 𝔉𝔬𝔵 👩‍👩‍👧‍👦 𐍈",
  "lines\r\nof\rall\nsorts\n\n",
  "data: no field\n\nevent: goodbye\r\n\r\nid: 7\r\n",
  '{"streamClosed":true,"streamNextOffset":"-1"}\n',
  "\u2028\u2029\u0085\ufeff\u200d",
  "\u0000\u0007\u001b\u007f",
  "quotes \"\" \\ \\n \\u0041 </script>",
]
const FILL_MAX = 3_000 // So that some records span network reads.

/** Of each sort of stream: its content type, a record by its number, what is sent for records, and a comparable form. */
export const SORTS = {
  json: {
    contentType: "application/json",
    record: (n, random) => ({ n, text: text(random) }),
    body: (records) => JSON.stringify(records),
    batchMax: 5,
    comparable: (record) => JSON.stringify(record),
  },
  text: {
    contentType: "text/plain",
    record: (n, random) => `${n}:${text(random)}`.toWellFormed(), // JSON escapes half a pair, UTF-8 cannot have it.
    body: ([record]) => record,
    batchMax: 1,
    // SSE cannot tell one line end from another.
    comparable: (record) => String(record).replace(/\r\n?/g, "\n"),
  },
  binary: {
    contentType: "application/octet-stream",
    record: (n, random) => {
      const bytes = Buffer.alloc(4 + random.between(0, 600), random.between(0, 255))
      bytes.writeUInt32BE(n)
      for (let at = 4; at < bytes.length; at += 7) bytes[at] = random.between(0, 255)
      return bytes
    },
    body: ([record]) => record,
    batchMax: 1,
    comparable: (record) => (typeof record === "string" ? Buffer.from(record, "base64") : Buffer.from(record)).toString("hex"),
  },
}

function text(random) {
  const some = random.pick(TEXTS)
  return random.chance(0.05) ? some.padEnd(random.between(1, FILL_MAX), "é𝄞") : some
}

/**
 * What is wrong with `received`, if it should be `sent` (both comparable) from a place in `starts` to the end; or null.
 */
export function difference(sent, received, starts) {
  const [earliest, latest] = starts
  const from = earliest === latest ? earliest : sent.indexOf(received[0], earliest)
  if (received.length === 0) return latest >= sent.length ? null : `nothing received of ${sent.length - latest}`
  if (from < 0) return `begins with what was never sent from ${earliest} on: ${shown(received[0])}`
  if (from > latest) return `begins at ${from}, though it was there from ${latest} on`
  for (const [step, record] of received.entries()) {
    if (record === sent[from + step]) continue
    const at = sent.indexOf(record)
    const sort = at < 0 ? "never sent" : at < from + step ? `number ${at} again, or late` : `number ${at}: some are missing`
    return `record ${step} should be number ${from + step}, is ${sort}: ${shown(record)}`
  }
  const missing = sent.length - from - received.length
  return missing === 0 ? null : `the last ${missing} of ${sent.length} are missing`
}

function shown(record) {
  return JSON.stringify(record).slice(0, 120)
}
