// Draws nodes ([tag, attributes, ...children] or strings) with createElement and textContent only.
(function () {
  "use strict";
  if (window.acft) return;

  const SVG = "http://www.w3.org/2000/svg";
  const SVG_TAGS = new Set(["svg", "g", "path", "line", "rect", "circle", "polyline", "polygon", "text"]);
  const TAGS = new Set([
    "div", "span", "p", "h1", "h2", "h3", "h4", "ul", "ol", "li", "dl", "dt", "dd", "a", "b", "i", "em",
    "strong", "small", "code", "pre", "kbd", "mark", "ins", "del", "table", "caption", "thead", "tbody", "tr", "th",
    "td", "button", "nav", "header", "main", "section", "article", "aside", "footer", "details",
    "summary", "label", "input", "select", "option", "progress", "time", "br", "hr", "abbr", "form", "figure",
    "figcaption", "meter", "textarea", "fieldset", "legend", "datalist", "output", ...SVG_TAGS,
  ]);
  const ATTRIBUTE = /^(class|id|title|role|tabindex|type|name|value|min|max|step|low|high|optimum|scope|colspan|rowspan|for|open|checked|disabled|selected|placeholder|multiple|accept|rows|cols|spellcheck|inputmode|autocomplete|list|lang|dir|datetime|maxlength|hidden|download|key|href|aria-[a-z]+|data-[a-z-]+|d|x|y|x1|x2|y1|y2|cx|cy|r|rx|width|height|points|viewBox|viewbox|preserveAspectRatio|preserveaspectratio|fill|stroke|stroke-width|stroke-dasharray|text-anchor|opacity|transform|focusable)$/;
  const SAFE_LINK = /^(?:#|\.?\/(?!\/)|[a-z0-9_-]*(?:\?|$)|https:\/\/|blob:|data:text\/(?:csv|plain|toml))/i;
  const CAMEL = { viewbox: "viewBox", preserveaspectratio: "preserveAspectRatio" };

  function setAttribute(dom, name, value) {
    if (name === "style") return Object.entries(value).forEach(([property, text]) => dom.style.setProperty(property, String(text)));
    if (!ATTRIBUTE.test(name)) return;
    if (name === "href" && !SAFE_LINK.test(value)) return;
    // Elsewhere means another tab: a Space is shown inside its host's frame.
    if (name === "href" && value.startsWith("https://")) { dom.target = "_blank"; dom.rel = "noopener"; }
    if (name === "value" && "value" in dom && !isHeld(dom)) dom.value = value;
    if (name === "checked") dom.checked = true;
    if (name === "data-goto" && SAFE_LINK.test(value)) location.assign(value);
    if (name === "data-show") requestAnimationFrame(() => dom.scrollIntoView({ block: "nearest" }));
    // Who leaves a replay and comes back finds it where it was.
    if (name === "data-place") setQuery({ place: value });
    if (name === "data-here") setQuery(JSON.parse(value));
    if (name === "data-forget") setQuery(Object.fromEntries(value.split(",").map((key) => [key, ""])));
    if (name === "data-save") return download(value.slice(0, value.indexOf("\n")), value.slice(value.indexOf("\n") + 1));
    dom.setAttribute(CAMEL[name] || name, value);
  }

  // What somebody types in or drags; a slider that only has the focus moves on.
  let dragged = null;
  document.addEventListener("pointerdown", (event) => { dragged = event.target; }, true);
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => { dragged = null; }, true);
  const isHeld = (dom) => (dom.type === "range" ? dragged === dom : document.activeElement === dom);

  function removeAttribute(dom, name) {
    if (name === "open") return;  // What somebody is reading stays open.
    if (name === "style") dom.removeAttribute("style");
    else dom.removeAttribute(CAMEL[name] || name);
    if (name === "checked") dom.checked = false;
  }

  // ---- text a scorer calls toxic: blurred, out of the reading order until asked for ----
  function makeVeil(attributes, children) {
    const box = document.createElement("span");
    box.className = "veil";
    const content = document.createElement("span");
    content.className = "veil-text";
    for (const child of children) content.append(make(child));
    const button = document.createElement("button");
    button.type = "button";
    button.className = "veil-button";
    const set = (shown) => {
      box.classList.toggle("shown", shown);
      content.setAttribute("aria-hidden", shown ? "false" : "true");
      button.textContent = shown ? "hide" : attributes.score ? `show · toxicity ${attributes.score}` : "show text";
      button.setAttribute("aria-expanded", shown ? "true" : "false");
    };
    set(revealAll());
    button.addEventListener("click", (event) => {
      event.stopPropagation();
      set(!box.classList.contains("shown"));
    });
    box.acftSet = set;
    // Inside a link there can be no button: such a text follows the choice for the whole visit.
    box.append(content);
    if (!("quiet" in attributes)) box.append(button);
    return box;
  }

  function revealAll() {
    try { return sessionStorage.getItem("acft-reveal") === "1"; } catch { return false; }
  }

  function setRevealAll(shown) {
    try { sessionStorage.setItem("acft-reveal", shown ? "1" : "0"); } catch { /* private window */ }
    document.querySelectorAll(".veil").forEach((box) => box.acftSet && box.acftSet(shown));
    document.querySelectorAll("[data-reveal-all]").forEach(labelReveal);
    document.dispatchEvent(new CustomEvent("acft-reveal", { detail: shown }));
  }

  function labelReveal(button) {
    const shown = revealAll();
    button.setAttribute("aria-pressed", shown ? "true" : "false");
    button.textContent = shown ? "Toxic text: shown" : "Toxic text: blurred";
  }

  function make(node) {
    if (typeof node === "string") return document.createTextNode(node);
    const [tag, attributes, ...children] = node;
    let dom;
    if (tag === "veil") dom = makeVeil(attributes, children);
    else {
      const name = TAGS.has(tag) ? tag : "span";
      dom = SVG_TAGS.has(name) ? document.createElementNS(SVG, name) : document.createElement(name);
      for (const [key, value] of Object.entries(attributes)) setAttribute(dom, key, value);
      for (const child of children) dom.appendChild(make(child));
      if ("data-reveal-all" in attributes) labelReveal(dom);
      if ("data-theme" in attributes) dom.textContent = window.acftTheme.label();
    }
    return dom;
  }

  function waited(since) {
    const seconds = Math.round((Date.now() - since) / 1000);
    return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
  }

  // Seconds since an element appeared or a button asked, so that a long wait is seen to go on.
  setInterval(() => {
    document.querySelectorAll("[data-ticking]").forEach((dom) => {
      dom.acftSince = dom.acftSince || Date.now();
      dom.textContent = waited(dom.acftSince);
    });
    // A refusal is no answer: it comes as a notice beside the page.
    const notices = refusals();
    asking.forEach((control) => {
      if (notices.some((notice) => !control.acftNotices.has(notice))) refuse(control);
      else if (Date.now() - control.acftAsked > 1500) control.dataset.waited = waited(control.acftAsked);
    });
  }, 1000);

  const keyOf = (node) => (Array.isArray(node) ? `${node[0]}|${node[1].key || ""}` : "text");
  const isKeyed = (node) => Array.isArray(node) && Boolean(node[1].key);

  // Changes only what differs, so that focus, scrolling, open details and revealed text survive.
  function patch(dom, before, after) {
    if (typeof after === "string") {
      if (before !== after) dom.textContent = after;
      return;
    }
    if (after[0] === "veil") {
      if (JSON.stringify(before) !== JSON.stringify(after)) dom.replaceWith(make(after));
      return;
    }
    const old = before[1], next = after[1];
    for (const name of Object.keys(old)) if (!(name in next)) removeAttribute(dom, name);
    for (const [name, value] of Object.entries(next))
      if (JSON.stringify(old[name]) !== JSON.stringify(value)) setAttribute(dom, name, value);
    patchChildren(dom, before.slice(2), after.slice(2));
    if (dom.dataset.act === "edit") accept(dom, after);
  }

  // A form field shows what the server made of it, unless somebody is about to change it again.
  function accept(dom, node) {
    const path = JSON.parse(dom.dataset.arg).path;
    const reset = () => {
      if (dom.type === "checkbox") dom.checked = "checked" in node[1];
      else if (dom.tagName === "SELECT") {
        const chosen = node.slice(2).find((option) => "selected" in option[1]);
        if (chosen) dom.value = chosen[1].value;
      }
      else if (dom.tagName === "INPUT") dom.value = node[1].value || "";
    };
    const isFree = document.activeElement !== dom || dom.type !== "text";
    if (isFree && !window.acft.draft.isWaiting(path)) reset();
    dom.acftLeft = () => window.acft.draft.isUnderway(path) || reset();
  }

  // Children with a key are found by it; the others by their place among those without one. What
  // stays is not moved, since an element that is moved loses the focus.
  function patchChildren(dom, before, after) {
    const nodes = Array.from(dom.childNodes);
    const old = before.map((node, i) => ({ node, dom: nodes[i], key: keyOf(node) }));
    const plain = old.filter((each) => !isKeyed(each.node)).reverse();
    const kept = after.map((node) => {
      const isSame = (each) => !each.isKept && each.key === keyOf(node);
      const found = isKeyed(node) ? old.find(isSame) : plain.pop();
      if (!found || !isSame(found)) return null;
      found.isKept = true;
      return found;
    });
    old.forEach((each) => each.isKept || each.dom.remove());
    let place = dom.firstChild;
    after.forEach((node, i) => {
      const next = kept[i] ? kept[i].dom : make(node);
      if (next === place) place = place.nextSibling;
      else dom.insertBefore(next, place);
      if (kept[i]) patch(next, kept[i].node, node);
    });
  }

  // Buttons whose question is on its way: the next answer, in whichever part of the page, frees them.
  // Patient ones wait long, for the answer in their own part.
  const asking = new Set();
  const refusals = () => [...document.querySelectorAll(".toast-body.error .toast-message-item")];
  const isPatient = (control) => "patient" in control.dataset;
  function free(control) {
    clearTimeout(control.acftPatience);
    control.removeAttribute("aria-busy");
    delete control.dataset.waited;
    asking.delete(control);
  }

  // What a field holds is not what is stored, until another answer says so.
  function refuse(control) {
    free(control);
    if (control.matches("[data-late]")) control.setAttribute("aria-invalid", "true");
  }

  function view(element, props, trigger, watch, acts, isAwaited) {
    const holder = element.firstElementChild;
    let shown = [];
    const draw = () => {
      const node = JSON.parse(props.value);
      const next = node ? [node] : [];
      patchChildren(holder, shown, next);
      shown = next;
      const heading = holder.querySelector("h1")?.textContent;
      if (heading) document.title = `${heading} · ACFT workbench`;
      const menu = history.state?.menu && holder.querySelector(`[data-nav="${history.state.menu}"]`);
      if (menu) { menu.focus({ preventScroll: true }); history.replaceState(null, ""); }
      const current = holder.querySelector("header.top nav [aria-current]");
      if (current) current.parentElement.scrollLeft = current.offsetLeft - current.parentElement.clientWidth / 2;
    };
    const send = async (control, extra) => {
      const name = control.dataset.act;
      const argument = Object.assign(JSON.parse(control.dataset.arg || "{}"), extra || {});
      if (name === "edit") return window.acft.draft.edit(argument, isTyped(control) ? window.acft.draft.PAUSE : 0);
      if (!acts.includes(name)) return;
      if (control.tagName === "BUTTON") control.setAttribute("aria-busy", "true");
      if ("settled" in control.dataset) {
        await window.acft.draft.settled();
        const now = holder.querySelector(`[data-act="${name}"]`);
        if (!now || now.disabled) return control.removeAttribute("aria-busy");
      }
      if ("replaces" in control.dataset) window.acft.draft.replace();
      if (control.matches("[data-late]")) control.removeAttribute("aria-invalid");
      control.acftAsked = Date.now();
      control.acftNotices = new Set(refusals());  // Those that stand already are about something else.
      asking.add(control);
      control.acftPatience = setTimeout(free, isPatient(control) ? 120000 : 8000, control);
      trigger(name, argument);
    };
    holder.addEventListener("click", (event) => {
      const control = event.target.closest("[data-act],[data-do]");
      if (!control || control.matches("select,textarea,input:not([type=button])")) return;
      if (control.dataset.do) return local(control);
      event.preventDefault();
      if (control.getAttribute("aria-busy") !== "true") send(control);
    });
    const changed = async (control) => {
      if (control.dataset.clear) setQuery(Object.fromEntries(control.dataset.clear.split(",").map((name) => [name, ""])));
      if (control.dataset.nav) return navigate(control.dataset.nav, control.value);
      const value = control.type === "checkbox" ? control.checked
        : control.type === "file" ? await readFile(control) : control.value;
      if (control.dataset.query) setQuery({ [control.dataset.query]: value });
      if (control.dataset.member) toggleMember(control.dataset.member, control.name, value);
      send(control, { value });
    };
    holder.addEventListener("change", (event) => {
      const control = event.target.closest("[data-act],[data-nav]");
      if (control && !isTyped(control)) changed(control);
    });
    holder.addEventListener("input", (event) => {
      const control = event.target.closest("[data-act]");
      if (!control || !isTyped(control)) return;
      // One clock for each field: who tabs on quickly has changed both.
      if (control.dataset.act === "edit") return changed(control);
      clearTimeout(control.acftTyping);
      control.acftTyping = setTimeout(() => changed(control), 350);
    });
    holder.addEventListener("focusout", (event) => event.target.acftLeft && event.target.acftLeft());
    // Who comes back to a page that asks seldom sees it as it is now.
    const look = () => document.hidden || trigger("look", {});
    if (acts.includes("look")) {
      document.addEventListener("visibilitychange", look);
      window.addEventListener("focus", look);
    }
    watch("value", () => {
      const answered = [...asking].filter((control) => !isPatient(control) || holder.contains(control));
      draw();
      answered.forEach(free);
      countDrawing();
    });
    draw();
    // The server may have answered before this component was mounted.
    if (isAwaited && props.value !== "null") countDrawing();
  }

  // How often the server's answers were drawn; tells tests and tools that a page has its content.
  function countDrawing() {
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  }

  // What is typed is sent as it is typed, or when the field is left.
  const isTyped = (control) => !("late" in control.dataset) && (
    control.tagName === "TEXTAREA" || (control.tagName === "INPUT" && /^(text|search|number)$/.test(control.type)));

  // Name and size, and the text unless it is long or no text at all; the server says what is wrong.
  async function readFile(control) {
    const file = control.files[0];
    const told = { name: file.name, size: file.size };
    if (file.size <= 400000)
      try { told.text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer()); } catch { /* bytes */ }
    control.value = "";
    return told;
  }

  function toggleMember(key, name, isIn) {
    const members = new Set((new URLSearchParams(location.search).get(key) || "").split(",").filter(Boolean));
    isIn ? members.add(name) : members.delete(name);
    setQuery({ [key]: Array.from(members).join(",") });
  }

  function download(name, text, type) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: type || "text/plain" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // Things a page can do without asking the server.
  function local(control) {
    if (control.dataset.do === "reveal") setRevealAll(!revealAll());
    if (control.dataset.do === "skip") focusContent();
    if (control.dataset.do === "undo-text") window.acft.draft.undo();
    if (control.dataset.do === "field") showField(control.dataset.field);
    if (control.dataset.do === "line") window.acft.draft.showLine(control.dataset.field);
    if (control.dataset.do === "step") showStep(control.dataset.step);
    if (control.dataset.do === "theme") control.textContent = window.acftTheme.next();
    if (control.dataset.do === "copy") copy(control);
    if (control.dataset.do === "download") download(control.dataset.name, control.dataset.text, control.dataset.type);
  }

  // What became of it is told for a moment, then the label returns, however often it is pressed.
  async function copy(control, text) {
    control.acftLabel = control.acftLabel || control.textContent;
    control.textContent = (await isCopied(text ?? control.dataset.text ?? "")) ? "copied" : "not copied";
    clearTimeout(control.acftTelling);
    control.acftTelling = setTimeout(() => { control.textContent = control.acftLabel; }, 1200);
  }

  async function isCopied(text) {
    // A page that came over plain http from another machine has no clipboard object.
    try { await navigator.clipboard.writeText(text); return true; } catch { /* the old way, then */ }
    const box = document.createElement("textarea"), focused = document.activeElement;
    box.value = text;
    document.body.append(box);
    box.select();
    const isDone = document.execCommand("copy");
    box.remove();
    focused?.focus();
    return isDone;
  }

  function showField(key) {
    const field = document.getElementById(`f-${key}`);
    if (!field) return window.acft.draft.showLine(key);
    for (let part = field.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    field.scrollIntoView({ block: "center" });
    field.focus({ preventScroll: true });
  }

  function showStep(step) {
    setQuery({ step });
    document.dispatchEvent(new CustomEvent("acft-step"));
    document.querySelector(".chart .plot:not([hidden])")?.scrollIntoView({ block: "center" });
  }

  function focusContent() {
    const content = document.getElementById("content");
    content?.setAttribute("tabindex", "-1");
    content?.focus();
  }

  // Who chose from a menu that loads the page anew goes on there.
  function navigate(menu, value) {
    setQuery({ [menu]: value });
    history.replaceState({ menu }, "");
    location.reload();
  }

  // Pages about runs keep the run when another page is opened.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-carry]");
    const run = new URLSearchParams(location.search).get("run");
    if (link && run && link.getAttribute("href") !== "./")
      link.setAttribute("href", `${link.getAttribute("href").split("?")[0]}?run=${encodeURIComponent(run)}`);
  }, true);

  function setQuery(changes) {
    const query = new URLSearchParams(location.search);
    for (const [key, value] of Object.entries(changes))
      value === "" || value === null ? query.delete(key) : query.set(key, value);
    history.replaceState(history.state, "", `${location.pathname}?${query}`);
  }

  window.acft = { copy, download, view, revealAll, setQuery };
})();
