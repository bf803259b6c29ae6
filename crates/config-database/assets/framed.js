
// In a frame: says how high the page is, what was saved and what went wrong, and takes the colours of the page around it.
// Only pages of the origins that the server lists are listened to and answered.
{
  const hosts = (document.documentElement.dataset.embedOrigins ?? "").split(" ").filter(Boolean);
  if (window.parent !== window && hosts.length > 0) {
    let host;
    const tell = (message) => {
      if (host !== undefined) window.parent.postMessage({ from: "punctual", ...message }, host);
    };
    const tellHeight = () => tell({
      type: "height",
      height: Math.ceil(document.body.getBoundingClientRect().height),
      title: document.title,
    });
    const tellWhatHappened = () => {
      const query = new URLSearchParams(location.search);
      const feature = /\/features\/([^/]+)$/.exec(location.pathname)?.[1] ?? query.get("feature");
      const problem = document.querySelector("[data-problem]");
      if (problem) tell({ type: "error", code: problem.dataset.problem, message: problem.textContent.trim() });
      else if (query.has("saved") || query.has("switched")) tell({ type: "saved", feature });
    };

    const isColour = (value) => value.length <= 80 && /^[\w#%.,()/\s+-]+$/.test(value)
      && !/(url|var|env|attr|image|src)\s*\(/i.test(value) && CSS.supports("color", value);
    const isLength = (value) => value === "0" || /^\d{1,2}(\.\d{1,3})?(px|rem|em)$/.test(value);
    const isFont = (value) => value.length <= 200 && /^[\p{L}\p{N}\s,'"_-]+$/u.test(value) && CSS.supports("font-family", value);
    // What a theme may say, the property of the style sheet that it becomes, and what it has to be.
    const theme = {
      accent: ["--accent", isColour],
      "on-accent": ["--on-accent", isColour],
      background: ["--back", isColour],
      card: ["--card", isColour],
      text: ["--text", isColour],
      quiet: ["--quiet", isColour],
      line: ["--line", isColour],
      radius: ["--radius", isLength],
      font: ["--font", isFont],
    };
    const schemes = ["light", "dark", "light dark"];
    const apply = (given, scheme) => {
      const style = document.documentElement.style;
      for (const [name, [property, isValid]] of Object.entries(theme)) {
        const value = Object.hasOwn(given, name) ? given[name] : undefined;
        if (typeof value === "string" && isValid(value.trim())) style.setProperty(property, value.trim());
        else style.removeProperty(property);
      }
      if (schemes.includes(scheme)) style.colorScheme = scheme;
      else style.removeProperty("color-scheme");
    };

    window.addEventListener("message", (event) => {
      if (event.source !== window.parent || !hosts.includes(event.origin)) return;
      if (event.data?.from !== "punctual-preferences") return;
      const first = host === undefined;
      host = event.origin;
      apply(Object(event.data.theme), event.data.scheme);
      tellHeight();
      if (first) tellWhatHappened();
    });
    new ResizeObserver(tellHeight).observe(document.body);
  }
}
