// What the test of the hook shows: rendered by React in the browser, twice mounted as its strict mode does.
import { StrictMode, createElement as h, useState } from "react"
import { createRoot } from "react-dom/client"
import { useStream } from "../src/react.ts"

function Stream({ url }) {
  const { records, state, gap } = useStream(url, { keep: 5, share: "page" })
  return h("pre", { id: "view" }, JSON.stringify({ records, state, gap: gap ?? null }))
}

function App({ first, second }) {
  const [url, setUrl] = useState(first)
  const [shown, show] = useState(true)
  window.showSecond = () => setUrl(second)
  window.unmount = () => show(false)
  return shown ? h(Stream, { url }) : h("p", { id: "gone" }, "gone")
}

window.render = (first, second) => createRoot(document.body).render(h(StrictMode, null, h(App, { first, second })))
