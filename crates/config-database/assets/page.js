// What the pages do beyond forms and links: show the runs of what is being chosen and those that have been, hide what does not
// matter for it, find the browser's zone, and follow a change to the agent. Without it everything works by pressing a button.
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
  // What is chosen comes to, in a line, or why that is not known: on a phone it stands beside the button that saves, where it is
  // seen while choosing.
  const inLine = document.getElementById("in-line");
  const sayInLine = () => {
    const said = (runs.querySelector(".sentence, .problem, p") ?? runs).textContent;
    if (inLine) inLine.textContent = said;
    return said;
  };
  sayInLine();
  let newest = 0;
  const showRuns = async () => {
    const mine = ++newest;
    let response = null, text;
    try {
      response = await fetch(form.dataset.runs, { method: "POST", body: new URLSearchParams(new FormData(form)) });
      text = await response.text();
    } catch { response = null; }
    if (mine !== newest) return;
    // Who is not signed in any more gets another page in place of the runs.
    if (response?.redirected) runs.textContent = form.dataset.ended;
    else if (response?.ok) runs.innerHTML = text;
    else runs.textContent = form.dataset.failed;
    announcement.textContent = sayInLine();
  };
  // Where the last field or row of several has been filled, another one follows.
  const offerAnother = () => {
    const times = [...form.querySelectorAll("[name=time]")];
    if (times.length < 24 && times.every((time) => time.value)) {
      const another = times[0].cloneNode();
      another.removeAttribute("id");
      another.removeAttribute("aria-describedby");
      another.setAttribute("aria-label", form.dataset.anotherTime);
      another.value = "";
      times.at(-1).after(another);
    }
    const rows = [...form.querySelectorAll(".counted")];
    if (rows.every((row) => row.querySelector("[name=nth]").value)) {
      const another = rows[0].cloneNode(true);
      another.querySelector("[name=nth]").value = "";
      rows.at(-1).after(another);
    }
  };
  let pause;
  form.addEventListener("input", () => {
    showWhatMatters();
    offerAnother();
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
  offerAnother();
  // Who does not see the page hears first what was wrong.
  document.getElementById("errors")?.focus();

  // What has run comes after the page: an agent may be slow or unavailable. Where it cannot be shown, the button tries again.
  const past = document.getElementById("past-runs");
  if (past) {
    const button = form.querySelector("[value=past-runs]");
    const load = async () => {
      past.ariaBusy = "true";
      past.textContent = past.dataset.loading;
      try {
        const response = await fetch(past.dataset.url);
        if (!response.ok || response.redirected) throw new Error(response.status);
        past.innerHTML = await response.text();
      } catch { past.textContent = past.dataset.failed; }
      past.ariaBusy = "false";
      button.parentElement.classList.toggle("when-plain", Boolean(past.querySelector("[data-known]")));
    };
    button.addEventListener("click", (event) => {
      event.preventDefault();
      if (past.ariaBusy !== "true") load();
    });
    load();
  }

  // What was sent to be saved when the session had ended is here again when the form is opened anew in this tab.
  const keptAs = `punctual-form ${location.pathname}`;
  try {
    form.addEventListener("submit", ({ submitter }) => {
      // Another button saves nothing. The one that Enter presses has no name.
      if (submitter?.name === "action" && submitter.value !== "save") return;
      sessionStorage.setItem(keptAs, new URLSearchParams(new FormData(form)).toString());
    });
    const kept = sessionStorage.getItem(keptAs);
    sessionStorage.removeItem(keptAs);
    // The server has answered it: nothing was lost.
    if (kept && !document.querySelector("#arrival, .problem")) {
      const sent = new URLSearchParams(kept);
      const left = new Map([...sent.keys()].map((name) => [name, sent.getAll(name)]));
      for (const field of form.elements) {
        if (!field.name || ["csrf", "version", "action"].includes(field.name)) continue;
        if (field.type === "checkbox") field.checked = sent.getAll(field.name).includes(field.value);
        else if (left.get(field.name)?.length) field.value = left.get(field.name).shift();
        offerAnother();
      }
      document.getElementById("kept").hidden = false;
      showWhatMatters();
      showRuns();
    }
  } catch { /* Without storage, as in some frames, nothing is kept. */ }
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
