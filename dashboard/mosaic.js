// A page of stamps: arrows move, digits grade the stamp in focus, Backspace takes its grade back, Enter opens it.
// Marks are kept as one object and sent whole, and sent again until the server shows them, so that keys faster than
// the server are not lost.
const PATIENCE_MS = 3000;
export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  const root = parentElement.querySelector("#grid");
  // a server that lost this page's session makes a new one: it is told which page of stamps was on screen
  const queue = JSON.stringify(data.queue);
  const lost = root.session && root.session !== data.session && root.queue === queue;
  if (lost && root.past !== data.past) setTriggerValue("resumed", { page: data.page, past: root.past });
  Object.assign(root, { session: data.session, queue, past: data.past });
  if (root.dataset.page !== data.page) {
    root.dataset.page = data.page;
    root.marks = {};
    root.sent = 0;
    clearTimeout(root.timer);
    root.replaceChildren(...data.items.map(cell));
    root.style.gridTemplateColumns = `repeat(${data.columns}, minmax(0, 1fr))`;
  }
  const address = new URL(window.location.href); // a reload comes back to this page of stamps
  address.searchParams.delete("at");
  if (data.past) address.searchParams.set("past", data.past);
  else address.searchParams.delete("past");
  if (address.href !== window.location.href) window.history.replaceState(window.history.state, "", address);
  root.items = data.items;
  root.send = send;
  if (arrived()) clearTimeout(root.timer);
  data.items.forEach((item) => paint(item.token, root.marks[item.token] ?? item.grade));

  function cell(item, index) {
    const button = document.createElement("button");
    button.dataset.token = item.token;
    button.dataset.label = item.label;
    button.tabIndex = index === 0 ? 0 : -1;
    const image = document.createElement("img");
    image.src = item.src;
    image.alt = "";
    image.loading = "lazy";
    const caption = document.createElement("span");
    caption.className = "caption";
    caption.textContent = item.caption;
    const badge = document.createElement("span");
    badge.className = "badge";
    button.append(image, caption, badge);
    button.ondblclick = () => setTriggerValue("opened", item.token);
    return button;
  }

  function paint(token, grade) {
    const button = root.querySelector(`[data-token="${token}"]`);
    if (!button) return;
    button.querySelector(".badge").textContent = grade || "";
    button.dataset.grade = grade || "";
    button.setAttribute("aria-label", `${button.dataset.label}, ${grade ? "graded " + grade : "not graded"}`);
  }

  function mark(button, grade) {
    root.marks = { ...root.marks, [button.dataset.token]: grade };
    paint(button.dataset.token, grade);
    send();
  }

  function send() {
    root.sent += 1; // another value each time, so that the server looks at it
    setStateValue("marks", { page: data.page, grades: root.marks, sent: root.sent });
    clearTimeout(root.timer);
    root.timer = setTimeout(() => arrived() || root.send(), PATIENCE_MS);
  }

  function arrived() {
    return root.items.every((item) => (root.marks[item.token] ?? item.grade) === item.grade);
  }

  function focus(button) {
    if (!button) return;
    root.querySelectorAll("button").forEach((b) => (b.tabIndex = -1));
    button.tabIndex = 0;
    button.focus();
  }

  root.onkeydown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const button = event.target.closest("button");
    if (!button) return;
    const all = [...root.querySelectorAll("button")];
    const at = all.indexOf(button);
    const move = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -data.columns, ArrowDown: data.columns }[event.key];
    const grade = data.keys[event.key];
    if (move) focus(all[at + move]);
    else if (event.key === "Home") focus(all[0]);
    else if (event.key === "End") focus(all[all.length - 1]);
    else if (grade) {
      mark(button, grade);
      focus(all[at + 1]);
    } else if (event.key === "Backspace") mark(button, "");
    else if (event.key === "Enter") setTriggerValue("opened", button.dataset.token);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
}
