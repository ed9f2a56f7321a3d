// A text with its token values as files: CSV, SVG and PNG.
(function () {
  "use strict";
  if (window.acftTokens.files) return;
  const { COLUMNS, number, glyphs, css, inkOn, colorOf } = window.acftTokens;
  const WHITE = [255, 255, 255];

  // A cell that a spreadsheet would compute is made text by a leading apostrophe. The tokens that are
  // not seen are not written either, here and in the picture.
  function csv(tokens, sees) {
    const safe = (value) => { const text = String(value); const plain = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text; return `"${plain.replace(/"/g, '""')}"`; };
    const cell = (name, of, t) => safe(name === "token" && !sees(t) ? "hidden" : of(t));
    return [COLUMNS.map(([name]) => safe(name)).join(","), ...tokens.map((t) => COLUMNS.map(([name, of]) => cell(name, of, t)).join(","))].join("\r\n");
  }

  function svg(tokens, channel, scale, sees) {
    const escape = (text) => text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`).replace(/[\u0000-\u0008\u000b-\u001f]/g, "�");
    const unit = 8, step = 26, limit = 900;
    let x = 16, y = 88;
    const parts = [];
    for (const token of tokens) {
      const text = sees(token) ? glyphs(token.t).replace(/\n/g, "") : "•";
      const width = text.length * unit + 4;
      if (x + width > limit) { x = 16; y += step; }
      const [rgb] = colorOf(channel, channel.of(token), scale);
      parts.push(`<rect x="${x}" y="${y - 15}" width="${width}" height="20" fill="${css(rgb || WHITE)}"/><text x="${x + 2}" y="${y}" fill="${inkOn(rgb || WHITE)}">${escape(text)}</text>`);
      x += width;
      if (token.t.includes("\n")) { x = 16; y += step; }
    }
    const marks = Array.from({ length: 21 }, (_, i) => { const [rgb] = colorOf(channel, scale[0] + ((scale[1] - scale[0]) * i) / 20, scale); return `<rect x="${80 + i * 10}" y="42" width="10" height="10" fill="${css(rgb || WHITE)}"/>`; }).join("");
    const height = y + 24;
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${limit + 16}" height="${height}" font-family="monospace" font-size="13"><rect width="100%" height="100%" fill="#fff"/><text x="16" y="28">${escape(channel.name)} (${escape(channel.unit)})</text><text x="74" y="52" text-anchor="end">${number(scale[0], 2)}</text>${marks}<text x="296" y="52">${number(scale[1], 2)}</text>${parts.join("")}</svg>`;
  }

  function png(picture, name) {
    const image = new Image();
    image.onload = () => {
      const canvas = document.createElement("canvas");
      canvas.width = image.width * 2;
      canvas.height = image.height * 2;
      const context = canvas.getContext("2d");
      context.scale(2, 2);
      context.drawImage(image, 0, 0);
      canvas.toBlob((blob) => window.acft.download(name, blob));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture)}`;
  }

  window.acftTokens.files = { csv, svg, png };
})();
