// Keys, buttons, and clicks or touches on tiles. A finger that rests on a tile selects it.

import { copy } from "./gallery_messages.js";

const $ = (id) => document.getElementById(id);

export class Input {
  constructor(gallery) {
    this.gallery = gallery;
  }

  // Listens to everything that people can press.
  listen() {
    const grid = $("grid");
    grid.addEventListener("click", (event) => this.#clicked(event));
    grid.addEventListener("dblclick", (event) => event.preventDefault());
    this.#listenToTouch(grid);
    document.addEventListener("keydown", (event) => this.#pressed(event));
    $("search").addEventListener("input", () => this.gallery.typed());
    $("filters").addEventListener("input", () => this.gallery.typed());
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => setTimeout(() => this.gallery.clearFilters()));
    $("filter-button").onclick = () => this.gallery.openFilters($("filters").hidden);
    $("smaller").onclick = () => this.gallery.resize(-1);
    $("larger").onclick = () => this.gallery.resize(1);
    $("help-button").onclick = () => $("help").showModal();
    $("save-offsets").onclick = () => this.gallery.saveOffsets();
    $("save-list").onclick = () => this.gallery.saveList();
    $("show-subset").onclick = () => this.gallery.showSubset();
    $("select-none").onclick = () => this.gallery.selection.clear();
    $("command-copy").onclick = () => copy($("command-text").textContent, "Copied");
    for (const button of document.querySelectorAll("[data-close]")) {
      button.onclick = () => button.closest("dialog").close();
    }
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const from = this.gallery.grid.active;
    this.gallery.grid.setActive(cell.item);
    if (this.wasHeld) {
      this.wasHeld = false;
    } else if (event.shiftKey) {
      const [first, last] = [Math.min(from, cell.item), Math.max(from, cell.item)];
      this.gallery.selection.set(this.gallery.rowsOf(first, last + 1), true);
    } else if (event.ctrlKey || event.metaKey || event.target.closest(".mark")) {
      this.gallery.selection.toggle(cell.row);
    } else this.gallery.openItem(cell.item);
  }

  // A finger that rests on an image selects it.
  #listenToTouch(grid) {
    let timer;
    grid.addEventListener("pointerdown", (event) => {
      const cell = event.pointerType === "touch" && event.target.closest(".cell");
      if (!cell) return;
      timer = setTimeout(() => {
        this.wasHeld = true;
        this.gallery.selection.toggle(cell.row);
      }, 500);
    });
    for (const name of ["pointerup", "pointercancel", "pointermove"]) {
      grid.addEventListener(name, () => clearTimeout(timer), { passive: true });
    }
    grid.addEventListener("contextmenu", (event) => this.wasHeld && event.preventDefault());
  }

  #pressed(event) {
    if (event.defaultPrevented || event.altKey) return;
    const isTyping = event.target.matches?.("input, select, textarea");
    if ((event.ctrlKey || event.metaKey) && event.key === "a" && !isTyping && !document.querySelector("dialog[open]")) {
      this.gallery.selection.set(this.gallery.rowsOf(0, this.gallery.grid.count), true);
      event.preventDefault();
    }
    if (event.ctrlKey || event.metaKey) return;
    const isHandled = isTyping
      ? this.#pressedInField(event)
      : this.gallery.large.isOpen
        ? this.#pressedInLarge(event)
        : !document.querySelector("dialog[open]") && this.#pressedInGrid(event);
    if (isHandled) event.preventDefault();
  }

  #pressedInField({ key, target }) {
    if (target.id !== "search") return false;
    if (key === "Escape" && target.value) {
      target.value = "";
      this.gallery.typed();
    } else if (["Escape", "Enter", "ArrowDown"].includes(key)) $("grid").focus();
    else return false;
    return true;
  }

  #pressedInLarge({ key, target }) {
    if (key === "ArrowLeft" || key === "ArrowRight") this.gallery.step(key === "ArrowLeft" ? -1 : 1);
    else if (key === " " && !target.closest("button")) this.gallery.selection.toggle(this.gallery.large.member.row);
    else if (key === "?") $("help").showModal();
    else return false;
    return true;
  }

  #pressedInGrid({ key, target }) {
    const isOnGrid = target.id === "grid" || target === document.body;
    const other = {
      "/": () => $("search").select(),
      "?": () => $("help").showModal(),
      f: () => this.gallery.openFilters($("filters").hidden),
      "+": () => this.gallery.resize(1),
      "=": () => this.gallery.resize(1),
      "-": () => this.gallery.resize(-1),
      Escape: () => (this.gallery.selection.size ? this.gallery.selection.clear() : this.gallery.clearQuery()),
    }[key];
    if (other) other();
    else if (!isOnGrid || !this.gallery.grid.count) return false;
    else if (key === "Enter") this.gallery.openItem(this.gallery.grid.active);
    else if (key === " ") this.gallery.selection.toggle(this.gallery.rowOf(this.gallery.grid.active));
    else return this.gallery.grid.key(key);
    return true;
  }
}
