// Numbers as people read them: short, and of a width that does not jump.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDecimal = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const free = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export function count(n) {
  return whole.format(n);
}

export function bytes(n) {
  if (n < 1000) return `${whole.format(Math.round(n))} B`;
  if (n < 1e6) return `${threeDigits(n / 1e3)} kB`;
  if (n < 1e9) return `${threeDigits(n / 1e6)} MB`;
  return `${threeDigits(n / 1e9)} GB`;
}

export function duration(ms) {
  if (ms === null) return "–";
  if (Math.abs(ms) < 10_000) return `${whole.format(Math.round(ms))} ms`;
  return `${oneDecimal.format(ms / 1000)} s`;
}

function threeDigits(n) {
  return n < 99.95 ? oneDecimal.format(n) : whole.format(n);
}

export const UNITS = {
  plain: (n) => free.format(n),
  load: (n) => n.toFixed(2),
  percent: (n) => `${oneDecimal.format(n)} %`,
  bytesPerSecond: (n) => `${bytes(n)}/s`,
};
