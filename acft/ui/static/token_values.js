// What the tokens of a text are worth, how it is coloured, and how a token is written.
(function () {
  "use strict";
  if (window.acftTokens) return;

  // low, mid, high colours are blended with the paper, so that zero is invisible in both themes.
  const ORANGE = [214, 112, 22], BLUE = [38, 110, 190], TEAL = [16, 138, 122], SLATE = [110, 124, 142];
  const CHANNELS = {
    kl: { name: "KL(guided ‖ policy)", unit: "nats", low: 0, high: 1, color: ORANGE, of: (t) => Math.max(0, t.k), help: "what this token pays for the constraint" },
    guidance: { name: "Guidance", unit: "nats", low: -3, high: 3, of: (t) => t.q - t.p, help: "log guided − log policy of the chosen token: orange is discouraged, blue encouraged" },
    change: { name: "Change", unit: "nats", low: -3, high: 3, of: (t) => t.p - t.b, help: "log policy − log base: what training has changed" },
    r: { name: "R of the prefix", unit: "probability", low: 0, high: 1, color: TEAL, of: (t) => Math.exp(t.r), help: "probability that the response will satisfy the constraint, as the oracle sees it here" },
    base: { name: "log p, base", unit: "nats", low: -8, high: 0, color: SLATE, of: (t) => t.b, reverse: true },
    guided: { name: "log p, guided", unit: "nats", low: -8, high: 0, color: ORANGE, of: (t) => t.q, reverse: true },
    policy: { name: "log p, tuned", unit: "nats", low: -8, high: 0, color: BLUE, of: (t) => t.p, reverse: true },
    entropy: { name: "Entropy", unit: "nats", low: 0, high: 8, color: SLATE, of: (t) => t.h, help: "of the policy's next-token distribution" },
    shift: { name: "Shift class", unit: "rank under base", low: 1, high: 4, color: BLUE, of: (t) => shiftClass(t), help: "unshifted (the base's first choice), marginal (2–3), shifted (4 or later)" },
    loss: { name: "In the loss", unit: "yes = 1", low: 0, high: 1, color: SLATE, of: (t) => (t.in ? 1 : 0) },
  };

  const COLUMNS = [["position", (t) => t.i], ["token", (t) => t.t], ["id", (t) => t.id], ["log p base", (t) => t.b], ["log p guided", (t) => t.q], ["log p tuned", (t) => t.p],
    ["change", (t) => t.p - t.b], ["guidance", (t) => t.q - t.p], ["KL", (t) => t.k], ["R of prefix", (t) => Math.exp(t.r)], ["entropy", (t) => t.h], ["in loss", (t) => (t.in ? "yes" : "no")]];

  // What was not measured is NaN, never zero.
  const MEASURED = ["b", "p", "q", "r", "k", "h"];
  const measured = (token) => Object.fromEntries(Object.entries(token).map(([key, value]) => [key, value === null && MEASURED.includes(key) ? NaN : value]));
  const known = (token) => ({ ...measured(token), alt: (token.alt || []).map(measured) });
  const number = (value, digits = 3) => (Number.isFinite(value) ? (+value.toFixed(digits) || 0).toFixed(digits).replace("-", "−") : "–");
  const rankOf = (token) => {
    const alternatives = token.alt || [];
    const above = alternatives.filter((a) => a.id !== token.id && a.b > token.b + 1e-6).length;
    const isListed = alternatives.some((a) => a.id === token.id);
    return isListed || above < alternatives.length || !alternatives.length ? above + 1 : Infinity;
  };
  const shiftClass = (token) => {
    if (!(token.alt || []).length) return NaN;
    const rank = rankOf(token);
    return rank === 1 ? 1 : rank <= 3 ? 2.5 : 4;
  };
  const SHIFTS = { 1: "unshifted", 2.5: "marginal", 4: "shifted" };
  function glyphs(text) {
    if (/^<0x[0-9A-F]{2}>$/.test(text) || /^<\|.*\|>$/.test(text) || text === "<s>" || text === "</s>") return text;
    return text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t").replace(/\r/g, "␍").replace(/^ +| +$/g, (spaces) => "·".repeat(spaces.length)) || "∅";
  }
  const isSpecial = (text) => /^<(\|.*\||0x[0-9A-F]{2}|s|\/s|pad|unk)>$/.test(text);

  function paper() {
    return getComputedStyle(document.body).getPropertyValue("--paper").trim().match(/[0-9a-f]{2}/gi).map((h) => parseInt(h, 16));
  }
  function blend(color, share) {
    const under = paper();
    return color.map((c, i) => Math.round(under[i] + (c - under[i]) * share));
  }
  const css = (rgb) => `rgb(${rgb.join(",")})`;
  // Dark or light letters, whichever are read better on a colour.
  const inkOn = (rgb) => {
    const [r, g, b] = rgb.map((c) => { const x = c / 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#14181d" : "#ffffff";
  };

  function domain(channel, tokens, isAuto) {
    if (!isAuto) return [channel.low, channel.high];
    const values = tokens.map(channel.of).filter(Number.isFinite);
    if (!values.length) return [channel.low, channel.high];
    // A scale needs a length; log-probabilities end at zero and have theirs below it.
    if (channel.color) return [Math.min(...values), Math.max(...values) || (channel.low === 0 ? 1 : 0)];
    const most = Math.max(...values.map(Math.abs)) || 1;
    return [-most, most];
  }

  // Colour of a value: [rgb, whether it lies outside the scale].
  function colorOf(channel, value, [low, high]) {
    if (!Number.isFinite(value)) return [null, false];
    const slack = 1e-3 * (high - low);  // Rounding is not beyond the scale.
    const isClipped = value < low - slack || value > high + slack;
    const inside = Math.min(high, Math.max(low, value));
    let share, color;
    if (channel.color) {
      share = (inside - low) / (high - low || 1);
      if (channel.reverse) share = 1 - share;
      color = channel.color;
    } else {
      share = Math.abs(inside) / (high || 1);
      color = inside < 0 ? ORANGE : BLUE;
    }
    if (share < 0.005) return [null, isClipped];
    return [blend(color, 0.14 + 0.72 * share), isClipped];
  }

  window.acftTokens = { CHANNELS, COLUMNS, SHIFTS, known, number, rankOf, shiftClass, glyphs, isSpecial, css, inkOn, domain, colorOf };
})();
