// Keeps the overview up to date: the agent sends what runs now whenever it changes. Without it a reload shows the same.
"use strict";

const live = document.getElementById("live");
if (live) {
  const events = new EventSource(live.dataset.url);
  events.onmessage = (event) => {
    const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    live.innerHTML = event.data;
    if (focused) live.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
  };
  addEventListener("pagehide", () => events.close());
}
