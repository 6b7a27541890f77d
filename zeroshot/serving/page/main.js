// The page: labels on one side, pictures on the other; every change asks again.

import { newCard, showAnswer } from "./cards.js";
import { asCsv, download } from "./csv.js";
import { byId } from "./elements.js";
import { gather } from "./gathering.js";
import { asText, corrected, parsed, showUnderstood, understand } from "./labels.js";
import { Refused, ask, useKey } from "./service.js";

const TOP_K = 5;
const AT_ONCE = 4; // requests; the service puts them together
const PAUSE = 350; // milliseconds after the last key

const pictures = []; // { file, address, card, result, nearest }
let asked = new AbortController();
let labels = ""; // as the service is given them: those that it knows
let made = new Map(); // label to how its vector was made
let pause;

async function start() {
  gather(add);
  byId("labels").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(again, PAUSE);
  });
  byId("adapt").addEventListener("change", again);
  byId("clear").addEventListener("click", () => [...pictures].forEach(remove));
  byId("csv").addEventListener("click", () => {
    download(asCsv(pictures.map((one) => one.result).filter(Boolean)));
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    useKey(byId("key").value);
    byId("key-form").hidden = true;
    again();
  });
  const settings = await (await fetch("settings.json")).json();
  byId("model").textContent = settings.model;
  byId("labels").value = settings.labels;
  byId("labels").placeholder = "okapi: forest giraffe\nzebra\nhorse";
  for (const { name, address } of settings.pictures) {
    const blob = await (await fetch(address)).blob();
    add([new File([blob], name, { type: blob.type })], false);
  }
  await again();
}

function add(files, isNew = true) {
  const added = files.map((file) => {
    const picture = { file, address: URL.createObjectURL(file) };
    picture.card = newCard(picture, () => remove(picture));
    byId("cards").append(picture.card);
    pictures.push(picture);
    return picture;
  });
  count();
  if (isNew) name(byId("adapt").checked ? pictures : added);
}

function remove(picture) {
  pictures.splice(pictures.indexOf(picture), 1);
  picture.card.remove();
  URL.revokeObjectURL(picture.address);
  count();
  if (byId("adapt").checked && pictures.length) name(pictures);
}

function count() {
  const done = pictures.filter((one) => one.result).length;
  const n = pictures.length;
  const some = n === 1 ? "1 picture" : `${n} pictures`;
  byId("status").textContent = n && (done < n ? `${some}, ${done} named` : some);
  byId("clear").disabled = !n;
  byId("csv").disabled = !done;
}

// Looks the labels up anew, then names all pictures by them.
async function again() {
  asked.abort();
  asked = new AbortController();
  const { signal } = asked;
  const given = parsed(byId("labels").value);
  try {
    const found = await understand(given.labels, signal);
    showUnderstood({ ...found, twice: given.twice }, replace);
    labels = asText(found.known);
    made = new Map(found.entries.map((entry) => [entry.label, entry]));
    const own = given.labels.size ? "" : await ofModel(signal);
    byId("labels-note").textContent = own;
    tell("");
    if (given.labels.size && !found.known.size) return;
    await name(pictures);
  } catch (error) {
    fail(error);
  }
}

async function ofModel(signal) {
  const { labels: own } = await ask("labels", null, signal);
  const first = own.slice(0, 3).map((one) => String(one).split(",")[0]).join(", ");
  return `None typed: the model chooses from its own ${own.length}: ${first}, ...`;
}

function replace(label, word) {
  const lines = byId("labels").value.split("\n");
  byId("labels").value = lines.map((line) => {
    const [own] = parsed(line).labels.keys();
    return own === label ? line.replace(label, corrected(label, word)) : line;
  }).join("\n");
  byId("labels").focus();
  again();
}

async function name(some) {
  const { signal } = asked;
  for (const picture of some) picture.card.classList.add("is-waiting");
  try {
    const left = [...some];
    const worker = async () => {
      for (let one = left.shift(); one; one = left.shift()) await nameOne(one, signal);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
    const readable = some.filter((one) => one.result?.ranked.length);
    if (byId("adapt").checked && readable.length > 1) await nameTogether(readable, signal);
    tell("");
  } catch (error) {
    fail(error);
  }
  count();
}

async function nameOne(picture, signal) {
  const fields = [["files", picture.file], ["top_k", TOP_K], ["explain", "true"]];
  if (labels) fields.push(["labels", labels]);
  try {
    [picture.result] = (await ask("predict", fields, signal)).results;
    picture.nearest = picture.result.nearest_seen;
  } catch (error) {
    // Of the picture; or of what all have in common.
    if (!(error instanceof Refused) || ![413, 422].includes(error.status)) throw error;
    const { name: image } = picture.file;
    picture.result = { image, prediction: null, ranked: [], error: error.message };
  }
  showAnswer(picture.card, picture.result, picture.nearest, made);
  count();
}

async function nameTogether(some, signal) {
  const fields = [...some.map((one) => ["files", one.file]), ["top_k", TOP_K], ["adapt", "true"]];
  if (labels) fields.push(["labels", labels]);
  const { results } = await ask("predict", fields, signal);
  results.forEach((result, i) => {
    some[i].result = result;
    showAnswer(some[i].card, result, some[i].nearest, made);
  });
}

function tell(problem) {
  byId("problem").textContent = problem;
  byId("problem").hidden = !problem;
}

function fail(error) {
  if (error.name === "AbortError") return;
  for (const picture of pictures) picture.card.classList.remove("is-waiting");
  if (error.status === 401) {
    byId("key-form").hidden = false;
    byId("key").focus();
  }
  tell(error instanceof Refused ? error.message : "The service does not answer.");
}

start().catch(fail);
