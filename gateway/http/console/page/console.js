// Asks a question and shows where it went: the route, the answer as it comes, the workers.
import { get, key, post, Refusal, stream } from "./api.js";
import { $, bar, colour, make, nameOf, setExperts } from "./elements.js";
import { ExpertMap } from "./map.js";
import { showCluster } from "./workers.js";

const POLL_MS = 2000, MAX_POLL_MS = 16000, TYPING_PAUSE_MS = 350;
const MAX_MESSAGES = 40; // of a conversation that are sent along

const map = new ExpertMap();
let messages = [];
let running; // the AbortController of the answer under way
let chosen; // {worker, expert} of that answer
let cluster;

const say = (words) => ($("status").textContent = words);
const decimals = (value) => (Number.isFinite(value) ? value.toFixed(3) : "–");

// --- What is there ---

async function loadExperts() {
  const models = (await get("/v1/models")).data.map((model) => model.id);
  setExperts(models.filter((name) => name !== "auto" && name !== "base"));
  $("models").replaceChildren(...models.map((name) => make("option", { value: name })));
  if (!models.includes("auto") && $("model").value === "auto") $("model").value = "base";
  map.show(await get("/v1/map"));
}

let pollMs = POLL_MS, timer;
async function poll() {
  clearTimeout(timer);
  try {
    const before = cluster?.catalogue_generation;
    cluster = await get("/v1/cluster");
    if (cluster.catalogue_generation !== before) await loadExperts();
    showCluster(cluster, chosen);
    pollMs = POLL_MS;
  } catch (error) {
    if (error.status === 401) {
      $("summary").textContent = "This gateway asks for an API key.";
      if (!$("key-dialog").open) askForKey(key.get() ? error.message : "");
      return; // whoever gives one calls again
    }
    cluster = undefined;
    $("summary").textContent = error instanceof Refusal ? error.message : "The gateway does not answer.";
    pollMs = Math.min(2 * pollMs, MAX_POLL_MS);
  }
  if (document.visibilityState === "visible") timer = setTimeout(poll, pollMs);
}
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && poll());

// --- The route ---

function showRoute(route) {
  const experts = route.experts.map((expert) => expert.name);
  const who = experts.length ? experts.map(nameOf) : [nameOf("base")];
  const parts = who.flatMap((name, i) => (i ? [" + ", name] : [name]));
  const score = route.experts[0]?.score ?? route.candidates[0]?.score;
  $("verdict").replaceChildren(...parts, ` · score ${decimals(score)} · margin ${decimals(route.margin)} · ${route.policy}`,
    make("span", { class: "reason" }, route.reason));
  $("scores").hidden = route.candidates.length === 0;
  $("scores").tBodies[0].replaceChildren(...route.candidates.map((candidate) =>
    make("tr", {}, make("td", {}, nameOf(candidate.name)), make("td", {}, bar(candidate.score, candidate.name)),
      make("td", { class: "number" }, decimals(candidate.score)))));
}

const embed = async (text, signal) =>
  (await post("/v1/embeddings", { model: "embedder", input: text }, signal)).data[0].embedding;

let preview, pause;
function previewRoute() {
  clearTimeout(pause);
  preview?.abort();
  const text = $("question").value.trim();
  if (!$("live").checked || !text || running || $("model").value !== "auto") return;
  pause = setTimeout(async () => {
    preview = new AbortController();
    try {
      const ask = { model: "auto", messages: [...messages.slice(-MAX_MESSAGES), { role: "user", content: text }] };
      const [routed, embedding] = await Promise.all([post("/v1/route", ask, preview.signal), embed(text, preview.signal)]);
      if (running) return;
      showRoute(routed.coterie);
      map.mark(embedding, routed.coterie, false);
    } catch {
      // Only a preview: the question itself will say what is wrong.
    }
  }, TYPING_PAUSE_MS);
}

// --- Questions and answers ---

function answerCard() {
  const who = make("div", { class: "who" }, "…"), text = make("div", { class: "text" });
  const card = make("li", { class: "answer", "aria-busy": "true" }, who, text);
  const log = $("log");
  log.append(card);
  // Whoever reads further up is left there.
  const following = (change) => {
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
    change();
    if (follow) log.scrollTop = log.scrollHeight;
  };
  return {
    card, who,
    write: (more) => following(() => text.append(more)),
    add: (words) => following(() => who.append(make("span", {}, words))),
    note: (kind, words) => following(() => card.append(make("p", { class: kind }, words))),
  };
}

