// Name of the object on screen and its buttons: one message of the server changes both, so a key never
// grades another object than the one that is named and drawn, and no key is lost between the two.
const RESUME_MS = 5000; // no key grades the object of a new session while the old one's is asked for
export default function (component) {
  const { data, parentElement, setTriggerValue } = component;
  const root = parentElement.querySelector("#lm-bar");

  const head = document.createElement("div");
  if (data.target) {
    head.id = "lm-object";
    head.dataset.target = data.target;
  }
  data.words.forEach(({ text, sub, after, kind }) => {
    const word = document.createElement("span");
    word.className = kind || "";
    word.append(text);
    if (sub) {
      const low = document.createElement("sub");
      low.textContent = sub;
      word.append(low);
    }
    word.append(after || "");
    head.append(word);
  });
  head.className = "lm-words";

  const missed = keepPlace();
  const row = document.createElement("div");
  row.className = "lm-buttons";
  data.buttons.forEach((button) => {
    const made = document.createElement("button");
    made.type = "button";
    made.disabled = button.disabled;
    made.className = button.primary ? "lm-given" : "";
    made.setAttribute("aria-keyshortcuts", button.key);
    made.append(button.label + " ");
    const key = document.createElement("kbd");
    key.textContent = button.shown;
    made.append(key);
    made.onclick = () => act(button);
    row.append(made);
  });
  const had = [...root.querySelectorAll("button")].indexOf(document.activeElement);
  const note = document.createElement("div");
  note.className = "lm-sub lm-wait";
  note.setAttribute("role", "status");
  if (missed) note.textContent = "The connection was lost, and your last key with it. Press it again.";
  root.replaceChildren(head, row, note);
  if (had >= 0) root.querySelectorAll("button")[had]?.focus(); // whoever goes by Tab stays at the button

  // The place stands in the address, so a reload comes back to it. A server that was killed makes a new session of
  // the same queue behind a page that stays open: it is told where the reviewer was.
  function keepPlace() {
    const queue = JSON.stringify(data.queue);
    const lost = root.session && root.session !== data.session && root.queue === queue;
    const was = root.place;
    const missed = lost && root.asked === root.token; // a key that the old session never answered
    Object.assign(root, { session: data.session, queue, place: data.place, token: data.token });
    if (lost && JSON.stringify(was) !== JSON.stringify(data.place)) {
      root.leaving = { token: data.token, until: performance.now() + RESUME_MS };
      send({ act: "resume", place: was });
    }
    const address = new URL(window.location.href);
    ["at", "past"].forEach((name) => {
      if (data.place[name]) address.searchParams.set(name, data.place[name]);
      else address.searchParams.delete(name);
    });
    if (address.href !== window.location.href) window.history.replaceState(window.history.state, "", address);
    return missed;
  }

  function send(what) {
    root.asked = data.token;
    setTriggerValue("act", { token: data.token, ...what });
  }

  function act(button) {
    if (button.disabled) return;
    if (root.leaving?.token === data.token && performance.now() < root.leaving.until) {
      note.textContent = "Not graded: going back to the object where you stood. Press again when it is here.";
      return;
    }
    if (button.needs_picture && !drawn()) {
      note.textContent = "Not graded: its pictures are still on their way. Press again when they are here.";
      return;
    }
    note.textContent = "";
    send({ act: button.act });
  }

  // whether the pictures on screen are there, and of this object, not still of the one before
  function drawn() {
    const parts = [...document.querySelectorAll(".lm-of")];
    const images = parts.flatMap((e) => [e, ...e.querySelectorAll("img")]).filter((e) => e.tagName === "IMG");
    return parts.every((e) => e.dataset.target === data.target) && images.every((i) => i.complete);
  }

  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || typing(event)) return;
    const button = data.buttons.find((b) => b.key.toLowerCase() === event.key.toLowerCase());
    if (!button) return;
    event.preventDefault();
    act(button);
  }

  function typing(event) {
    const at = event.composedPath()[0];
    if (!(at instanceof Element)) return false;
    if (at.closest("input, textarea, select, [contenteditable=true]")) return true;
    return event.key.startsWith("Arrow") && at.closest("[role=slider], [role=radiogroup], [role=tablist]") !== null;
  }

  document.addEventListener("keydown", pressed);
  return () => document.removeEventListener("keydown", pressed);
}
