// Before the first paint: what the person chose, else what the system says.
const kept = localStorage.getItem("theme");
const isDark = kept ? kept === "dark" : !matchMedia("(prefers-color-scheme: light)").matches;
document.documentElement.dataset.theme = isDark ? "dark" : "light";
