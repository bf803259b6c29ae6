// <punctual-preferences token="…" feature="…" src="…">: the preference pages of one user in a page of yours.
//
//   token    from POST /api/v1/tenants/{tenant_id}/links, or signed by your server
//   feature  shows this feature alone (optional)
//   src      where the Config Database is; without it, where this script comes from
//
// Events: `saved` (detail.feature) and `error` (detail.code, detail.message). Colours, radius and font come from the custom
// properties --punctual-accent, -on-accent, -background, -card, -text, -quiet, -line, -radius and -font; light and dark from
// `color-scheme`.
"use strict";

(() => {
  // There is none in a module, which names the pages by `src`.
  const ownAddress = document.currentScript?.src;
  const PROPERTIES = ["accent", "on-accent", "background", "card", "text", "quiet", "line", "radius", "font"];
  const HIGHEST = 20000;
  // Milliseconds within which the pages have to answer.
  const TIMEOUT = 15000;

  class PunctualPreferences extends HTMLElement {
    static observedAttributes = ["src", "token", "feature"];
    #frame;
    #origin;
    #waiting;
    #loads = false;
    #observer = new MutationObserver(() => this.#greet());
    #dark = window.matchMedia("(prefers-color-scheme: dark)");
    #themeChanged = () => this.#greet();
    #received = (event) => this.#receive(event);

    constructor() {
      super();
      this.attachShadow({ mode: "open" });
    }

    connectedCallback() {
      this.style.display ||= "block";
      window.addEventListener("message", this.#received);
      this.#dark.addEventListener("change", this.#themeChanged);
      for (const element of [document.documentElement, document.body, this]) {
        this.#observer.observe(element, { attributes: true, attributeFilter: ["class", "style", "data-theme"] });
      }
      this.#loadSoon();
    }

    disconnectedCallback() {
      window.removeEventListener("message", this.#received);
      this.#dark.removeEventListener("change", this.#themeChanged);
      this.#observer.disconnect();
      clearTimeout(this.#waiting);
      this.#frame?.remove();
      this.#frame = undefined;
    }

    attributeChangedCallback(name, before, after) {
      if (this.isConnected && before !== after) this.#loadSoon();
    }

    // Once for all attributes that change together.
    #loadSoon() {
      if (this.#loads) return;
      this.#loads = true;
      queueMicrotask(() => {
        this.#loads = false;
        if (this.isConnected) this.#load();
      });
    }

    #load() {
      clearTimeout(this.#waiting);
      this.#frame?.remove();
      this.#frame = undefined;
      const token = this.getAttribute("token");
      if (!token) return;
      let address;
      try {
        const src = this.getAttribute("src");
        address = src ? new URL(`${src.replace(/\/+$/, "")}/open`, location.href) : new URL("open", ownAddress);
      } catch {
        address = undefined;
      }
      if (!/^https?:$/.test(address?.protocol)) {
        const problem = this.hasAttribute("src") || ownAddress ? "is not" : "is missing: give";
        this.#fail("invalid", `\`src\` ${problem} the address of a Config Database`);
        return;
      }
      // Behind `#`, the token is sent to no server with the address.
      address.hash = new URLSearchParams({ token, feature: this.getAttribute("feature") ?? "" });
      this.#origin = address.origin;
      const frame = document.createElement("iframe");
      // Without a title of its own, the pages say it in their language with their first message.
      frame.title = this.getAttribute("title") ?? "";
      frame.referrerPolicy = "no-referrer";
      frame.style.cssText = "display: block; width: 100%; height: 20rem; border: 0";
      frame.addEventListener("load", () => this.#greet());
      frame.src = address.href;
      this.#frame = frame;
      this.#waiting = setTimeout(() => {
        this.#fail("unreachable", "the preferences do not answer; is this page's origin allowed to embed them?");
      }, TIMEOUT);
      this.shadowRoot.append(frame);
    }

    // Says who is around the frame, and what it looks like.
    #greet() {
      const style = getComputedStyle(this);
      const theme = {};
      for (const name of PROPERTIES) {
        const value = style.getPropertyValue(`--punctual-${name}`).trim();
        if (value) theme[name] = value;
      }
      const message = { from: "punctual-preferences", theme, scheme: style.colorScheme };
      this.#frame?.contentWindow?.postMessage(message, this.#origin);
    }

    #receive(event) {
      if (!this.#frame || event.source !== this.#frame.contentWindow || event.origin !== this.#origin) return;
      const message = event.data;
      if (message?.from !== "punctual") return;
      clearTimeout(this.#waiting);
      if (message.type === "height" && Number.isFinite(message.height)) {
        this.#frame.style.height = `${Math.min(Math.max(message.height, 0), HIGHEST)}px`;
        // In the language of the pages.
        if (!this.getAttribute("title") && message.title) this.#frame.title = String(message.title).slice(0, 200);
      } else if (message.type === "saved") {
        this.#dispatch("saved", { feature: String(message.feature ?? "") });
      } else if (message.type === "error") {
        this.#fail(String(message.code), String(message.message));
      }
    }

    #fail(code, message) {
      this.#dispatch("error", { code, message });
    }

    #dispatch(name, detail) {
      this.dispatchEvent(new CustomEvent(name, { detail }));
    }
  }

  if (!customElements.get("punctual-preferences")) customElements.define("punctual-preferences", PunctualPreferences);
})();
