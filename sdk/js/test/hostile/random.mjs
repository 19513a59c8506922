// Numbers that look random and are the same for the same seed (sfc32).
export class Random {
  #a
  #b
  #c
  #d = 1

  /** `name` keeps the sequences of one seed apart: what one part draws does not shift what another one gets. */
  constructor(seed, name = "") {
    this.#a = seed >>> 0
    this.#b = 0x9e3779b9
    this.#c = [...name].reduce((hash, letter) => Math.imul(hash ^ letter.codePointAt(0), 0x01000193), 0x811c9dc5)
    for (let round = 0; round < 16; round += 1) this.#next()
  }

  /** In [0, 1). */
  fraction() {
    return this.#next() / 2 ** 32
  }

  chance(probability) {
    return this.fraction() < probability
  }

  /** A whole number, both ends included. */
  between(from, to) {
    return from + Math.floor(this.fraction() * (to - from + 1))
  }

  pick(list) {
    return list[this.between(0, list.length - 1)]
  }

  #next() {
    const sum = (this.#a + this.#b + this.#d) | 0
    this.#d = (this.#d + 1) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum
    return sum >>> 0
  }
}
