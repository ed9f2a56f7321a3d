// The theme: the system's by default, a choice is remembered.
(function () {
  "use strict";
  if (window.acftTheme) return;

  const THEMES = ["system", "light", "dark"];
  function storedTheme() {
    try { return localStorage.getItem("acft-theme") || "system"; } catch { return "system"; }
  }
  function isDark() {
    const choice = storedTheme();
    return choice === "dark" || (choice === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  }
  function applyTheme() {
    document.body.classList.toggle("dark", isDark());
    document.documentElement.style.colorScheme = isDark() ? "dark" : "light";
    document.dispatchEvent(new CustomEvent("acft-theme"));
  }
  const label = () => `Theme: ${storedTheme()}`;
  // The label after the next choice was made.
  function next() {
    const choice = THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length];
    try { localStorage.setItem("acft-theme", choice); } catch { /* private window */ }
    applyTheme();
    return label();
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

  document.addEventListener("DOMContentLoaded", applyTheme);
  if (document.body) applyTheme();
  window.acftTheme = { label, next };
})();
