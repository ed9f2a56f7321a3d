// Keeps the settings text and its form in step. The browser holds the text; the server is asked what
// an edit makes of it. One question is on its way at a time: what is changed meanwhile waits for the
// answer and goes with the next question, so no edit is lost however fast they come.
(function () {
  "use strict";
  if (window.acft && window.acft.draft) return;

  const PAUSE = 350;       // After the last letter, before the server is asked.
  const PATIENCE = 60000;  // After so long an answer is taken as lost.
  let ask = null;
  let number = 0;
  let sent = null;         // {number, text, edits} on its way.
  let waiting = [];        // Edits that no question carries yet.
  let held = [];           // Edits of a text that is no TOML; they are made when it is again.
  let isStale = false;     // The text was typed in since the last question.
  let before = null;       // {text, query, edits, isHand}: what a preset, file or link replaced.
  let hand = null;         // Where the page's text came from, if it was edited by hand since.
  let origin = null;       // {text, query}: the latest text that came as it was and is not edited yet.
  let timer = 0, lost = 0;
  let atRest = [];
  let isRead = false;      // The page's text has come.
  let planned = null;      // The text that a grid was last asked to vary.
  let varied = null;       // Lines of a grid that was left with the page.

  const area = () => document.querySelector(".code textarea");
  const grid = () => document.querySelector("[data-act=vary]");
  const isOpen = () => Boolean(waiting.length || isStale || sent);

  function show() {
    document.body.classList.toggle("unchecked", isOpen());
    if (isOpen()) return;
    const waiters = atRest;
    atRest = [];
    // Answers fill several parts of the page; let all of them be drawn.
    setTimeout(() => waiters.forEach((done) => done()), 50);
  }

  function send() {
    clearTimeout(timer);
    if (sent || !ask || !(waiting.length || isStale)) return;
    sent = { number: ++number, text: area().value, edits: waiting };
    waiting = [];
    isStale = false;
    lost = setTimeout(again, PATIENCE);
    ask(sent);
  }

  function again() {
    waiting = [...sent.edits, ...waiting];
    isStale = true;
    sent = null;
    send();
  }

  function soon(pause) {
    clearTimeout(timer);
    timer = setTimeout(send, pause);
    show();
  }

  const same = (a) => (b) => JSON.stringify(a) === JSON.stringify(b.path);
  const open = () => (sent ? [...sent.edits, ...waiting] : waiting);

  function edit(change, pause) {
    // Entries are counted as the form shows them: the next is added or removed when it has been drawn.
    if (change.list && open().some((other) => other.list)) return;
    hand = sources();
    if (change.path) waiting = waiting.filter((other) => !same(change.path)(other));
    waiting.push(change);
    soon(pause);
  }

  function typed() {
    hand = sources();
    isStale = true;
    waiting = [...held, ...waiting];
    held = [];
    shown(area().value);
    soon(PAUSE);
  }

  // Writes a text as if it had been typed; the caret stays at the letter where it was.
  function write(text) {
    const box = area();
    if (box.value === text) return;
    const old = box.value, caret = box.selectionStart;
    box.value = text;
    let equal = 0;
    while (equal < caret && old[equal] === text[equal]) equal++;
    const place = equal < caret ? Math.max(equal, caret + text.length - old.length) : caret;
    box.setSelectionRange(place, place);
    box.dispatchEvent(new CustomEvent("input", { bubbles: true, detail: "written" }));
  }

  function answer(told) {
    if (!sent || told.number !== sent.number) return;
    clearTimeout(lost);
    const done = sent;
    sent = null;
    const isNewer = area().value !== done.text;
    if (!told.applied) held = done.edits;
    if (done.edits.length && told.applied && !isNewer) write(told.text);
    // Typed on meanwhile: the same edits are made in the newer text instead of replacing it.
    if (done.edits.length && told.applied && isNewer) {
      const changedAgain = (change) => change.path && waiting.some(same(change.path));
      waiting = [...done.edits.filter((change) => !changedAgain(change)), ...waiting];
    }
    if (waiting.length || isStale) soon(isStale ? PAUSE : 0);
    show();
  }

  const settled = () => {
    send();
    return isOpen() ? new Promise((done) => { atRest.push(done); }) : Promise.resolve();
  };

  const isWaiting = (path) => waiting.some(same(path));
  const isUnderway = (path) => open().some(same(path));

  // What of the address says where a text came from.
  function sources() {
    const query = new URLSearchParams(location.search);
    const names = ["preset", "from", "with"];
    return Object.fromEntries(names.map((name) => [name, query.get(name) || ""]));
  }

  const present = () => ({
    text: area().value, query: hand || (origin ? origin.query : sources()), edits: held, isHand: Boolean(hand),
  });

  // A preset or file is about to replace the text. What was edited by hand is kept until other
  // text that was is replaced.
  function replace() {
    if (hand || !before?.isHand) before = present();
    hand = null;
  }

  // What there is to go back to: a text as it came where it was edited since, else what it replaced.
  const other = (text) => (hand && origin && origin.text !== text ? origin : before);

  async function undo() {
    await settled();
    const old = other(area().value);
    before = present();
    hand = old.isHand ? old.query : null;
    window.acft.setQuery(old.query);
    const preset = document.querySelector("[data-query=preset]");
    if (preset) preset.value = old.query.preset;
    held = [];
    waiting.push(...(old.edits || []));
    write(old.text);
    isStale = true;
    soon(0);
  }

  const nameOf = (old) => (old.isHand ? "my text" : old.query.preset ? "the preset"
    : old.query.from ? "the run's settings" : "the text before");

  // The button stands beside every text but the one that it would bring, and says which.
  function shown(text) {
    if (isRead && !hand) origin = { text, query: sources() };
    const old = other(text);
    document.body.classList.toggle("replaced", Boolean(old) && old.text !== text);
    const button = document.querySelector("[data-do=undo-text]");
    if (button && old) button.textContent = `Back to ${nameOf(old)}`;
    plan(text);
  }

  // What a grid would queue is asked again when the text that it varies has changed.
  function plan(text) {
    const field = grid();
    if (field && varied) {
      field.value = varied;
      field.closest("details").open = true;
      [varied, planned] = [null, null];
    }
    if (field?.value.trim() && planned !== text) field.dispatchEvent(new Event("input", { bubbles: true }));
    planned = text;
  }

  // The path of a table's head; entries of a list of tables are counted as they come.
  function tablePath(names, isEntry, counts) {
    return names.split(".").reduce((path, name, i, all) => {
      const here = path ? `${path}.${name}` : name;
      if (isEntry && i === all.length - 1) counts.set(here, (counts.get(here) ?? -1) + 1);
      return counts.has(here) ? `${here}.${counts.get(here)}` : here;
    }, "");
  }

  // The line that a setting stands in, else the head of the innermost table around it.
  function lineOf(key, lines) {
    const counts = new Map();
    let table = "", best = "", found = 0;
    lines.forEach((line, number) => {
      const head = /^\s*(\[\[?)\s*([\w.-]+)\s*\]/.exec(line);
      const setting = /^\s*([\w.-]+)\s*=/.exec(line);
      if (!head && !setting) return;
      if (head) table = tablePath(head[2], head[1] === "[[", counts);
      const path = head ? table : table ? `${table}.${setting[1]}` : setting[1];
      const shared = `${path}.`.startsWith(`${key}.`) ? key : path;
      const isAround = `${key}.`.startsWith(`${shared}.`);
      if (isAround && shared.length > best.length) [best, found] = [shared, number];
    });
    return found;
  }

  function showLine(key) {
    const box = area(), lines = box.value.split("\n"), line = lineOf(key, lines);
    const end = lines.slice(0, line + 1).join("\n").length;
    box.focus();
    box.setSelectionRange(end, end);
    box.scrollTop = box.scrollHeight * (line - 3) / lines.length;
  }

  document.addEventListener("input", (event) => {
    if (event.target === area() && event.detail !== "written") typed();
  });

  const stored = (name) => JSON.parse(sessionStorage.getItem(name) || "null");
  const store = (name, value) =>
    value ? sessionStorage.setItem(name, JSON.stringify(value)) : sessionStorage.removeItem(name);

  // Who leaves within the pause finds the last letters and edits again on return.
  function keep() {
    if (!isRead) return;
    const edits = [...held, ...open()];
    try {
      sessionStorage.setItem("acft-draft", area().value);
      store("acft-edits", edits.length ? edits : null);
      store("acft-before", before);
      store("acft-hand", hand);
      store("acft-origin", origin);
      store("acft-grid", grid()?.value);
    } catch { /* private window */ }
  }

  function restore() {
    isRead = true;
    isStale = true;
    try {
      waiting = [...(stored("acft-edits") || []), ...waiting];
      before = before || stored("acft-before");
      hand = hand || stored("acft-hand");
      origin = origin || stored("acft-origin");
      varied = stored("acft-grid");
    } catch { /* no edits */ }
    shown(area().value);
    soon(0);
  }

  window.addEventListener("pagehide", keep);

  function start(element, props, trigger, watch) {
    ask = (question) => trigger("ask", question);
    const read = () => {
      const told = JSON.parse(props.value);
      if (!told) return;
      told.check ? restore() : answer(told);
    };
    watch("value", read);
    read();
  }

  window.acft.draft = {
    start, edit, settled, isWaiting, isUnderway, replace, undo, shown, showLine, PAUSE,
  };
})();
