// Elements of the page. All text goes in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function element(name, settings = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(settings)) {
    if (key === "class") made.className = value;
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

// A name that somebody else chose: its writing direction ends with it.
export const name = (text) => element("bdi", {}, String(text));
