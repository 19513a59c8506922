// The page of a server with rules: what it shows without a token, with one, with one that ends, and what its code does then. Starts its own server.
import assert from "node:assert/strict"
import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"

import { launch, openPage, panels, serve, untilReading } from "./browser.mjs"

const LIMIT = { timeout: 90_000 }
const SHOTS = process.env.FOURFOLD_SCREENSHOTS
const program = process.env.FOURFOLD_BIN ?? "target/debug/fourfold"

let browser, server, url, folder, config
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "fourfold-token-"))
  config = join(folder, "fourfold.toml")
  writeFileSync(join(folder, "secret"), "a secret that is long enough for HS256", { mode: 0o600 })
  writeFileSync(
    config,
    `[access]
audience = "fourfold"
[[access.keys]]
algorithm = "HS256"
secret-file = ${JSON.stringify(join(folder, "secret"))}
[access.authenticated]
read = ["users/{sub}/**"]
append = ["users/{sub}/**"]
create = ["users/{sub}/**"]
`,
  )
  ;({ server, url } = await serve(["--config", config, "--data-dir", join(folder, "data")]))
  browser = await launch()
})
after(async () => {
  await browser?.close()
  server?.kill()
  rmSync(folder, { recursive: true, force: true })
})

const tokenFor = (sub, ...more) => execFileSync(program, ["token", "--config", config, "--sub", sub, ...more], { encoding: "utf8" }).trim()

/** A stream of ann's, with one record in it. */
async function inbox(name, token) {
  const at = `${url}/v1/stream/users/ann/${name}`
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" }
  for (const [method, body] of [["PUT"], ["POST", '{"n":1}']]) assert.ok((await fetch(at, { method, headers, body })).ok)
  return (record) => fetch(at, { method: "POST", headers, body: JSON.stringify(record) })
}

const show = async (page, token) => {
  await page.fill('[name="token"]', token)
  await page.click('[data-slot="token-form"] .primary')
}
/** All four panels have the first record. */
async function readsFromTheStart(page) {
  await page.click('[data-offset="-1"]')
  await untilReading(page)
}
const title = (page, wanted) => page.waitForFunction((wanted) => document.querySelector('[data-slot="empty-title"]').textContent === wanted, wanted, { polling: 50 })

test("with a token the page reads on all four transports, and goes on with another one where it was", LIMIT, async () => {
  const token = tokenFor("ann")
  const append = await inbox("inbox", token)
  const { page } = await openPage(browser, `${url}/#users/ann/inbox`)
  await title(page, "A token is needed")
  await shot(page, "token-needed")
  await show(page, token)
  await readsFromTheStart(page)
  assert.equal(await page.inputValue('[name="token"]'), "", "the token is not left to be read over a shoulder")
  await shot(page, "token-held")

  await append({ n: 2 })
  await untilReading(page, [], 2)
  await show(page, tokenFor("ann", "--for", "30m"))
  await append({ n: 3 })
  await untilReading(page, [], 3)
  assert.deepEqual((await panels(page)).map(({ records, lost, doubled }) => [records, lost, doubled]), Array(4).fill([3, 0, 0]))

  await page.fill('[data-slot="append"] [name="record"]', '{"n":4}')
  await page.click('[data-slot="append"] .primary')
  await untilReading(page, [], 4)

  await page.reload()
  await readsFromTheStart(page)
  await page.click('[data-slot="token-form"] [name="forget"]')
  await title(page, "A token is needed")
  assert.equal(await page.evaluate(() => sessionStorage.length), 0)
  await page.close()
})

test("the page says what is wrong with a token", LIMIT, async () => {
  const token = tokenFor("ann")
  await inbox("own", token)
  const { page } = await openPage(browser, `${url}/#users/ann/own`)
  await title(page, "A token is needed")
  const answer = page.locator('[data-slot="token-answer"]')
  await show(page, "nonsense")
  assert.match(await answer.textContent(), /^A token is three parts/)
  await show(page, tokenFor("bob"))
  await title(page, "That is not permitted")
  await show(page, `${token.slice(0, -8)}AAAAAAAA`)
  await title(page, "The token is not taken")
  await page.waitForFunction(() => document.querySelector('[data-slot="list-note"]').textContent.startsWith("401 invalid-token"), null, { polling: 50 })
  await show(page, `Bearer ${token}`)
  await readsFromTheStart(page)
  await page.close()
})

test("a stream that may be read and not listed is opened by its name", LIMIT, async () => {
  const token = tokenFor("ann")
  await inbox("unlisted", token)
  const { page } = await openPage(browser, `${url}/`)
  await show(page, token)
  await title(page, "No stream yet")
  await page.fill('[data-slot="prefix"]', "users/ann/unlisted")
  await page.press('[data-slot="prefix"]', "Enter")
  await readsFromTheStart(page)
  await page.close()
})

test("the code that the page offers works with a token in its place", LIMIT, async () => {
  const token = tokenFor("ann")
  await inbox("code", token)
  const { page } = await openPage(browser, `${url}/#users/ann/code`)
  await show(page, token)
  await readsFromTheStart(page)
  const cards = await page.$$eval(".code-card", (all) =>
    all.map((card) => [card.dataset.transport, ...["curl", "script"].map((slot) => card.querySelector(`[data-slot="${slot}"]`).textContent)]),
  )
  assert.equal(cards.length, 4)
  for (const [transport, curl, script] of cards) {
    const shell = `${curl} --max-time 2 || true` // Two of them have no end.
    const told = execFileSync("bash", ["-c", shell], { encoding: "utf8", env: { ...process.env, TOKEN: token } })
    assert.match(told, /"n":1/, `${transport}: ${curl}`)
    const logged = page.waitForEvent("console", (message) => message.type() === "log")
    const filled = script.replace("…", token)
    assert.notEqual(filled, script)
    // As somebody pastes it into the console, which waits for what is awaited.
    page.evaluate((code) => void new Function(`return (async () => {\n${code}\n})()`)(), filled).catch(() => {})
    const values = await Promise.all((await logged).args().map((value) => value.jsonValue()))
    assert.match(JSON.stringify(values), /"n":1/, `${transport}: ${script}`)
  }
  await page.close()
})

async function shot(page, name) {
  if (!SHOTS) return
  mkdirSync(SHOTS, { recursive: true })
  await page.screenshot({ path: join(SHOTS, `${name}.png`), fullPage: true })
}
