// A real browser, and an origin whose pages have the client.
import { createServer } from "node:http"
import { readFile } from "node:fs/promises"
import { once } from "node:events"
import { chromium } from "playwright-core"

const FILES = { "/fourfold.js": "../dist/fourfold.js", "/fourfold.iife.js": "../dist/fourfold.iife.js", "/react.js": "../build/react_page.js" }
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync"]

/** A browser, ended with the test. `tab()` opens a page that has the client as `fourfold`. */
export async function browse(t) {
  const listener = createServer(async (request, response) => {
    const file = FILES[request.url]
    response.setHeader("content-type", file ? "text/javascript" : "text/html")
    response.end(file ? await readFile(new URL(file, import.meta.url)) : PAGE)
  })
  listener.listen(0, "127.0.0.1")
  await once(listener, "listening")
  const origin = `http://127.0.0.1:${listener.address().port}`
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS })
  t.after(async () => {
    await browser.close()
    listener.closeAllConnections()
    listener.close()
  })
  const context = await browser.newContext()
  const tab = async (path = "/") => {
    const page = await context.newPage()
    page.setDefaultTimeout(30_000)
    page.on("pageerror", (error) => console.error("in the page:", error))
    await page.goto(origin + path)
    return page
  }
  return { context, origin, tab }
}

const PAGE = '<!doctype html><title>test</title><script src="/fourfold.iife.js"></script><body></body>'

/** In the page: follows `url` and keeps what comes in `window.got`, the states in `window.states`. */
export function followIn(page, url, options = {}) {
  return page.evaluate(
    ([url, options]) => {
      window.got = []
      window.states = []
      window.following = fourfold.follow(url, options)
      window.following.on("record", (record) => window.got.push(record))
      window.following.on("state", (state) => window.states.push(state))
    },
    [url, options],
  )
}

/** Waits until the page has got so many records, and gives them. */
export async function received(page, count) {
  await page.waitForFunction((count) => window.got.length >= count, count, { polling: 50 })
  return page.evaluate(() => window.got)
}
