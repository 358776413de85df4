"use strict";
(() => {
  const one = (selector, from = document) => from.querySelector(selector);
  const all = (selector, from = document) => [...from.querySelectorAll(selector)];
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const toggle = (button) => button.setAttribute("aria-pressed", String(!pressed(button)));

  // light and dark: the system's choice until the reader makes one
  one("#theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // findings
  const table = one("#f-table");
  if (table) {
    const rows = all("tbody tr", table).map((row) => ({ row, text: row.textContent.toLowerCase() }));
    const chips = all(".chip[data-severity]");
    const [code, patient, text] = ["#f-code", "#f-patient", "#f-text"].map((id) => one(id));
    const apply = () => {
      const severities = new Set(chips.filter(pressed).map((chip) => chip.dataset.severity));
      const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { row, text: own } of rows) {
        const fits = severities.has(row.dataset.severity)
          && (!code.value || row.dataset.code === code.value)
          && (!patient.value || row.dataset.patient === patient.value)
          && words.every((word) => own.includes(word));
        row.hidden = !fits;
        shown += fits;
      }
      one("#f-count").textContent = `${shown} of ${rows.length}`;
      one("#f-none").hidden = shown > 0;
    };
    const reset = () => {
      chips.forEach((chip) => chip.setAttribute("aria-pressed", "true"));
      code.value = patient.value = text.value = "";
    };
    chips.forEach((chip) => chip.addEventListener("click", () => { toggle(chip); apply(); }));
    [code, patient].forEach((box) => box.addEventListener("change", apply));
    text.addEventListener("input", apply);
    one("#f-reset").addEventListener("click", () => { reset(); apply(); });
    all(".pick").forEach((button) => button.addEventListener("click", () => {
      reset(); code.value = button.dataset.code; apply(); one("#findings").scrollIntoView();
    }));
    all("a[data-patient]").forEach((link) => link.addEventListener("click", () => {
      reset(); patient.value = link.dataset.patient; apply();
    }));
    apply(); // browsers keep what was typed over a reload
  }

  // survival curves
  const by = one("#s-by");
  if (by) {
    const show = () => all(".curves").forEach((box) => { box.hidden = box.dataset.by !== by.value; });
    by.addEventListener("change", show);
    show();
  }

  // patients
  const cards = one("#p-cards");
  if (cards) {
    const list = all(".patient", cards);
    const [text, response, sort] = ["#p-text", "#p-response", "#p-sort"].map((id) => one(id));
    const orders = {
      id: (a, b) => a.dataset.id.localeCompare(b.dataset.id),
      tumour: (a, b) => b.dataset.tumour - a.dataset.tumour,
      findings: (a, b) => b.dataset.findings - a.dataset.findings,
      dice: (a, b) => a.dataset.dice - b.dataset.dice,
    };
    const apply = () => {
      const wanted = text.value.trim().toLowerCase();
      let shown = 0;
      for (const card of list) {
        const fits = card.dataset.id.toLowerCase().includes(wanted)
          && (!response.value || card.dataset.response === response.value);
        card.hidden = !fits;
        shown += fits;
      }
      one("#p-count").textContent = `${shown} of ${list.length}`;
      one("#p-none").hidden = shown > 0;
    };
    text.addEventListener("input", apply);
    response.addEventListener("change", apply);
    sort.addEventListener("change", () => cards.append(...[...list].sort(orders[sort.value])));
    all(".chip[data-layer]").forEach((chip) => chip.addEventListener("click", () => {
      toggle(chip);
      document.body.classList.toggle(`off-${chip.dataset.layer}`, !pressed(chip));
    }));
    apply();

    const dialog = one("#zoom");
    let open = null; // the slice that is enlarged
    const enlarge = (slice) => {
      open = slice;
      const figure = slice.closest("figure").cloneNode(true);
      const name = slice.closest(".patient").dataset.id;
      one("figcaption", figure).prepend(`${name}, slice `);
      one(".slice", figure).replaceWith(one(".frame", figure));
      one("#zoomed").replaceChildren(figure);
      if (!dialog.open) dialog.showModal();
    };
    cards.addEventListener("click", (event) => {
      const slice = event.target.closest(".slice");
      if (slice) enlarge(slice);
    });
    dialog.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      if (!step || !open) return;
      event.preventDefault();
      const shown = all(".patient:not([hidden]) .slice", cards);
      const next = shown[shown.indexOf(open) + step];
      if (next) enlarge(next);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }

  // a link to a patient who is filtered away shows the patient again
  addEventListener("hashchange", () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target && target.hidden) { target.hidden = false; target.scrollIntoView(); }
  });

  // which section is read
  const links = new Map(all(".links a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      const link = links.get(entry.target.id);
      link?.setAttribute("aria-current", "true");
      const row = link?.parentElement; // on a phone the row of links scrolls
      if (row) row.scrollLeft = link.offsetLeft - row.offsetLeft - (row.clientWidth - link.clientWidth) / 2;
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  all("section[id], footer[id]").forEach((part) => seen.observe(part));
})();
