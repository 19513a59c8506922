// Scenario 2: many values that change fast.
import { bytes, colours, el, sharp, slots } from "./dom.js"

const DAYS = 300 // on the chart: fifteen seconds of the replay
const PER_SECOND = (count) => `${bytes(count)}/s`

const TILES = {
  load: { name: "Load", show: (value) => value.toFixed(2) },
  memory: { name: "Memory", show: (value) => `${value.toFixed(1)} %` },
  net_in: { name: "Net in", show: PER_SECOND },
  net_out: { name: "Net out", show: PER_SECOND },
  disk_read: { name: "Disk read", show: PER_SECOND },
  disk_write: { name: "Disk write", show: PER_SECOND },
  high: { name: "High", show: (value) => `${value.toFixed(1)} °C` },
  low: { name: "Low", show: (value) => `${value.toFixed(1)} °C` },
  rain: { name: "Rain", show: (value) => `${value.toFixed(1)} mm` },
  wind: { name: "Wind", show: (value) => `${value.toFixed(1)} m/s` },
}

export async function rates(carriage, { streams }) {
  const parts = slots(document.getElementById("rates"))
  const latest = {}
  const days = []
  const shown = Object.fromEntries(
    Object.entries(TILES).map(([key, { name }]) => {
      const value = el("dd", { textContent: "–" })
      const tile = el("div", {}, el("dt", { textContent: name }), value)
      parts.tiles.append(tile)
      return [key, { tile, value }]
    }),
  )
  const take = (record) => Object.assign(latest, record)
  await carriage.follow(streams.replay, {
    start: "now",
    leads: true,
    onRecord(record) {
      take(record)
      days.push(record)
      if (days.length > DAYS) days.shift()
    },
  })
  carriage.follow(streams.vitals, { start: "now", onRecord: take })

  const draw = () => {
    requestAnimationFrame(draw)
    for (const [key, { show }] of Object.entries(TILES)) {
      if (latest[key] === undefined) continue
      const { tile, value } = shown[key]
      const text = show(latest[key])
      if (value.textContent === text) continue
      const before = tile.dataset.raw
      tile.dataset.moved = before === undefined || latest[key] >= Number(before) ? "up" : "down"
      tile.dataset.raw = latest[key]
      value.textContent = text
    }
    if (latest.day && parts.day.textContent !== latest.day) {
      parts.day.textContent = latest.day
      chart(parts.chart, days)
    }
  }
  draw()
}

function chart(canvas, days) {
  const { pen, width, height } = sharp(canvas)
  const [rule, soft, high, low, rain] = colours("rule", "ink-soft", "second", "websocket", "sse")
  const [top, bottom] = [40, -10]
  const ground = height - 22
  const y = (degrees) => 4 + ((top - degrees) / (top - bottom)) * (ground - 8)
  const x = (place) => width - (days.length - 1 - place) * (width / (DAYS - 1))
  pen.font = `10px ${getComputedStyle(document.body).fontFamily}`
  for (const degrees of [0, 20]) {
    pen.fillStyle = rule
    pen.fillRect(0, Math.round(y(degrees)), width, 1)
    pen.fillStyle = soft
    pen.fillText(`${degrees}°`, 2, y(degrees) - 3)
  }
  pen.fillStyle = rain
  for (const [place, day] of days.entries()) {
    const tall = Math.min(20, Math.sqrt(day.rain) * 3)
    pen.fillRect(x(place) - 1, height - tall, 1.6, tall)
  }
  const line = (member) => days.forEach((day, place) => pen.lineTo(x(place), y(day[member])))
  pen.beginPath()
  line("high")
  for (let place = days.length - 1; place >= 0; place -= 1) pen.lineTo(x(place), y(days[place].low))
  pen.closePath()
  pen.globalAlpha = 0.14
  pen.fillStyle = high
  pen.fill()
  pen.globalAlpha = 1
  pen.lineWidth = 1.4
  for (const [member, tone] of [["high", high], ["low", low]]) {
    pen.beginPath()
    line(member)
    pen.strokeStyle = tone
    pen.stroke()
  }
}
