// The workers as cards, and one line about the whole cluster.
import { $, bar, colour, make, nameOf } from "./elements.js";

const plural = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

function gauge(words, value, most) {
  return make("div", { class: "gauge" }, make("span", {}, words), bar(most ? value / most : 0), make("span", {}, `${value} / ${most}`));
}

function card(worker, residents, chosen) {
  const health = worker.ejected_seconds > 0 ? "ejected" : worker.health;
  const item = make("li", { "data-worker": worker.id },
    make("div", { class: "head" }, make("strong", {}, worker.id || worker.address), make("span", { class: `health ${health}` }, health)),
    make("span", { class: "small" }, worker.device_name || worker.device || worker.address),
    gauge("Answers", worker.running, worker.max_running),
    gauge("Waiting", worker.waiting, worker.max_waiting),
    gauge("KV blocks", worker.kv_blocks_used, worker.kv_blocks_total),
    gauge("Adapters", worker.adapters_resident, worker.adapter_slots));
  if (worker.health !== "ready" && worker.message) item.append(make("span", { class: "small" }, worker.message));
  const names = residents.filter((expert) => expert.workers.includes(worker.id)).map((expert) => expert.name);
  if (names.length) {
    item.append(make("div", { class: "chips" }, make("span", { class: "unseen" }, "holds"), ...names.slice(0, 12).map(nameOf),
      names.length > 12 ? make("span", { class: "small" }, `and ${names.length - 12} more`) : ""));
  }
  if (chosen && chosen.worker === worker.id) {
    item.classList.add("chosen");
    colour(item, chosen.expert);
  }
  return item;
}

/** `chosen`: {worker, expert} of the answer that runs, or nothing. */
export function showCluster(cluster, chosen) {
  const ready = cluster.workers.filter((worker) => worker.health === "ready").length;
  $("summary").textContent = `${cluster.base_model} · ${plural(cluster.experts, "expert")} · ` +
    `${ready} of ${plural(cluster.workers.length, "worker")} ready · ${plural(cluster.requests_running, "answer")} under way` +
    (cluster.requests_waiting ? `, ${cluster.requests_waiting} waiting` : "") + (cluster.draining ? " · draining" : "");
  const workers = cluster.workers.toSorted((a, b) => a.id.localeCompare(b.id, "en", { numeric: true })).slice(0, 64);
  $("workers").replaceChildren(...workers.map((worker) => card(worker, cluster.resident, chosen)));
  if (cluster.workers.length === 0) $("workers").append(make("li", {}, "No workers."));
}
