// What the pages do beyond forms and links: show the runs of what is being chosen, hide what does not matter for it,
// find the browser's zone, and follow a change to the agent. Without it everything works by pressing a button.
"use strict";

const form = document.getElementById("preference");
if (form) {
  document.documentElement.classList.add("live");
  const frequency = form.elements.frequency;
  const showWhatMatters = () => {
    for (const part of form.querySelectorAll("[data-for]")) {
      part.hidden = !part.dataset.for.split(" ").includes(frequency.value || frequency.dataset.usual);
    }
  };
  const runs = document.getElementById("runs");
  const announcement = document.getElementById("announcement");
  let newest = 0;
  const showRuns = async () => {
    const mine = ++newest;
    const response = await fetch(form.dataset.runs, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    const text = await response.text();
    if (mine !== newest) return;
    if (response.ok) {
      runs.innerHTML = text;
      const said = runs.querySelector(".sentence, .problem, p");
      announcement.textContent = said ? said.textContent : "";
    }
    else runs.textContent = "The next runs cannot be shown; save, or reload the page.";
  };
  let pause;
  form.addEventListener("input", () => {
    showWhatMatters();
    clearTimeout(pause);
    pause = setTimeout(showRuns, 150);
  });
  const zone = form.elements.zone;
  if (zone.hasAttribute("data-detect")) {
    const detected = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (detected && detected !== zone.dataset.usual && !form.querySelector("fieldset[disabled]")) {
      zone.value = detected;
      showRuns();
    }
  }
  showWhatMatters();
}

const arrival = document.getElementById("arrival");
if (arrival?.dataset.url) {
  const began = Date.now();
  const look = async () => {
    const response = await fetch(arrival.dataset.url);
    if (response.ok) {
      const { arrived, text } = await response.json();
      arrival.textContent = text;
      if (arrived) return;
    }
    if (Date.now() - began < 120000) setTimeout(look, 300);
  };
  look();
}
