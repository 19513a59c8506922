// The demo: four scenarios, each with a network of its own.
import { Carriage } from "./carriage.js"
import { chat } from "./chat.js"
import { random, store, stored } from "./dom.js"
import { notices } from "./notices.js"
import { progress } from "./progress.js"
import { rates } from "./rates.js"

const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]

try {
  const config = await configured()
  const visitor = stored("fourfold-demo-visitor") ?? random()
  store("fourfold-demo-visitor", visitor)
  const relay = LOOPBACK.includes(location.hostname) ? config.weather : undefined
  const carriage = (id) => new Carriage(id, { relay, visitor })
  const panels = Object.fromEntries(["progress", "rates", "chat", "notices"].map((id) => [id, carriage(id)]))
  const { streams } = config
  let look = () => {}
  const [talk] = await Promise.all([
    chat(panels.chat, { streams, visitor, onLook: () => look() }),
    progress(panels.progress, { name: config.call }),
    rates(panels.rates, { streams }),
  ])
  const bell = await notices(panels.notices, { streams, visitor, chat: talk })
  look = bell.look
  document.documentElement.dataset.ready = ""
} catch (error) {
  const place = document.querySelector('[data-slot="fault"]')
  place.textContent = `The demo does not run: ${error.message}`
  place.hidden = false
  throw error
}

/** The server may still be starting. */
async function configured() {
  for (let tries = 0; ; tries += 1) {
    const answer = await fetch("/demo/config.json")
    if (answer.ok) return answer.json()
    if (tries > 20) throw Error(`the server answers ${answer.status}`)
    await new Promise((wake) => setTimeout(wake, 500))
  }
}
