// Tabs by the pattern of the ARIA Authoring Practices: arrow keys move between tabs.

import { el, newId } from "./dom.js";

/**
 * Create tabs.
 * `tabs`: objects with `name` (in addresses), `title` and `create`, which returns the panel's
 * element when it is first shown.
 */
export function createTabs(tabs, { label, selected, onSelect = () => {} }) {
  const buttons = tabs.map(({ title }) =>
    el("button", { type: "button", role: "tab", class: "tab", id: newId("tab") }, title),
  );
  const panels = buttons.map((button) =>
    el("div", {
      role: "tabpanel",
      class: "tab-panel",
      id: newId("panel"),
      "aria-labelledby": button.id,
      hidden: true,
    }),
  );
  const list = el("div", { role: "tablist", class: "tabs", "aria-label": label }, buttons);

  const select = (index, { focus = false } = {}) => {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-selected", String(i === index));
      button.setAttribute("aria-controls", panels[i].id);
      button.tabIndex = i === index ? 0 : -1;
      panels[i].hidden = i !== index;
    });
    if (!panels[index].hasChildNodes()) panels[index].append(tabs[index].create());
    if (focus) buttons[index].focus();
    onSelect(tabs[index].name);
  };
  const steps = { ArrowRight: 1, ArrowLeft: -1 };
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => select(index));
    button.addEventListener("keydown", (event) => {
      const count = tabs.length;
      let next;
      if (event.key in steps) next = (index + steps[event.key] + count) % count;
      else if (event.key === "Home") next = 0;
      else if (event.key === "End") next = count - 1;
      else return;
      event.preventDefault();
      select(next, { focus: true });
    });
  });
  const first = tabs.findIndex(({ name }) => name === selected);
  select(Math.max(first, 0));
  return el("div", { class: "tabbed" }, list, panels);
}
