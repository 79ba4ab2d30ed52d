// Makes elements. Text always becomes text, never markup, whoever wrote it.

export const $ = (id) => document.getElementById(id);

const fill = (element, attributes, children) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
};

export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

const hues = new Map();

/** Experts in the order of their names get hues as far apart as so many can be. */
export function setExperts(names) {
  hues.clear();
  names.forEach((name, i) => hues.set(name, (28 + i * 137.508) % 360));
}

/** Gives an element the colour of an expert; of "a+b" that of the first. */
export function colour(element, expert) {
  const hue = hues.get(expert) ?? hues.get(String(expert).split("+")[0].split("@")[0]);
  element.classList.add("of");
  element.classList.toggle("base", hue === undefined);
  element.style.setProperty("--hue", hue ?? 0);
  return element;
}

export const nameOf = (expert) => colour(make("span", { class: "name" }, expert), expert);

export function bar(share, expert) {
  const inside = make("span");
  inside.style.setProperty("--value", Math.min(1, Math.max(0, share || 0)));
  const outside = make("div", { class: "bar", "aria-hidden": "true" }, inside);
  return expert === undefined ? outside : colour(outside, expert);
}
