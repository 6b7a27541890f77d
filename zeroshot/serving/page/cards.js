// One card for each picture: what it shows, how sure that is, and why.

import { byId, element, name } from "./elements.js";
import { howMade } from "./labels.js";

const BASES = {
  images: "images of training",
  pretrained: "a class the network was trained on",
  word: "its word alone",
};

export function percent(share) {
  const value = 100 * share;
  if (value > 0 && value < 0.1) return "< 0.1 %";
  return `${value.toFixed(value < 10 ? 1 : 0)} %`;
}

export function newCard(picture, remove) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  image.src = picture.address;
  image.alt = picture.file.name;
  card.querySelector(".name bdi").textContent = picture.file.name;
  const button = card.querySelector(".remove");
  button.setAttribute("aria-label", `Remove ${picture.file.name}`);
  button.addEventListener("click", remove);
  return card;
}

// `made`: how the vector of each label was made, by label.
export function showAnswer(card, result, nearest, made) {
  const heading = card.querySelector("h3");
  const ranked = card.querySelector(".ranked");
  card.classList.remove("is-waiting", "is-rejected");
  heading.className = "";
  card.querySelector("details").hidden = !result.ranked.length;
  if (!result.ranked.length) {
    heading.className = "failed";
    heading.textContent = result.error ?? "There is no answer.";
    ranked.replaceChildren();
    return;
  }
  const rejected = result.ranked[0].rejected;
  card.classList.toggle("is-rejected", rejected);
  heading.classList.toggle("none", rejected);
  heading.replaceChildren(rejected ? "none of these" : name(result.prediction));
  ranked.replaceChildren(...result.ranked.map(bar));
  card.querySelector(".why").replaceChildren(...why(result, nearest, made));
}

function bar(answer) {
  const fill = element("span");
  fill.style.setProperty("--share", `${100 * answer.probability}%`);
  return element(
    "li",
    {},
    element("span", {}, name(answer.label)),
    element("span", { class: "percent" }, percent(answer.probability)),
    element("span", { class: "track", ariaHidden: "true" }, fill),
  );
}

function why(result, nearest, made) {
  const items = result.ranked.map((answer, i) => {
    const entry = result.vectors?.[i] ?? made.get(answer.label);
    const known = `known from ${BASES[answer.basis] ?? answer.basis}`;
    const told = [`score ${answer.score.toFixed(3)}`, known];
    if (entry) told.push(`vector: ${howMade(entry)}`);
    const text = element("span", { class: "how" }, ` ${told.join("; ")}`);
    return element("li", {}, name(answer.label), text);
  });
  const parts = [element("ul", {}, ...items)];
  if (nearest?.length) {
    const near = element("p", { class: "nearest" }, "Nearest known classes: ");
    nearest.forEach((one, i) => {
      // ImageNet's names are lists: the first one will do.
      near.append(i ? ", " : "", name(String(one.label).split(",")[0]));
      near.append(` ${one.cosine.toFixed(2)}`);
    });
    parts.push(near);
  }
  return parts;
}
