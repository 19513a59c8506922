/** What the browser knows: the network came back, the page is seen again, the machine slept, the page is put aside. */

/** How often it looks at the clock. */
const LOOK_MS = 5000;

/** Hidden pages have their timers slowed to one a minute; only what is later was sleep. */
const ASLEEP_MS = 75_000;

/**
 * Calls `better` when trying again now may help, with `true` if connections may have died meanwhile; `aside` when they would
 * keep the page from being put aside.
 */
export function watch(better: (moved: boolean) => void, aside: () => void): () => void {
  let seen = Date.now();
  const clock = setInterval(() => {
    const now = Date.now();
    if (now - seen > ASLEEP_MS) better(true);
    seen = now;
  }, LOOK_MS);
  const visible = () => {
    if (document.visibilityState === "visible") better(false);
  };
  const shown = (event: PageTransitionEvent) => {
    if (event.persisted) better(true);
  };
  const hidden = (event: PageTransitionEvent) => {
    if (event.persisted) aside();
  };
  const on: [EventTarget, string, (event: never) => void][] = [];
  if (typeof self === "object" && typeof addEventListener === "function") {
    on.push([self, "online", () => better(true)], [self, "pageshow", shown], [self, "pagehide", hidden]);
  }
  if (typeof document === "object") on.push([document, "visibilitychange", visible]);
  for (const [target, name, listener] of on) target.addEventListener(name, listener as EventListener);
  return () => {
    clearInterval(clock);
    for (const [target, name, listener] of on) target.removeEventListener(name, listener as EventListener);
  };
}

/** The browser says so; that it is online it cannot know. */
export function isOffline(): boolean {
  return typeof navigator === "object" && navigator.onLine === false;
}
