/**
 * Browsers open six HTTP/1.1 connections to an origin, over all tabs, and a seventh request waits until one is free. So at
 * most four may be held by streams; who gets none asks now and then. WebSockets do not count.
 */

/** Leaves two for all else that the page asks of this origin. */
const SLOTS = 4;

const taken: Record<string, number> = {};

/** Resolves with what gives the slot back, to be called once, or with nothing if there is none. Outside of browsers there is no such limit. */
export async function slot(origin: string): Promise<(() => unknown) | undefined> {
  if (typeof location !== "object") return () => {};
  const locks = typeof navigator === "object" && navigator.locks;
  if (locks) {
    try {
      for (let n = 0; n < SLOTS; n++) {
        const release = await new Promise<(() => void) | undefined>((resolve, reject) => {
          locks
            .request(`fourfold slot ${n} ${origin}`, { ifAvailable: true }, (lock) =>
              lock ? new Promise<void>((done) => resolve(done)) : resolve(undefined),
            )
            .catch(reject);
        });
        if (release) return release;
      }
      return;
    } catch {
      // Not allowed here (a sandboxed frame): counted in this page.
    }
  }
  const count = taken[origin] || 0;
  if (count >= SLOTS) return;
  taken[origin] = count + 1;
  return () => taken[origin]!--;
}
