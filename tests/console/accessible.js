// Basic accessibility of the page as it stands: run in it, gives a list of faults in words.
(() => {
  const faults = [];
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => (c * top[3] + below[i] * (255 - top[3])) / 255);
  const light = (colour) => {
    const [r, g, b] = colour.map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
    return layers.reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const seen = (e) => e.getClientRects().length > 0 && !e.closest(".unseen");
  const named = (e) => `${e.tagName.toLowerCase()}${e.id ? `#${e.id}` : ""}.${e.getAttribute("class") ?? ""} "${e.textContent.trim().slice(0, 30)}"`;

  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    if (!texts.currentNode.data.trim() || !seen(element) || element.closest("noscript,datalist,svg")) continue;
    const style = getComputedStyle(element), background = behind(element);
    const found = contrast(over(rgba(style.color), background), background);
    const wanted = parseFloat(style.fontSize) >= 24 ? 3 : 4.5;
    if (found < wanted) faults.push(`contrast ${found.toFixed(2)} of ${wanted}: ${named(element)}`);
  }
  for (const label of document.querySelectorAll("svg .label")) {
    const found = contrast(rgba(getComputedStyle(label).fill), behind(label.closest("figure")));
    if (getComputedStyle(label).opacity === "1" && found < 4.5) faults.push(`contrast ${found.toFixed(2)} of a label on the map: ${label.textContent}`);
  }
  for (const field of document.querySelectorAll("input,textarea,button")) {
    if (!seen(field)) continue;
    const edge = contrast(rgba(getComputedStyle(field).borderTopColor), behind(field.parentElement));
    if (field.type !== "checkbox" && edge < 3) faults.push(`the edge of a field has contrast ${edge.toFixed(2)} of 3: ${named(field)}`);
    const box = field.getBoundingClientRect();
    if (field.type !== "checkbox" && box.height < 24) faults.push(`smaller than a finger can hit: ${named(field)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids.filter((one, i) => ids.indexOf(one) !== i)) faults.push(`the id ${id} is there twice`);
  for (const e of document.querySelectorAll("[aria-labelledby],[aria-describedby],label[for],a[href^='#']")) {
    const refs = `${e.getAttribute("aria-labelledby") ?? ""} ${e.getAttribute("aria-describedby") ?? ""} ${e.getAttribute("for") ?? ""} ${e.getAttribute("href")?.slice(1) ?? ""}`;
    for (const id of refs.split(/\s+/).filter(Boolean)) if (!document.getElementById(id)) faults.push(`${named(e)} names ${id}, which is not there`);
  }
  if (!document.documentElement.lang) faults.push("the page does not say its language");
  if (!document.title) faults.push("the page has no title");
  if (document.querySelectorAll("h1").length !== 1) faults.push("there is not one h1");
  if (document.querySelectorAll("main").length !== 1) faults.push("there is not one main");
  for (const image of document.querySelectorAll("img:not([alt])")) faults.push(`no alt: ${named(image)}`);
  if (document.querySelector("[tabindex]:not([tabindex='0']):not([tabindex='-1'])")) faults.push("a tabindex above 0");
  if (document.documentElement.scrollWidth > innerWidth) faults.push(`the page is ${document.documentElement.scrollWidth} pixels wide in ${innerWidth}`);
  return faults;
})()
