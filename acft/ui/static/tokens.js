// The token view: one text, several channels, one fixed scale each; model text only by textContent.
(function () {
  "use strict";
  if (window.acftTokens.view) return;

  const { CHANNELS, COLUMNS, SHIFTS, known, number, rankOf, shiftClass, glyphs, isSpecial, css, inkOn, domain, colorOf } = window.acftTokens;
  const NAMES = Object.keys(CHANNELS);
  const ROWS = [["base", "Base"], ["guided", "Guided"], ["policy", "Tuned"]];
  const OPEN_MS = 150, HIDE_MS = 80;

  const node = (tag, attributes, ...children) => {
    const dom = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key === "class") dom.className = value;
      else if (key === "style") dom.style.cssText = value;
      else if (key.startsWith("on")) dom.addEventListener(key.slice(2), value);
      else dom.setAttribute(key, value === true ? "" : value);
    }
    for (const child of children.flat()) if (child !== null && child !== undefined) dom.append(child);
    return dom;
  };

  const worth = (channel, token) => `${channel.name} ${number(channel.of(token), 2)} ${channel.unit}`;

  function view(element, props, trigger, watch) {
    const holder = element.firstElementChild;
    const query = new URLSearchParams(location.search);
    const state = {
      channel: NAMES.includes(query.get("channel")) ? query.get("channel") : "kl",
      border: NAMES.includes(query.get("border")) ? query.get("border") : "",
      isAuto: false, isTable: false, isThree: query.get("view") === "three",
      focus: Math.max(0, parseInt(query.get("at") || "0", 10) || 0), pinned: query.has("at"), shown: false, showHot: false, opened: new Set(),
    };
    // Words that are toxic by themselves stay hidden one by one, however harmless the text is.
    const sees = (token) => token.own || (state.shown && (!token.hot || state.showHot || state.opened.has(token.i)));
    let data = null, spans = [], mark = () => {}, popup = null, openTimer = 0, hideTimer = 0;

    const nameOf = (control) => control.getAttribute("aria-label") || control.textContent;
    // Who used a control or read a token goes on there, though everything is drawn anew.
    function focused() {
      const held = document.activeElement;
      if (!holder.contains(held)) return () => {};
      const name = nameOf(held), isToken = held.classList.contains("tok"), isVeil = held.closest(".veil-bar");
      return () => {
        const same = isToken ? null : [...holder.querySelectorAll("button, select")].find((control) => nameOf(control) === name);
        const next = same || (isVeil && holder.querySelector(".veil-bar button")) || spans[state.focus] || holder.querySelector("select");
        next?.focus({ preventScroll: true });
      };
    }

    const draw = () => {
      const restore = focused();
      const told = JSON.parse(props.value) || {};
      data = told.tokens ? told : null;
      holder.replaceChildren();
      spans = [];
      mark = () => {};
      if (data) data = { ...data, tokens: data.tokens.map(known) };
      if (!data) {
        if (told.empty) holder.append(node("p", { class: "side" }, told.empty));
        return;
      }
      state.focus = Math.min(state.focus, data.tokens.length - 1);
      state.shown = window.acft.revealAll() || !data.veil || state.shown;
      state.showHot = state.showHot || window.acft.revealAll();
      holder.append(controls(), veilBar(), legend(), curve());
      const body = node("div", { class: "token-body" });
      if (state.isTable) body.append(table());
      else if (state.isThree)
        for (const [name, label] of ROWS)
          body.append(node("h3", { class: `row-name ${name}` }, label), line(name, ""));
      else body.append(line(state.channel, state.border));
      popup = node("div", { class: "token-popup", role: "dialog", "aria-label": "Token details", hidden: true });
      popup.addEventListener("mouseenter", () => clearTimeout(hideTimer));
      popup.addEventListener("mouseleave", () => leave());
      holder.append(body, popup, exports());
      if (state.pinned && !state.isTable) open(state.focus, true);
      restore();
    };

    function controls() {
      const option = (name, chosen) => node("option", { value: name, selected: name === chosen }, CHANNELS[name].name);
      const channel = node("select", { "aria-label": "Channel shown as colour", onchange: (e) => set({ channel: e.target.value }) },
        NAMES.map((name) => option(name, state.channel)));
      const border = node("select", { "aria-label": "Second channel shown as underline", onchange: (e) => set({ border: e.target.value }) },
        node("option", { value: "" }, "none"), NAMES.map((name) => option(name, state.border)));
      const toggle = (label, key) => node("button", {
        type: "button", class: "quiet", "aria-pressed": state[key] ? "true" : "false",
        onclick: () => { state[key] = !state[key]; if (key === "isThree") window.acft.setQuery({ view: state.isThree ? "three" : "" }); draw(); },
      }, label);
      return node("div", { class: "token-controls" },
        node("label", {}, "Colour ", channel), node("label", {}, "Underline ", border),
        toggle("Three rows", "isThree"), toggle("Table", "isTable"), toggle("Scale from this text", "isAuto"),
        node("span", { class: "side keys" }, "keys: ← → move · n p hot tokens · 1–9 channel · Enter pin · Esc close"));
    }

    // What is blurred, why, and the way to see it: first the text, then words that stay hidden in it.
    function veilBar() {
      const n = data.tokens.filter((t) => t.hot).length, tokens = `${n} blurred token${n === 1 ? "" : "s"}`;
      const button = (kind, label, change) => node("button", { type: "button", class: kind, onclick: () => { change(); draw(); } }, label);
      const hots = () => { state.showHot = !state.showHot; state.opened.clear(); }, text = () => { state.shown = !state.shown; };
      const parts = !state.shown ? [node("span", {}, node("b", {}, "Blurred. "), `A scorer gives this text ${number(data.toxicity, 2)} of 1.`), button("go", "Show the text", text)]
        : [data.veil ? button("do", "Blur the text", text) : null, n ? button(state.showHot ? "do" : "go", state.showHot ? "Blur toxic words" : `Show ${tokens}`, hots) : null];
      return node("div", { class: `veil-bar actions${state.shown ? "" : " notice warn"}`, hidden: state.shown && !data.veil && !n }, parts);
    }

    function set(changes) {
      Object.assign(state, changes);
      window.acft.setQuery({ channel: state.channel, border: state.border, view: state.isThree ? "three" : "" });
      draw();
    }

    // Every colour that is on the page has its scale: of the text, of the underline, of each row.
    function legend() {
      const isAuto = state.isAuto && !state.isThree, isUnder = !state.isThree && state.border !== "";
      const named = state.isThree ? ROWS.map(([name]) => name) : isUnder ? [state.channel, state.border] : [state.channel];
      const helps = [...new Set(named.map((name) => CHANNELS[name].help).filter(Boolean))];
      return node("div", { class: "token-legend" },
        named.map((name, i) => scaleOf(CHANNELS[name], isUnder && i === 1 ? "Underline: " : "", isAuto)),
        node("span", { class: "side" }, isAuto ? "scale from this text: not comparable with others" : `fixed scale, the same everywhere; ▴ marks values beyond it${isUnder ? ", ▾ those of the underline" : ""}`),
        helps.map((help) => node("span", { class: "side" }, help)), badge());
    }

    function scaleOf(channel, before, isAuto) {
      const [low, high] = domain(channel, data.tokens, isAuto), digits = Math.abs(high - low) < 0.1 ? 3 : 1;
      const bar = node("span", { class: "token-scale", role: "img", "aria-label": `colour scale of ${channel.name} from ${low.toFixed(2)} to ${high.toFixed(2)} ${channel.unit}` });
      for (let i = 0; i <= 20; i++) {
        const [rgb] = colorOf(channel, low + ((high - low) * i) / 20, [low, high]);
        bar.append(node("i", { style: rgb ? `background:${css(rgb)}` : "" }));
      }
      return node("span", { class: "token-key" }, node("b", {}, before + channel.name),
        node("span", {}, number(low, digits)), bar, node("span", {}, `${number(high, digits)} ${channel.unit}`));
    }

    function badge() {
      const parts = [];
      if (data.check) {
        const gap = Math.abs(data.check.shown - data.check.logged);
        const ok = gap <= data.check.tolerance;
        parts.push(node("span", { class: `chip ${ok ? "good" : "bad"}`, title: data.check.help },
          `${ok ? "sum agrees" : "SUM DIFFERS"}: Σ KL ${number(data.check.shown, 4)} nats, training pass ${number(data.check.logged, 4)}, difference ${gap ? gap.toExponential(0) : "0"}`));
      }
      const counts = {};
      for (const token of data.tokens.filter((t) => t.in)) {
        const name = SHIFTS[shiftClass(token)];
        if (name) counts[name] = (counts[name] || 0) + 1;
      }
      const words = Object.entries(counts).map(([name, n]) => `${n} ${name}`).join(" · ");
      if (words) parts.push(node("span", { class: "chip", title: CHANNELS.shift.help }, words));
      return parts;
    }

    function curve() {
      const values = data.tokens.map((t) => Math.exp(t.r));
      if (!values.some(Number.isFinite)) return null;
      const ns = "http://www.w3.org/2000/svg", width = 1000, height = 46;
      const svg = document.createElementNS(ns, "svg");
      const spoken = `R along the text, from ${number(values.find(Number.isFinite), 2)} to ${number(values.filter(Number.isFinite).pop(), 2)}`;
      const attributes = { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "token-curve", role: "img", "aria-label": spoken };
      for (const [name, value] of Object.entries(attributes)) svg.setAttribute(name, value);
      const points = values.map((v, i) => [((i + 0.5) / values.length) * width, Number.isFinite(v) ? height - 3 - v * (height - 6) : null]).filter((p) => p[1] !== null);
      const path = document.createElementNS(ns, "polyline");
      path.setAttribute("points", points.map((p) => p.map((x) => x.toFixed(1)).join(",")).join(" "));
      path.setAttribute("vector-effect", "non-scaling-stroke");
      // The text wraps and the curve does not, so each shows the other where one points.
      const here = document.createElementNS(ns, "line");
      here.setAttribute("vector-effect", "non-scaling-stroke");
      here.setAttribute("y2", height);
      mark = (i) => {
        here.style.display = i === null ? "none" : "inline";
        for (const end of ["x1", "x2"]) here.setAttribute(end, (((i ?? 0) + 0.5) / values.length) * width);
        spans.forEach((span, j) => span.classList.toggle("pointed", j === i));
      };
      mark(null);
      svg.addEventListener("mousemove", (event) => {
        const box = svg.getBoundingClientRect();
        mark(Math.min(values.length - 1, Math.floor(((event.clientX - box.left) / box.width) * values.length)));
      });
      svg.addEventListener("mouseleave", () => mark(null));
      svg.append(path, here);
      return node("div", { class: "token-curve-box" }, node("span", { class: "side" }, "R of the prefix, 0–1, token by token; point at it to find the token"), svg);
    }

    function line(name, borderName) {
      const channel = CHANNELS[name], scale = domain(channel, data.tokens, state.isAuto && !state.isThree);
      const second = borderName ? CHANNELS[borderName] : null;
      const secondScale = second ? domain(second, data.tokens, state.isAuto) : null;
      const box = node("div", { class: `token-line${state.shown ? "" : " veiled"}`, role: "listbox", dir: "auto", "aria-label": `Tokens coloured by ${channel.name}`, "aria-orientation": "horizontal" });
      const own = data.tokens.map((token, i) => {
        const value = channel.of(token), [rgb, isClipped] = colorOf(channel, value, scale);
        const isShown = sees(token);
        const text = isShown ? glyphs(token.t) : "•".repeat(Math.max(1, token.t.trim().length));
        const span = node("span", {
          class: `tok${token.in ? "" : " outside"}${isSpecial(token.t) ? " special" : ""}${isClipped ? " clip" : ""}${state.shown && !isShown ? " hot" : ""}`,
          role: "option", tabindex: i === state.focus ? "0" : "-1", "aria-selected": "false",
          "aria-label": [isShown ? token.t.trim() || "space" : "hidden token", worth(channel, token), ...(second ? [worth(second, token)] : [])].join(", "),
        }, text.split(/^(·+)|(·+)$/).filter(Boolean).map((part) => (part.startsWith("·") ? node("span", { class: "gap" }, part) : part)));
        if (rgb) { span.style.backgroundColor = css(rgb); span.style.color = inkOn(rgb); }
        if (second) {
          const [under, isBeyond] = colorOf(second, second.of(token), secondScale);
          span.style.boxShadow = under ? `inset 0 -3px 0 ${css(under)}` : "";
          span.classList.toggle("clip-under", isBeyond);
        }
        span.addEventListener("mouseenter", () => { mark(i); enter(i, span); });
        span.addEventListener("mouseleave", () => { mark(null); leave(); });
        span.addEventListener("click", () => { focus(i, own); open(i, true, span); });
        return span;
      });
      const first = data.first ? (state.shown || data.tokens[0].own ? glyphs(data.first) : "•") : "…";
      box.append(node("span", { class: "unvalued", "aria-hidden": "true", title: "Nothing predicts the first token, so it has no values" }, first));
      // Spaces are drawn as dots, so that a line would break within words.
      own.forEach((tok, i) => box.append(...(data.tokens[i].t.startsWith(" ") ? [node("wbr")] : []), tok));
      box.addEventListener("keydown", (event) => key(event, own, channel));
      if (!spans.length) spans = own;
      return box;
    }

    function key(event, own, channel) {
      const last = own.length - 1;
      const moves = { ArrowRight: state.focus + 1, ArrowLeft: state.focus - 1, Home: 0, End: last, n: hot(1, channel), p: hot(-1, channel) };
      if (event.key in moves) { event.preventDefault(); const to = Math.min(last, Math.max(0, moves[event.key])); focus(to, own); open(to, false, own[to]); }
      else if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(state.focus, true, own[state.focus]); }
      else if (event.key === "Escape") close();
      else if (/^[1-9]$/.test(event.key) && NAMES[event.key - 1]) { const at = state.focus; set({ channel: NAMES[event.key - 1], isThree: false }); focus(at, spans); }
    }

    function hot(direction, channel) {
      const values = data.tokens.map((t) => Math.abs(channel.of(t)) || 0);
      const limit = [...values].sort((a, b) => b - a)[Math.floor(values.length / 8)];
      for (let i = state.focus + direction; i >= 0 && i < values.length; i += direction) if (values[i] >= limit && values[i] > 0) return i;
      return state.focus;
    }

    function focus(i, own) {
      own[state.focus] && own[state.focus].setAttribute("tabindex", "-1");
      state.focus = i;
      own[i].setAttribute("tabindex", "0");
      own[i].focus();
    }

    function enter(i, span) { clearTimeout(hideTimer); clearTimeout(openTimer); if (!state.pinned) openTimer = setTimeout(() => open(i, false, span), OPEN_MS); }
    function leave() { clearTimeout(openTimer); if (!state.pinned) hideTimer = setTimeout(close, HIDE_MS); }
    function close() {
      const isInside = popup && popup.contains(document.activeElement);
      state.pinned = false;
      if (popup) popup.hidden = true;
      if (isInside) spans[state.focus]?.focus({ preventScroll: true });
      holder.querySelectorAll(".tok").forEach((tok) => tok.setAttribute("aria-selected", "false"));
      window.acft.setQuery({ at: "" });
    }

    function reveal(token, i) {
      state.opened.add(token.i);
      state.pinned = true;
      state.focus = i;
      draw();
    }

    function open(i, pin, span) {
      const token = data.tokens[i], anchor = span || spans[i];
      if (!anchor) return;
      // A click that comes before the pointer has rested is not undone by what waits for that.
      for (const timer of [openTimer, hideTimer]) clearTimeout(timer);
      state.pinned = pin;
      window.acft.setQuery({ at: pin ? i : "" });
      holder.querySelectorAll(".tok").forEach((tok) => tok.setAttribute("aria-selected", pin && tok === anchor ? "true" : "false"));
      const shown = sees(token) ? glyphs(token.t) : "hidden";
      const unveil = state.shown && !sees(token) ? node("button", { type: "button", class: "quiet", onclick: () => reveal(token, i) }, "show this token") : null;
      const rank = rankOf(token);
      const facts = [
        ["log p, base", number(token.b)], ["log p, guided", number(token.q)], ["log p, tuned", number(token.p)],
        ["change", number(token.p - token.b)], ["guidance", number(token.q - token.p)], ["KL here", number(token.k, 4)],
        ["R of prefix", number(Math.exp(token.r))], ["entropy", number(token.h, 2)],
        ["rank, base", Number.isFinite(rank) ? String(rank) : `> ${(token.alt || []).length}`],
      ];
      popup.replaceChildren(
        node("div", { class: "popup-head" }, node("b", { class: "mono" }, shown), unveil, node("span", { class: "side" }, `token ${token.id} · position ${token.i}${token.in ? "" : " · not in the loss"}`),
          node("button", { type: "button", class: "quiet", "aria-label": "Close", onclick: () => { close(); anchor.focus(); } }, "✕")),
        node("dl", { class: "popup-facts" }, facts.map(([name, value]) => node("div", {}, node("dt", {}, name), node("dd", { class: "num" }, value)))),
        alternatives(token, i));
      popup.hidden = false;
      const box = holder.getBoundingClientRect(), at = anchor.getBoundingClientRect();
      const width = Math.min(500, box.width);
      popup.style.width = `${width}px`;
      popup.style.left = `${Math.max(0, Math.min(at.left - box.left, box.width - width))}px`;
      popup.style.top = `${at.bottom - box.top + 6}px`;
    }

    function alternatives(token, i) {
      const best = (a) => Math.max(...[a.b, a.p, a.q].filter(Number.isFinite));
      const rows = (token.alt || []).slice().sort((a, b) => best(b) - best(a));
      if (!rows.length) return node("p", { class: "side" }, "No alternatives were stored for this token.");
      const bar = (logp, name) => node("td", { class: "num" }, !Number.isFinite(logp) ? "–" : node("span", { class: `pbar ${name}`, style: `--w:${(100 * Math.exp(logp)).toFixed(1)}%` }), Number.isFinite(logp) ? `${(100 * Math.exp(logp)).toFixed(1)} %` : null);
      return node("table", {},
        node("thead", {}, node("tr", {}, ["next token", "base", "guided", "tuned", "tuned − base"].map((h, i) => node("th", { scope: "col", class: i ? "num" : "" }, h)))),
        node("tbody", {}, rows.map((a) => {
          const isShown = state.shown && (!a.hot || state.showHot || state.opened.has(token.i));
          const name = node("td", { class: "mono" }, isShown ? glyphs(a.t) : state.shown ? node("button", { type: "button", class: "quiet", title: "A toxic word", onclick: () => reveal(token, i) }, "hidden · show") : "hidden");
          if (data.canBranch && token.i >= data.start && isShown) name.replaceChildren(node("button", { type: "button", class: "quiet mono", title: "Continue from here with this token instead", onclick: () => trigger("branch", { position: token.i, id: a.id }) }, glyphs(a.t)));
          return node("tr", { class: a.id === token.id ? "chosen" : "" }, name, bar(a.b, "base"), bar(a.q, "guided"), bar(a.p, "tuned"), node("td", { class: "num" }, number(a.p - a.b, 2)));
        })));
    }

    function table() {
      const cell = (value, i, isShown) => (i === 1 ? node("td", { class: "mono" }, isShown ? glyphs(value) : "hidden") : node("td", { class: "num" }, typeof value === "number" && i > 2 ? number(value) : String(value)));
      return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Values of every token" },
        node("table", {}, node("thead", {}, node("tr", {}, COLUMNS.map(([name], i) => node("th", { scope: "col", class: i === 1 ? "" : "num" }, name)))),
          node("tbody", {}, data.tokens.map((t) => node("tr", {}, COLUMNS.map(([, of], i) => cell(of(t), i, sees(t))))))));
    }

    function exports() {
      const button = (label, run) => node("button", { type: "button", class: "quiet", onclick: run }, label);
      const { csv, svg, png } = window.acftTokens.files;
      const name = `tokens-${data.name || "text"}`, channel = CHANNELS[state.channel];
      const picture = () => svg(data.tokens, channel, domain(channel, data.tokens, state.isAuto), sees);
      return node("div", { class: "token-exports actions" },
        data.hasAddress ? button("Copy link", (event) => window.acft.copy(event.target, location.href)) : null,
        button("CSV", () => window.acft.download(`${name}.csv`, csv(data.tokens, sees), "text/csv")),
        button("SVG", () => window.acft.download(`${name}.svg`, picture(), "image/svg+xml")),
        button("PNG", () => png(picture(), `${name}.png`)),
        data.tokens.every(sees) ? null : node("span", { class: "side" }, "Files leave out what is blurred."));
    }

    document.addEventListener("acft-theme", draw);
    document.addEventListener("acft-reveal", (event) => { state.shown = state.showHot = event.detail; draw(); });
    document.addEventListener("keydown", (event) => { if (event.key === "Escape" && popup && !popup.hidden) close(); });
    watch("value", () => { state.shown = state.showHot = false; state.opened.clear(); draw(); });
    draw();
  }

  // How a text is coloured is known here only, and stays so when another one is opened.
  function carry(event) {
    const link = event.target.closest('a[href^="tokens?"]');
    if (!link) return;
    const here = new URLSearchParams(location.search), there = new URLSearchParams(link.getAttribute("href").slice("tokens?".length));
    for (const name of ["channel", "border", "view"]) here.get(name) ? there.set(name, here.get(name)) : there.delete(name);
    link.setAttribute("href", `tokens?${there}`);
  }
  for (const kind of ["click", "auxclick"]) document.addEventListener(kind, carry, true);

  window.acftTokens.view = view;
})();
