// A chart: one or two lines over the last records, with their newest values and the top of the scale beside them.
// Drawn as SVG, so that colours, themes and sharpness are the style sheet's business.

import { UNITS } from "./format.js";
import { POINTS } from "./series.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 40;

export class Chart {
  #values = [];
  #paths = [];
  #area;
  #top;

  constructor(spec) {
    this.spec = spec;
    this.element = element("div", "chart");
    const head = element("div", "chart-head");
    const label = element("span", "chart-label");
    label.textContent = spec.label;
    head.append(label);
    this.element.append(head);

    const picture = shape("svg", { viewBox: `0 0 ${POINTS - 1} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    picture.setAttribute("aria-label", `${spec.label}, the last ${POINTS} points`);
    this.#area = shape("path", { class: "area" });
    picture.append(this.#area);
    spec.lines.forEach((line, index) => {
      const path = shape("path", { class: `line line-${index + 1}` });
      this.#area.after(path); // the first line on top of the second, where they are one
      this.#paths.push(path);

      const value = element("span", `chart-value line-${index + 1}`);
      const name = element("span", "chart-name");
      name.textContent = line.label ?? "";
      const number = element("span", "chart-number");
      number.textContent = "–";
      value.append(name, number);
      head.append(value);
      this.#values.push(number);
    });
    this.#top = element("span", "chart-top");
    const plot = element("div", "chart-plot");
    plot.append(picture, this.#top);
    this.element.append(plot);
  }

  draw(series) {
    const { lines, unit, atLeast } = this.spec;
    const all = lines.map(({ key }) => series.points(key));
    const { low, high } = scale(all, atLeast);
    const show = UNITS[unit];
    all.forEach((points, index) => {
      this.#paths[index].setAttribute("d", outline(points, low, high));
      const text = points.length > 0 ? show(points.at(-1)) : "–";
      if (this.#values[index].textContent !== text) this.#values[index].textContent = text;
    });
    this.#area.setAttribute("d", filled(all[0], low, high));
    const top = all.some((points) => points.length > 0) ? show(high) : "";
    if (this.#top.textContent !== top) this.#top.textContent = top;
  }
}

// From zero where the numbers allow it, up to a round number, so that the scale seldom moves.
function scale(all, atLeast) {
  const values = all.flat();
  if (values.length === 0) return { low: 0, high: 1 };
  const least = Math.min(...values);
  const most = Math.max(...values, atLeast ?? -Infinity);
  if (least >= 0 && (atLeast !== undefined || least < most * 0.6)) return { low: 0, high: round(most) };
  const span = most - least || Math.abs(most) || 1;
  const low = least >= 0 ? Math.max(0, least - span * 0.15) : least - span * 0.15;
  return { low, high: most + span * 0.15 };
}

function round(most) {
  if (most <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(most));
  return unit * [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((step) => step * unit >= most);
}

function outline(points, low, high) {
  if (points.length === 0) return "";
  const start = POINTS - points.length;
  // A single point has no length: draw it as a short dash, so that the first record is seen.
  const lead = points.length === 1 ? `${start - 3},${y(points[0], low, high)}L` : "";
  return `M${lead}${points.map((value, index) => `${start + index},${y(value, low, high)}`).join("L")}`;
}

function filled(points, low, high) {
  if (points.length < 2) return "";
  return `${outline(points, low, high)}L${POINTS - 1},${HEIGHT}L${POINTS - points.length},${HEIGHT}Z`;
}

function y(value, low, high) {
  const inset = 1.5; // half a stroke, so that the line at the top or bottom is not cut in two
  const share = (value - low) / (high - low || 1);
  return (HEIGHT - inset - share * (HEIGHT - 2 * inset)).toFixed(2);
}

function element(tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
