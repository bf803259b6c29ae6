// Keeps pages up to date, shows times in the visitor's zone, and says when the connection is lost. Without it, a reload shows
// the same in UTC.
"use strict";

// Times: local or UTC, and how long ago what is near.
let inUtc = false;
try {
  inUtc = localStorage.getItem("punctual-times") === "utc";
} catch { /* The choice is then for this page alone. */ }
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const relative = new Intl.RelativeTimeFormat("en", { style: "short", numeric: "auto" });

function ago(at) {
  const seconds = Math.round((at - Date.now()) / 1000);
  const [length, unit] = [[86400, "day"], [3600, "hour"], [60, "minute"], [1, "second"]]
    .find(([length]) => Math.abs(seconds) >= length) ?? [1, "second"];
  return unit === "day" ? "" : ` (${relative.format(Math.trunc(seconds / length), unit)})`;
}

// What is selected stays as it is, unless the visitor asked for other times.
function showTimes(root, asked = false) {
  const selection = getSelection();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    time.dataset.utc ??= time.textContent;
    const local = exact.format(at);
    time.title = inUtc ? local : time.dataset.utc;
    const text = (inUtc ? time.dataset.utc : local) + ago(at);
    const selected = !asked && selection.rangeCount && !selection.isCollapsed && selection.containsNode(time, true);
    if (time.textContent !== text && !selected) time.textContent = text;
  }
}

// What only works with this script is in the page, disabled, so that nothing moves when it begins.
const zone = document.getElementById("zone");
if (zone) {
  const name = () => { zone.textContent = inUtc ? "Show local times" : "Show UTC"; };
  zone.addEventListener("click", () => {
    inUtc = !inUtc;
    try { localStorage.setItem("punctual-times", inUtc ? "utc" : "local"); } catch { /* As above. */ }
    name();
    showTimes(document, true);
  });
  name();
  zone.disabled = false;
}
showTimes(document);
setInterval(() => showTimes(document), 20_000);

// What an action did stands in the page already; screen readers read out what changes.
const answer = document.getElementById("answer");
if (answer) {
  const said = [...answer.childNodes];
  answer.style.minHeight = `${answer.offsetHeight}px`;
  answer.replaceChildren();
  setTimeout(() => answer.replaceChildren(...said), 150);
}

// Ticks all rows of a page. It stands before the table, whose head a phone does not show.
function offerSelection(root) {
  for (const all of root.querySelectorAll("input[data-all]")) all.disabled = false;
}
const boxesOf = (form) => [...form.querySelectorAll("table[data-select] tbody input[type=checkbox]")];
const showSelection = (all) => {
  const boxes = boxesOf(all.form);
  all.checked = boxes.length > 0 && boxes.every((box) => box.checked);
};
document.addEventListener("change", ({ target }) => {
  const all = target.form?.querySelector("input[data-all]");
  if (target === all) boxesOf(all.form).forEach((box) => { box.checked = all.checked; });
  else if (all) showSelection(all);
});
offerSelection(document);

// Copies the text before a button. Browsers have a clipboard for pages over HTTPS and of this machine only.
document.documentElement.classList.toggle("no-clipboard", !navigator.clipboard);
document.addEventListener("click", async ({ target }) => {
  const button = target.closest("[data-copy]");
  if (!button) return;
  const said = document.getElementById("said");
  const copied = navigator.clipboard.writeText(button.previousElementSibling.textContent);
  said.textContent = await copied.then(() => "Copied", () => "Not copied: the browser refuses it. Select the text instead.");
  setTimeout(() => said.replaceChildren(), 4_000);
});

// Patches `old` into what `next` is, and leaves alone what is the same: focus, selection and open details survive.
// Not by its property: a form has its field named `id` there.
const key = (node) => node.getAttribute?.("id") ?? node.dataset?.key;

