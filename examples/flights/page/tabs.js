// The tabs of the airports, which the arrow keys go through.
import { $ } from "./dom.js";

export function markTab(tabs, airport) {
  for (const tab of tabs) {
    const isChosen = tab.dataset.airport === airport;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
  }
  $("board-panel").setAttribute("aria-labelledby", `tab-${airport}`);
}

export function startTabs(tabs, onChoose) {
  function select(tab) {
    if (tab.getAttribute("aria-selected") === "false") onChoose(tab.dataset.airport);
  }
  $("airports").addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab);
  });
  $("airports").addEventListener("keydown", (event) => {
    const from = tabs.indexOf(event.target.closest("[role=tab]"));
    const to = {
      ArrowRight: (from + 1) % tabs.length,
      ArrowLeft: (from + tabs.length - 1) % tabs.length,
      Home: 0,
      End: tabs.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    tabs[to].focus();
    select(tabs[to]);
  });
}
