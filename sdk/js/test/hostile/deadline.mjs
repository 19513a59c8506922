// `AbortSignal.timeout` and `any` may be collected as garbage while a fetch still waits for them (Node 20): these are not.

/** Does `work(signal)`; the signal aborts after `ms`, or when `outer` does. */
export async function within(ms, work, outer) {
  const controller = new AbortController()
  const abort = () => controller.abort(new Error(`no answer within ${ms} ms`))
  const timer = setTimeout(abort, ms)
  outer?.addEventListener("abort", abort)
  try {
    return await work(controller.signal)
  } finally {
    clearTimeout(timer)
    outer?.removeEventListener("abort", abort)
  }
}