function patch(old, next) {
  if (old.nodeName === "TIME" && old.dateTime === next.dateTime) return;
  for (const { name } of [...old.attributes]) {
    if (!next.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patchChildren(old, next);
}

function patchChildren(old, next) {
  // What is gone goes first: what stays is not moved then, and keeps its focus.
  const keys = new Set([...next.children].map(key));
  for (const child of [...old.children]) {
    if (key(child) && !keys.has(key(child))) child.remove();
  }
  const wanted = [...next.childNodes];
  wanted.forEach((kid, place) => {
    let mine = old.childNodes[place];
    const same = key(kid) && [...old.children].find((child) => key(child) === key(kid));
    if (same && same !== mine) {
      old.insertBefore(same, mine);
      mine = same;
    }
    if (!mine) old.append(kid);
    else if (mine.nodeName !== kid.nodeName || key(mine) !== key(kid)) {
      if (key(mine)) old.insertBefore(kid, mine);
      else mine.replaceWith(kid);
    } else if (mine.nodeType === Node.TEXT_NODE) {
      if (mine.data !== kid.data) mine.data = kid.data;
    } else if (mine.nodeType === Node.ELEMENT_NODE) patch(mine, kid);
  });
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
}

// A page with live parts hears from the agent while it is visible: the live part of the overview, or that something has happened,
// upon which it reads itself again. The overview reads itself again for its other parts, when what lies ahead may have changed or
// they are old. The time that a page holds for moves only with what was read.
const asOf = document.getElementById("as-of");
const live = document.getElementById("live");
const parts = asOf?.dataset.page ? [...document.querySelectorAll("[data-live]")] : [];
if (asOf && (live || parts.length)) {
  const QUIET = 35_000; // The stream says something every 10 s.
  const OLD = 30_000; // What changes without an event is read again so often.
  const { page, since, signIn } = asOf.dataset;
  const title = document.title.replace(/^\(\d+\) /, "");
  let heard = Date.now(), connected = heard, shown = Date.parse(since), { seen } = asOf.dataset;
  const aheadNow = () => live?.querySelector("[data-ahead]")?.dataset.ahead;
  let ahead = aheadNow(), partsRead = heard;
  let trouble = null, events = null, retry;
  const stream = () => live?.dataset.url ?? `${asOf.dataset.url}${seen ? `?seen=${seen}` : ""}`;

  const notice = document.createElement("p");
  notice.className = "problem";
  notice.id = "connection";
  notice.setAttribute("role", "status");
  notice.hidden = true;
  document.getElementById("main").prepend(notice);
  const clock = (at) => new Date(at).toLocaleTimeString(undefined, inUtc ? { timeZone: "UTC" } : {});

  // `kind`: "lost", no connection; "unread", this page cannot be read; "failed", the store fails; "ended", signed out.
  const say = (kind, what, ...more) => {
    if (trouble === "ended" || trouble === kind) return;
    trouble = kind;
    notice.replaceChildren(`${what} This page shows how things were at ${clock(shown)}.`, ...more);
    notice.hidden = false;
    document.body.classList.add("stale");
  };
  const over = (...kinds) => {
    if (!kinds.includes(trouble)) return;
    trouble = null;
    notice.hidden = true;
    document.body.classList.remove("stale");
  };
  const received = (at) => {
    over("lost", "unread", "failed");
    shown = Date.parse(at);
    const time = asOf.querySelector("time");
    time.dateTime = at;
    time.dataset.utc = at.slice(0, 19).replace("T", " ") + " UTC";
    showTimes(asOf);
  };
  const end = () => {
    const link = document.createElement("a");
    link.href = signIn;
    link.textContent = "Sign in again";
    say("ended", "You are signed out.", " ", link, ".");
    disconnect();
  };

  const disconnect = () => {
    clearTimeout(retry);
    events?.close();
    events = null;
  };

  // Reads this page again and patches its live parts. While it is being read: once more afterwards.
  let reading = false, readAgain = false, nextRead;
  const refresh = async () => {
    if (!parts.length || trouble === "ended") return;
    if (reading) { readAgain = true; return; }
    reading = true;
    clearTimeout(nextRead);
    let failed = null;
    try {
      const response = await fetch(page, { headers: { Accept: "text/html", "Punctual-Refresh": "1" } });
      if (response.redirected && new URL(response.url).pathname === new URL(signIn, location.href).pathname) end();
      else if (!response.ok || response.redirected) failed = `the agent answered ${response.status}`;
      else {
        const next = new DOMParser().parseFromString(await response.text(), "text/html");
        showTimes(next);
        offerSelection(next);
        for (const old of parts) {
          const part = next.getElementById(old.id);
          if (part) patch(old, part);
        }
        document.querySelectorAll("input[data-all]").forEach(showSelection);
        partsRead = Date.now();
        const read = next.getElementById("as-of");
        seen = read.dataset.seen;
        received(read.querySelector("time").dateTime);
      }
    } catch { failed = "there was no answer"; }
    reading = false;
    // Until the page can be read, this is the one that reads it again.
    if (failed) {
      say("unread", `What has changed cannot be read: ${failed}; trying again.`);
      readAgain = false;
      if (!document.hidden) nextRead = setTimeout(refresh, 5_000);
    } else if (readAgain) {
      readAgain = false;
      refresh();
    }
  };

  const hear = () => {
    heard = Date.now();
    const wasLost = trouble === "lost";
    over("lost");
    if (wasLost) refresh();
  };
  const lose = () => say("lost", `No connection since ${clock(heard)}; trying again.`);

  const connect = () => {
    disconnect();
    if (document.hidden || trouble === "ended") return;
    connected = Date.now();
    const own = new EventSource(stream());
    events = own;
    own.onopen = hear;
    own.addEventListener("beat", hear);
    own.addEventListener("same", (event) => {
      hear();
      over("failed");
      // Of the overview the live part was read for this; of other pages, what tells that they have changed.
      if (live && !trouble) received(event.lastEventId);
      if (trouble !== "unread" && Date.now() - (live ? partsRead : shown) > OLD) refresh();
    });
    own.addEventListener("failed", () => {
      hear();
      say("failed", "The store does not answer.");
    });
    own.onmessage = (event) => {
      hear();
      over("failed");
      if (!live) {
        if (trouble !== "unread") refresh();
        return;
      }
      const next = document.createElement("div");
      next.innerHTML = event.data;
      showTimes(next);
      patchChildren(live, next);
      const wrong = Number(live.querySelector("[data-wrong]").dataset.wrong);
      document.title = (wrong ? `(${wrong}) ` : "") + title;
      if (trouble === "unread") return;
      received(event.lastEventId);
      if (aheadNow() !== ahead || Date.now() - partsRead > OLD) {
        ahead = aheadNow();
        refresh();
      }
    };
    own.onerror = async () => {
      lose();
      if (own.readyState !== EventSource.CLOSED) return;
      // After an answer that is not a stream the browser does not connect again. Has the session ended?
      const check = new AbortController();
      try {
        const response = await fetch(stream(), { redirect: "manual", signal: check.signal });
        if (response.type === "opaqueredirect") end();
      } catch { /* No connection. */ }
      check.abort();
      if (own === events) retry = setTimeout(connect, 5_000);
    };
  };
  connect();
  setInterval(() => { if (events && Date.now() - Math.max(heard, connected) > QUIET) lose(); }, 5_000);
  // A browser has few connections to one host, and each open stream holds one: hidden pages have none.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { disconnect(); return; }
    refresh();
    connect();
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    refresh();
    connect();
  });
}
