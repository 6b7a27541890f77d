// The labels that are typed, and how the service understands each of them.

import { byId, element, name } from "./elements.js";
import { ask } from "./service.js";

// Returns labels and their other names, and labels that come twice.
export function parsed(text) {
  const labels = new Map();
  const twice = [];
  for (const line of text.split("\n")) {
    if (!line.trim() || line.trim().startsWith("#")) continue;
    const separator = line.trim().includes("\t") ? "\t" : ": ";
    const [first, ...rest] = line.trim().split(separator);
    const label = first.trim().replace(/:$/, "").trim();
    const others = rest.join(separator).split(",").map((one) => one.trim());
    if (!label) continue;
    if (labels.has(label)) twice.push(label);
    else labels.set(label, others.filter(Boolean));
  }
  return { labels, twice };
}

// The text of a mapping, in the order given: a JavaScript object would sort numbers.
export function asText(labels) {
  if (!labels.size) return "";
  const pairs = [...labels].map(([label, others]) => {
    return `${JSON.stringify(label)}:${JSON.stringify(others)}`;
  });
  return `{${pairs.join(",")}}`;
}

// Returns how labels are understood; unknown ones are left out, and told.
export async function understand(labels, signal) {
  const known = new Map(labels);
  const unknown = new Map();
  let entries = [];
  while (known.size) {
    try {
      const answer = await ask("labels", [["labels", asText(known)]], signal);
      entries = answer.labels;
      break;
    } catch (error) {
      const named = (error.labels ?? []).filter((label) => known.delete(label));
      if (!named.length) throw error;
      for (const label of named) unknown.set(label, error.suggestions[label] ?? []);
    }
  }
  return { known, unknown, entries };
}

export function howMade(entry) {
  const words = entry.words.map((word) => `\u201c${word}\u201d`).join(" + ");
  const made = {
    exact: `the word ${words}`,
    variant: `the word ${words}`,
    phrase: `the phrase ${words}`,
    number: `the word ${words}`,
    alias: `by its other name, ${words}`,
    mean: `the mean of ${words}`,
    subwords: `composed of ${words}`,
    images: "known by its images alone",
  };
  return made[entry.how] ?? `${entry.how} ${words}`;
}

export function showUnderstood({ entries, unknown, twice }, replace) {
  const items = entries.map((entry) => {
    const told = element("span", { class: "how" }, ` ${howMade(entry)}`);
    if (entry.seen) told.append("; seen in training");
    const item = element("li", {}, name(entry.label), told);
    if (entry.missing.length) {
      const missing = entry.missing.map((word) => `\u201c${word}\u201d`).join(", ");
      item.append(element("span", { class: "missing" }, `, without ${missing}`));
    }
    return item;
  });
  for (const [label, suggestions] of unknown) {
    const item = element("li", {}, name(label));
    item.append(element("span", { class: "unknown" }, " unknown: left out"));
    if (suggestions.length) item.append(element("br"), "Did you mean ");
    for (const word of suggestions) {
      const button = element("button", { type: "button" }, name(word));
      button.addEventListener("click", () => replace(label, word));
      item.append(button);
    }
    items.push(item);
  }
  for (const label of twice) {
    const told = element("span", { class: "unknown" }, " is there twice");
    items.push(element("li", {}, name(label), told));
  }
  items.sort((a, b) => !!b.querySelector(".unknown") - !!a.querySelector(".unknown"));
  byId("understood").replaceChildren(...items);
}

// Puts a suggested word in place of the word of a label that is most like it.
export function corrected(label, word) {
  const words = label.split(/\s+/);
  const distances = words.map((one) => distance(one.toLowerCase(), word.toLowerCase()));
  words[distances.indexOf(Math.min(...distances))] = word;
  return words.join(" ");
}

function distance(a, b) {
  let row = [...Array(b.length + 1).keys()];
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j] + 1, next[j - 1] + 1, change));
    }
    row = next;
  }
  return row[b.length];
}
