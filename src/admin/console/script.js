"use strict";
// The page is whole without this. It only puts newer parts in place as the server sends them, and counts down.
(() => {
  const clocks = (root) => {
    for (const clock of root.querySelectorAll("[data-left]")) {
      clock.dataset.until = Date.now() + 1000 * Number(clock.dataset.left);
    }
  };
  const tick = () => {
    for (const clock of document.querySelectorAll("[data-until]")) {
      clock.textContent = Math.max(0, Math.ceil((clock.dataset.until - Date.now()) / 1000));
    }
  };
  // What a person has begun stays: a number half typed, a box that is ticked, a part that is open, and the focus.
  const put = (name, html) => {
    const part = document.getElementById(name);
    if (!part) return;
    const focus = part.contains(document.activeElement) ? document.activeElement.id : "";
    const begun = [...part.querySelectorAll("input[id], textarea[id], select[id], details[id]")].map((it) => [it.id, it.value, it.checked, it.open]);
    part.innerHTML = html;
    for (const [id, value, checked, open] of begun) {
      const it = document.getElementById(id);
      if (!it) continue;
      if (it.tagName === "DETAILS") it.open = open;
      else if (it.type === "checkbox") it.checked = checked;
      else it.value = value;
    }
    if (focus) document.getElementById(focus)?.focus();
    clocks(part);
    tick();
  };
  const listen = () => {
    const source = new EventSource(document.body.dataset.events);
    for (const name of ["link", "bus", "taken", "letters"]) {
      source.addEventListener(name, (event) => put(name, event.data));
    }
    // The browser comes back by itself after an end, not after a refusal.
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
    };
  };
  clocks(document);
  setInterval(tick, 1000);
  if (document.body.dataset.events) listen();
})();
