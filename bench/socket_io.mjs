// A Socket.IO server as small as one can be: the room is the query's `id`, `POST /pub?id=` is event "b" in it.
//
//   node bench/socket_io.mjs PORT
import { createServer } from "node:http"
import { Server } from "socket.io"

const http = createServer((request, response) => {
  const url = new URL(request.url, "http://bench")
  if (request.method !== "POST" || url.pathname !== "/pub") return response.writeHead(404).end()
  const pieces = []
  request.on("data", (piece) => pieces.push(piece))
  request.on("end", () => {
    io.to(url.searchParams.get("id")).emit("b", Buffer.concat(pieces).toString())
    response.writeHead(204).end()
  })
})

// permessage-deflate is off by default; a request costs no CORS and no client bundle.
const io = new Server(http, { serveClient: false })
io.on("connection", (socket) => {
  socket.join(socket.handshake.query.id)
  // What its documentation advises to save memory: the first request is not needed any more.
  socket.conn.request = null
})

http.listen(Number(process.argv[2]), "127.0.0.1", 65_535, () => {
  console.log(`listening on http://127.0.0.1:${http.address().port}`)
})
