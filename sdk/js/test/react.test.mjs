import assert from "node:assert/strict"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { build } from "esbuild"
import { createElement } from "react"
import { renderToString } from "react-dom/server"
import { writer } from "../dist/fourfold.js"
import { useStream } from "../dist/react.js"
import { browse } from "./browser.mjs"
import { serve, wayTo } from "./server.mjs"

test("the hook shows the newest records and the state, follows its URL, and lets go", async (t) => {
  const server = await serve(t)
  const first = await server.create("first")
  const second = await server.create("second")
  const way = await wayTo(t, server.url)
  await build({
    entryPoints: [fileURLToPath(new URL("react_page.mjs", import.meta.url))],
    outfile: fileURLToPath(new URL("../build/react_page.js", import.meta.url)),
    bundle: true,
    format: "iife",
    define: { "process.env.NODE_ENV": '"development"' },
  })
  const { tab } = await browse(t)
  const page = await tab()
  await page.addScriptTag({ url: "/react.js" })
  const view = (holds) =>
    page.waitForFunction((holds) => {
      const it = document.querySelector("#view")
      return it && new Function("view", `return ${holds}`)(JSON.parse(it.textContent))
    }, holds)

  const appends = writer(first)
  await Promise.all([0, 1, 2, 3, 4, 5, 6].map((n) => appends.append(n)))
  await page.evaluate((urls) => window.render(...urls), [way.url(first), way.url(second)])
  await view('view.records.join() === "2,3,4,5,6" && view.state.name === "live"')
  await appends.append(7)
  await view('view.records.join() === "3,4,5,6,7"')
  await writer(second).append("other")
  await page.evaluate(() => window.showSecond())
  await view('view.records.join() === "other"')
  await writer(second).close()
  await view('view.state.name === "closed" && view.gap === null')
  await page.evaluate(() => window.unmount())
  await page.waitForSelector("#gone")
})

test("the hook renders on a server, where it connects to nothing", () => {
  const Component = () => createElement("p", null, useStream("http://127.0.0.1:1/v1/stream/a").state.name)
  assert.equal(renderToString(createElement(Component)), "<p>connecting</p>")
})
