// Draws figures with plotly in place (no remounting, so no flicker), coloured by the page's theme.
(function () {
  "use strict";
  if (window.acft.chart) return;

  let plotly = null;
  function loadPlotly() {
    plotly = plotly || new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = "acft-static/plotly.min.js";
      script.onload = () => resolve(window.Plotly);
      script.onerror = () => { plotly = null; reject(new Error("cannot load plotly.min.js")); };
      document.head.appendChild(script);
    });
    return plotly;
  }

  function themed(layout) {
    const style = getComputedStyle(document.body);
    const read = (name) => style.getPropertyValue(name).trim(), axis = { gridcolor: read("--rule"), zerolinecolor: read("--rule-strong"), linecolor: read("--rule-strong"),
      tickfont: { color: read("--ink-soft") }, automargin: true };
    const result = Object.assign({}, layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      font: { family: read("--sans"), size: 12, color: read("--ink") },
      hoverlabel: { bgcolor: read("--paper-raised"), bordercolor: read("--rule-strong"), font: { color: read("--ink"), family: read("--sans"), size: 12 } },
    });
    for (const key of Object.keys(layout)) {
      if (!/^[xy]axis\d*$/.test(key)) continue;
      result[key] = Object.assign({}, axis, layout[key]);
      const title = result[key].title;
      if (title) result[key].title = Object.assign({ font: { size: 12, color: read("--ink-soft") } }, title);
    }
    const step = parseInt(new URLSearchParams(location.search).get("step"), 10);
    if (layout.meta && layout.meta.by === "step" && step > 0)
      result.shapes = [...(layout.shapes || []), { type: "line", x0: step, x1: step, yref: "paper", y0: 0, y1: 1, line: { color: read("--warn"), width: 2 } }];
    if (!result.xaxis) result.xaxis = axis;
    if (!result.yaxis) result.yaxis = axis;
    return result;
  }

  function chart(element, props, trigger, watch) {
    const holder = element.firstElementChild;
    const plot = holder.querySelector(".plot");
    const empty = holder.querySelector(".empty");
    let wired = false;
    const draw = async () => {
      const figure = JSON.parse(props.value);
      const has = Boolean(figure && figure.data && figure.data.length);
      plot.hidden = !has;
      empty.hidden = has;
      empty.textContent = figure ? figure.empty || "Nothing measured yet." : "Reading …";
      if (!has) return;
      const height = (figure.layout && figure.layout.height) || 240;
      plot.style.height = `${height}px`;
      const library = await loadPlotly().catch(() => null);
      if (!library) {
        plot.hidden = true;
        empty.hidden = false;
        empty.textContent = "The charts could not be loaded; load the page again.";
        return;
      }
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", figure.summary || "chart");
      await library.react(plot, figure.data, themed(figure.layout || {}), {
        displaylogo: false, responsive: true, displayModeBar: false, scrollZoom: false,
      });
      if (wired) return;
      wired = true;
      plot.on("plotly_click", (event) => {
        const point = event.points[0];
        if (point && point.customdata) trigger("pick", { data: point.customdata });
      });
    };
    document.addEventListener("acft-theme", draw);
    document.addEventListener("acft-step", draw);
    watch("value", draw);
    draw();
  }

  window.acft.chart = chart;
})();
