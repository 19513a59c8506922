/**
 * The words that all parts of the client share. What an application sees is exported by `index.ts`; the rest is between
 * the parts: a transport brings {@link Batch}es to a {@link Sink}, a {@link Feed} hands them to {@link Fed} followers.
 */

/** A way to read a stream. */
export type Transport = "websocket" | "sse" | "long-poll" | "short-poll";

/** Records that a reader wanted and retention has dropped: it stood at `from` and goes on at `to`. */
export interface Gap {
  from: string;
  to: string;
}

/** Why the server refuses: problem+json (RFC 9457). Program against `code`. */
export interface Problem {
  status: number;
  code: string;
  title: string;
  detail?: string;
  /** With a gap over HTTP: from here the stream can still be read. */
  oldestOffset?: string;
}

/** Records in a row: a reader that stood at `from` stands at `to` behind them. */
export interface Batch {
  from: string;
  to: string;
  records: unknown[];
  /** `to` was the tail when this was sent. */
  upToDate: boolean;
  /** `to` is the end of a closed stream. */
  closed: boolean;
  /** Told before the records. */
  gap?: Gap;
  /** What it weighs in a buffer, in characters. */
  size: number;
}

/** Why a connection ended. `afterMs`: come back no sooner. */
export type Ending =
  | { why: "cut" | "timeout" | "unsupported" | "no slot" | "busy"; afterMs?: number }
  | { why: "goodbye"; code: string; afterMs: number }
  | { why: "refused"; problem: Problem };

/** Where a connection brings what it gets. Once it is told that the connection has ended it hears nothing more. */
export interface Sink {
  /**
   * The server's text, which should be a message; with the records and the gap that came before it (SSE). Returns what it
   * brought, or nothing if that was the end of the connection.
   */
  said(text: string, records?: unknown[], gap?: Gap): Batch | undefined;
  /** Proof of life: the next one is due within `forMs`. */
  alive(forMs: number): void;
  ended(ending: Ending): void;
}

/** A transport at work. After `stop`, which comes also after it has ended, its sink hears nothing more. */
export interface Connection {
  stop(): void;
  /** Asks now what it would ask later (short poll). */
  poke?(): void;
}

/** A transport: reads `target` from the offset `from`. What cannot send headers has the token. */
export type Carrier = (target: Target, from: string, sink: Sink, token: string | undefined) => Connection;

/** One stream, as one user asks for it. */
export interface Target {
  /** Absolute, without a fragment. */
  url: string;
  origin: string;
  /** Two targets of this page with the same identity may share a connection. */
  identity: string;
  /** The same over tabs; none if functions give the credentials, which may be another user's elsewhere. */
  identityInTabs?: string;
  /** What goes with each request; `token` besides for what cannot send headers. */
  credentials(): Credentials | Promise<Credentials>;
  /** The token was refused: the next `credentials` calls the function anew. False if there is no function. */
  renew(): boolean;
  /** A constructor to use in place of the global one. */
  WebSocket?: typeof WebSocket;
  /** How records look over SSE; learnt once. */
  kind?: "json" | "text" | "base64";
  /** How long a long poll holds here, in seconds; less after cuts. */
  holdSeconds: number;
}

export interface Credentials {
  headers: Record<string, string>;
  token?: string;
}

/** How a reader stands. `transport` is the one that carries the stream, or is being tried. */
export type State =
  | { name: "connecting"; transport: Transport }
  | { name: "catching up"; transport: Transport }
  | { name: "live"; transport: Transport }
  /** `until`: milliseconds since 1970. */
  | { name: "waiting"; why: string; until: number }
  | { name: "closed" }
  | { name: "refused"; problem: Problem };

/** A follower, as its feed sees it. */
export interface Fed {
  /** The offset up to which it has taken. */
  readonly hand: string;
  /** It takes nothing at the moment: its consumer is slow. */
  readonly full: boolean;
  /** Offers a batch; an empty one says where the feed stands. The follower decides by its hand whether it takes it. */
  offer(batch: Batch): void;
  /** How the feed stands; `refused` ends the follower. */
  told(state: State): void;
}

/** What followers are fed by: a reader of this page, or of another tab. It reads while it has followers that take. */
export interface Feed {
  readonly state: State;
  /** Where it stands. */
  readonly hand: string;
  add(fed: Fed): void;
  remove(fed: Fed): void;
  /** A follower that was full takes again: it is told where the feed stands. */
  resume(fed: Fed): void;
  /** Asks now what it would ask later. */
  poke?(): void;
}

/** What {@link Following.batches} yields. */
export interface Records {
  records: unknown[];
  /** The offset behind them. */
  offset: string;
}

/** Keeps the offset over reloads. */
export interface Memory {
  load(): string | null | undefined | Promise<string | null | undefined>;
  save(offset: string): void | Promise<void>;
}

/** What `headers` takes. */
export type HeadersOption = Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);

/** What all that talk to a stream take. */
export interface TargetOptions {
  headers?: HeadersOption;
  /** Called for a bearer token, and again when it is refused or about to expire. Over WebSocket it travels as a subprotocol, over a native EventSource as `?access_token=`. */
  token?: () => string | Promise<string>;
  /** Ends it. */
  signal?: AbortSignal;
  /** Used in place of the global one, where there is none. */
  WebSocket?: unknown;
}

/** What {@link follow} takes. */
export interface FollowOptions extends TargetOptions {
  /** `"-1"` is the start (default), `"now"` the tail; or an offset from before, also one with `+` and a count. */
  offset?: string;
  /** Which may be used, best first. Default: all four. */
  transports?: Transport[];
  /** Keeps the offset under this key of `localStorage`, or by these functions. Saved when the consumer has done with a record. */
  remember?: string | Memory;
  /** Whom to share one connection with. Default: `"tabs"`, where the browser can. */
  share?: "tabs" | "page" | false;
  /** `offset`: behind this record, see {@link Following.offset}. */
  onRecord?(record: unknown, meta: { offset: string }): void;
  onState?(state: State): void;
  onGap?(gap: Gap): void;
}

/** What `on` can listen to, with what the listener gets. */
export interface Events {
  state: State;
  record: unknown;
  gap: Gap;
  end: undefined;
}

/** A stream that is followed. Iterate over it, or listen. */
export interface Following extends AsyncIterable<unknown> {
  readonly state: State;
  /**
   * Behind the last record that the consumer has done with: pass it to `follow` to go on there. Within a batch it is the
   * offset before the batch, `+`, and how many of its records are done.
   */
  readonly offset: string;
  /** Returns a function that takes the listener away. */
  on<Name extends keyof Events>(event: Name, listener: (value: Events[Name]) => void): () => void;
  /** The records as they came together. */
  batches(): AsyncIterable<Records>;
  stop(): void;
}