function begin(shown, chunk, started) {
  const route = chunk.coterie;
  chosen = { worker: route.worker, expert: chunk.model };
  colour(shown.card, chunk.model);
  const score = route.experts[0]?.score;
  shown.who.replaceChildren(nameOf(chunk.model), ...[
    route.candidates.length && score !== undefined ? `score ${decimals(score)}` : "",
    route.worker ? `on ${route.worker}` : "", `first words after ${Math.round(performance.now() - started)} ms`,
  ].filter(Boolean).map((words) => make("span", {}, words)));
  showRoute(route);
  if (cluster) showCluster(cluster, chosen);
  say(`${chunk.model} answers. ${route.reason}`);
  return route;
}

async function ask(text) {
  const started = performance.now();
  $("hint").hidden = true;
  $("log").append(make("li", { class: "asked" }, text));
  const shown = answerCard();
  $("log").scrollTop = $("log").scrollHeight;
  const conversation = messages; // "New conversation" begins another list
  conversation.push({ role: "user", content: text });
  running = new AbortController();
  busy(true);
  const place = embed(text, running.signal).catch(() => undefined);
  const body = { model: $("model").value.trim() || "auto", messages: conversation.slice(-MAX_MESSAGES),
                 max_tokens: Number($("tokens").value) || 256, temperature: 0, stream_options: { include_usage: true } };
  let answer = "", usage, finish, given = false;
  try {
    for await (const { data, comment } of stream("/v1/chat/completions", body, running.signal)) {
      if (comment && comment !== "keep-alive") shown.note("note", comment);
      if (data?.coterie) {
        const route = begin(shown, data, started);
        place.then((embedding) => embedding && map.mark(embedding, route, true));
      }
      const choice = data?.choices[0];
      if (choice?.delta.content) {
        answer += choice.delta.content;
        shown.write(choice.delta.content);
      }
      finish = choice?.finish_reason ?? finish;
      usage = data?.usage ?? usage;
    }
    shown.add(`${usage?.completion_tokens ?? "?"} tokens${finish === "length" ? ", cut at the limit" : ""}`);
    say(`${chosen?.expert ?? ""}: ${answer}`);
  } catch (error) {
    const stopped = error.name === "AbortError";
    const later = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
    if (shown.who.textContent === "…") shown.who.replaceChildren();
    shown.note(stopped ? "note" : "wrong", stopped ? "Stopped." : `${error.message}.${later}`.replace("..", "."));
    say(stopped ? "Stopped." : error.message);
    if (!answer) { // nothing to go on from: the question may be asked again
      conversation.pop();
      if (!$("question").value) $("question").value = stopped ? "" : text;
    }
    if (error.status === 401) askForKey(error.message);
  }
  if (answer) conversation.push({ role: "assistant", content: answer });
  shown.card.setAttribute("aria-busy", "false");
  running = chosen = undefined;
  busy(false);
  poll();
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
  if (!is && document.activeElement === document.body) $("question").focus();
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value.trim();
  if (!text || running) return $("question").focus();
  clearTimeout(pause);
  preview?.abort();
  $("question").value = "";
  $("question").focus();
  ask(text);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("question").addEventListener("input", previewRoute);
$("live").addEventListener("change", previewRoute);
$("stop").addEventListener("click", () => running?.abort());
$("fresh").addEventListener("click", () => {
  running?.abort();
  messages = [];
  for (const item of [...$("log").children]) if (item.id !== "hint") item.remove();
  $("hint").hidden = false;
  say("A new conversation.");
  $("question").focus();
});

// --- The key ---

function askForKey(problem) {
  $("key-error").textContent = problem ?? "";
  $("key").value = "";
  $("key-dialog").showModal();
}
function useKey(value) {
  key.set(value);
  $("key-dialog").close();
  $("live").checked = !value; // a key has a quota, which typing should not spend
  cluster = undefined;
  poll();
}
$("key-button").addEventListener("click", () => askForKey(""));
$("key-cancel").addEventListener("click", () => $("key-dialog").close());
$("key-forget").addEventListener("click", () => useKey(""));
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
});

$("live").checked = !key.get();
poll();
