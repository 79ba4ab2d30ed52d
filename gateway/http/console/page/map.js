// The map: every expert's prototypes in a plane, and where a question fell among them.
import { $, colour, draw } from "./elements.js";

const WIDTH = 640, HEIGHT = 350, MARGIN = 40;
const MAX_LABELS = 30, MAX_HALOS = 60, MAX_EARLIER = 12;

export class ExpertMap {
  constructor() {
    this.svg = $("map");
    this.page = undefined;
    this.groups = new Map();
    this.earlier = [];
  }

  show(page) {
    this.page = page;
    this.groups.clear();
    this.earlier = [];
    this.svg.replaceChildren();
    const points = page.experts.flatMap((expert) => expert.points);
    $("map-text").textContent = this.words();
    if (points.length === 0) return;
    this.frame(points);
    const size = points.length > 1000 ? 2 : points.length > 300 ? 2.8 : 4;
    const halos = draw("g");
    const labels = [];
    this.svg.append(halos);
    for (const { name, points: own } of page.experts) {
      const group = colour(draw("g", { "data-expert": name }), name);
      const places = own.map((point) => this.place(point));
      group.append(...places.map(([x, y]) => draw("circle", { class: "dot", cx: x, cy: y, r: size })));
      const middle = [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
      if (page.experts.length <= MAX_HALOS) {
        halos.append(colour(draw("circle", { class: "halo", cx: middle[0], cy: middle[1], r: 46 }), name));
      }
      const top = Math.min(...places.map((place) => place[1]));
      labels.push({ x: middle[0], y: Math.max(16, top - 10), name, group, shown: page.experts.length <= MAX_LABELS });
      this.groups.set(name, { group, places });
      this.svg.append(group);
    }
    this.write(labels);
    this.layer = draw("g");
    this.svg.append(this.layer);
  }

  // One scale for both axes would be honest and often a thin strip: they may differ, but not by much.
  frame(points) {
    const range = (axis) => {
      const values = points.map((point) => point[axis]);
      return [Math.min(...values), Math.max(...values)];
    };
    const [left, right] = range(0), [low, high] = range(1);
    let x = (WIDTH - 2 * MARGIN) / (right - left || 1), y = (HEIGHT - 2 * MARGIN) / (high - low || 1);
    x = Math.min(x, 2 * y);
    y = Math.min(y, 2 * x);
    this.place = (point) => {
      const clamp = (value, size) => Math.min(size - 14, Math.max(14, value));
      return [clamp(WIDTH / 2 + (point[0] - (left + right) / 2) * x, WIDTH),
              clamp(HEIGHT / 2 - (point[1] - (low + high) / 2) * y, HEIGHT)].map((value) => Math.round(value * 10) / 10);
    };
  }

  // Labels that would lie on each other move down a line.
  write(labels) {
    const written = [];
    for (const label of labels.sort((a, b) => a.y - b.y)) {
      const half = label.name.length * 4;
      label.x = Math.min(WIDTH - half - 6, Math.max(half + 6, label.x));
      const hit = (other) => Math.abs(other.y - label.y) < 15 && Math.abs(other.x - label.x) < half + other.half;
      while (label.shown && written.some(hit) && label.y < HEIGHT - 8) label.y += 15;
      if (label.shown) written.push({ ...label, half });
      const text = draw("text", { class: "label", x: label.x, y: label.y, display: label.shown ? undefined : "none" }, label.name);
      label.group.append(text);
    }
  }

  /** Where an embedding falls, or nothing where there is no map. */
  project(embedding) {
    if (!this.page?.axes || this.page.centre.length !== embedding.length) return undefined;
    return this.page.axes.map((axis) => axis.reduce((sum, value, i) => sum + value * (embedding[i] - this.page.centre[i]), 0));
  }

  /** `keep`: the question was asked, so its place stays when the next one comes. */
  mark(embedding, route, keep) {
    const point = this.project(embedding);
    if (!point || !this.layer) return;
    const [x, y] = this.place(point);
    this.layer.replaceChildren();
    for (const [ex, ey] of this.earlier) this.layer.append(draw("circle", { class: "before", cx: ex, cy: ey, r: 4 }));
    const chosen = new Set(route.experts.map((expert) => expert.name));
    const near = new Set([...chosen, ...route.candidates.map((candidate) => candidate.name)]);
    for (const [name, { group }] of this.groups) group.classList.toggle("near", near.has(name));
    for (const label of this.svg.querySelectorAll(".label")) {
      const group = label.parentNode;
      if (this.groups.size > MAX_LABELS) label.setAttribute("display", near.has(group.dataset.expert) ? "inline" : "none");
    }
    for (const { name, score } of [...route.candidates].reverse()) {
      const places = this.groups.get(name)?.places;
      if (!places) continue;
      const far = (place) => (place[0] - x) ** 2 + (place[1] - y) ** 2;
      const to = places.reduce((best, place) => (far(place) < far(best) ? place : best));
      const way = draw("line", { class: chosen.has(name) ? "way chosen" : "way", x1: x, y1: y, x2: to[0], y2: to[1],
                                 "stroke-width": 1 + 3 * Math.max(0, score) });
      this.layer.append(colour(way, name));
    }
    this.layer.append(draw("circle", { class: "ring", cx: x, cy: y, r: 11 }), draw("circle", { class: "here", cx: x, cy: y, r: 5 }));
    this.svg.classList.add("routed");
    if (keep) this.earlier = [...this.earlier, [x, y]].slice(-MAX_EARLIER);
    const best = route.candidates[0];
    $("map-text").textContent = `${this.words()} ${best ? `Your question (ring) fell nearest to ${best.name}.` : ""}`;
  }

  words() {
    const n = this.page.experts.length;
    if (n === 0) return "No experts to route to.";
    const what = n === 1 ? "One expert" : `${n} experts`;
    return `${what}${this.page.complete ? "" : " of more"}, each by its prototypes: near means alike, as far as a plane can show it.`;
  }
}
