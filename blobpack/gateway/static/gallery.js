// The gallery: opens a blob, and ties search, grid, large view, selection and the address together.
//
// Strategy: the address holds the search, the filters and the open member, so every view can be bookmarked and shared.
// Whatever a blob says (names above all) becomes text by textContent, and pictures only ever stand in <img>.

import { open, BlobChangedError, FactsMissingError, StorageError } from "./blobpack.js";
import { Grid } from "./gallery_grid.js";
import { LIMITS, countOfFilters, fromParams, isEmpty, parseSize, queryOf, search, toParams } from "./gallery_query.js";
import { Pictures, TILE_BYTES_MAX, imageOf, pictureType } from "./gallery_pictures.js";
import { LargeView, element, kindOf, sizeText } from "./gallery_large.js";
import { Selection, saveList, saveOffsets } from "./gallery_selection.js";
import { NAMES_IN_COMMAND, subsetOfNames, subsetOfSearch, visible } from "./gallery_snippets.js";

const TYPING_MS = 180;
const TOAST_MS = 4000;
const TINY_PIXELS = 96; // drawn with hard pixels in a tile
const TILES = [96, 120, 148, 184, 232, 300];
const TEMPLATE = document.createElement("template");
TEMPLATE.innerHTML = '<div class="thumb"></div><div class="caption"></div><div class="mark" aria-hidden="true"><svg><use href="#icon-check"/></svg></div>';

const $ = (id) => document.getElementById(id);
const numberText = (number) => number.toLocaleString("en");

class Gallery {
  constructor(blob, info) {
    this.blob = blob;
    this.info = { ...info, url: blob.url };
    this.query = queryOf("");
    this.found = null; // rows of a search; null: all rows
    this.types = new Set();
    this.selection = new Selection(blob.length, () => this.#selectionChanged());
    this.pictures = new Pictures(blob, {
      onKnown: (row, member) => this.#known(row, member),
      onBytes: (row, bytes) => this.#arrived(row, bytes),
      onFailure: (error) => this.fail(error),
    });
    this.grid = new Grid($("grid"), {
      fill: (cell, item) => this.#fill(cell, item),
      onView: (first, last) => this.#view(first, last),
      onMove: (item) => this.#moved(item),
    });
    this.large = new LargeView(this.pictures, this.info, {
      step: (by) => this.step(by),
      select: (row) => this.selection.toggle(row),
      copy: (text, done) => this.copy(text, done),
      fail: (error) => this.fail(error),
      close: () => this.#closed(),
    });
  }

  start() {
    const { blob } = this;
    this.grid.show(blob.length);
    this.#listen();
    this.#showStatus();
    addEventListener("hashchange", () => this.fromAddress());
    this.fromAddress();
  }

  // ---- what is in the grid

  rowOf(item) {
    return this.found ? this.found[item] : item;
  }

  #view(first, last) {
    const rows = [];
    for (let item = first; item < last; item += 1) rows.push(this.rowOf(item));
    this.pictures.view(rows);
  }

  #fill(cell, item) {
    cell.row = this.rowOf(item);
    cell.replaceChildren(TEMPLATE.content.cloneNode(true));
    cell.ariaSelected = this.selection.has(cell.row);
    const member = this.pictures.member(cell.row);
    cell.ariaLabel = member ? visible(member.name) : `Member ${numberText(cell.row + 1)}`;
    if (!member) return;
    this.#label(cell, member);
    const bytes = this.pictures.payload(cell.row);
    if (bytes) this.#paint(cell, member, bytes);
  }

  #known(row, member) {
    if (member.mediaType && !this.types.has(member.mediaType)) {
      this.types.add(member.mediaType);
      this.#showTypes();
    }
    this.#cellsOf(row, (cell) => this.#label(cell, member));
  }

  #arrived(row, bytes) {
    const member = this.pictures.member(row);
    if (member) this.#cellsOf(row, (cell) => this.#paint(cell, member, bytes));
  }

  #cellsOf(row, use) {
    this.grid.forEach((item, cell) => cell.row === row && use(cell));
  }

  #label(cell, member) {
    const [thumb, caption] = cell.children;
    const shown = visible(member.name);
    if (cell.title === shown) return;
    cell.title = shown;
    cell.ariaLabel = shown;
    caption.textContent = shown.slice(shown.lastIndexOf("/") + 1);
    if (!pictureType(member)) thumb.replaceChildren(element("span", kindOf(member), { className: "kind" }));
    else if (member.size > TILE_BYTES_MAX) {
      const text = `${kindOf(member)} ${sizeText(member.size)}`;
      thumb.replaceChildren(element("span", text, { className: "kind" }));
    }
  }

  #paint(cell, member, bytes) {
    const thumb = cell.firstChild;
    if (thumb.querySelector("img, .why")) return;
    if (bytes instanceof Error) return this.#paintBroken(thumb, `${visible(member.name)}: ${bytes.name}`);
    const image = imageOf(bytes, pictureType(member), {
      onReady: () => {
        if (Math.max(image.naturalWidth, image.naturalHeight) <= TINY_PIXELS) image.classList.add("tiny");
        image.classList.add("ready");
      },
      onBroken: () => this.#paintBroken(thumb, visible(member.name)),
    });
    // the cell has the name
    image.alt = "";
    thumb.replaceChildren(image);
  }

  #paintBroken(thumb, text) {
    thumb.classList.add("broken");
    thumb.replaceChildren(element("span", text, { className: "why" }));
  }

  #moved(item) {
    this.active = item;
  }

  // ---- search and filters

  fromAddress() {
    const params = new URLSearchParams(location.hash.slice(1));
    const query = fromParams(params);
    $("search").value = query.text;
    for (const name of LIMITS) $("filters").elements[name].value = query.limits[name] ?? "";
    for (const type of query.types) this.types.add(type);
    if (String(toParams(query)) !== String(toParams(this.query))) this.find(query);
    this.#showTypes();
    if (countOfFilters(query)) this.#openFilters(true);
    this.#openFromAddress(params).catch((error) => this.fail(error));
  }

  async #openFromAddress(params) {
    const name = params.get("image");
    const row = /^\d+$/.test(params.get("row") ?? "") ? Number(params.get("row")) : -1;
    if (name === null && row < 0) {
      if (this.large.isOpen) this.large.dialog.close();
      return;
    }
    let [member] = row >= 0 && row < this.blob.length ? await this.pictures.membersOf([row]) : [];
    // the row tells members of one name apart; the name counts if the blob was packed anew since
    if (name !== null && member?.name !== name) member = await this.blob.find(name);
    if (member) this.#showLarge(member, this.#itemOf(member.row), { isAddressed: true });
  }

  find(query) {
    this.query = query;
    this.searching?.abort();
    $("filter-count").textContent = countOfFilters(query);
    $("filter-count").hidden = !countOfFilters(query);
    if (isEmpty(query)) {
      this.found = null;
      $("progress").hidden = true;
      this.grid.show(this.blob.length);
      this.#showStatus();
      return;
    }
    this.searching = new AbortController();
    this.#search(query, this.searching.signal).catch((error) => {
      if (query === this.query && error.name !== "AbortError") this.fail(error);
    });
  }

  async #search(query, signal) {
    let isFirst = true;
    $("status").textContent = "Searching…";
    $("progress").hidden = false;
    const onFound = (rows, scanned, isDone) => {
      if (signal.aborted) return;
      $("progress").firstChild.style.transform = `scaleX(${scanned / Math.max(1, this.blob.length)})`;
      // what was found before stays until there is something to show
      if (rows.length || isDone) {
        this.found = rows;
        this.grid.show(rows.length, { keep: !isFirst });
        isFirst = false;
      }
      if (isDone) {
        $("progress").hidden = true;
        this.#showStatus();
        this.#showTypes();
        if (this.large.member) this.#showPlace(this.#itemOf(this.large.member.row));
      }
    };
    try {
      await search(this.blob, query, this.types, { signal, onFound });
    } catch (error) {
      $("progress").hidden = true;
      throw error;
    }
  }

  #showStatus() {
    const all = numberText(this.blob.length);
    const isAll = this.found === null;
    const bytes = this.blob.payloadBytes ? ` · ${sizeText(this.blob.payloadBytes)}` : "";
    const members = this.blob.length === 1 ? "member" : "members";
    $("status").textContent = isAll ? `${all} ${members}${bytes}` : `${numberText(this.found.length)} of ${all} found`;
    $("empty").hidden = !(isAll ? !this.blob.length : !this.found.length);
    if ($("empty").hidden) return;
    const again = element("button", "Clear search and filters", { type: "button" });
    again.onclick = () => this.#clearQuery();
    $("empty").replaceChildren(
      element("h2", isAll ? "This blob has no members" : `Nothing found${this.query.text ? ` for “${visible(this.query.text)}”` : ""}`),
      ...(isAll ? [] : [element("p", "A word finds names that contain it; with * or ?, the whole name must match."), again]),
    );
  }

  #clearQuery() {
    $("search").value = "";
    $("filters").reset();
    this.#navigate(queryOf(""));
  }

  #typed() {
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.#navigate(this.#queryOfFields()), TYPING_MS);
  }

  #queryOfFields(types = this.query.types) {
    const limits = {};
    for (const name of LIMITS) {
      const field = $("filters").elements[name];
      const value = field.value.trim() ? parseSize(field.value) : null;
      field.setAttribute("aria-invalid", Boolean(field.value.trim()) && value === null);
      if (value !== null) limits[name] = value;
    }
    return queryOf($("search").value, types, limits);
  }

  // Searches, and writes the query into the address.
  #navigate(query) {
    if (String(toParams(query)) === String(toParams(this.query))) return;
    history.replaceState(null, "", `#${toParams(query)}`);
    this.find(query);
    this.#showTypes();
  }

  #showTypes() {
    const facts = new Set(this.blob.facts);
    const missing = ["mediaType", "width", "height"].filter((fact) => !facts.has(fact));
    $("no-facts").hidden = !missing.length;
    $("no-facts").textContent = "The index has no media types, widths and heights; `blobpack index --facts` adds them.";
    const chips = [...this.types].sort().map((type) => {
      const chip = element("button", type.replace(/^image\/|\+xml$/g, ""), { type: "button" });
      chip.ariaPressed = this.query.types.includes(type);
      chip.onclick = () => {
        const { types } = this.query;
        const chosen = types.includes(type) ? types.filter((one) => one !== type) : [...types, type];
        this.#navigate(this.#queryOfFields(chosen));
      };
      return chip;
    });
    $("types").replaceChildren(...(chips.length ? chips : [element("span", "not known")]));
    for (const name of LIMITS.slice(2)) $("filters").elements[name].disabled = missing.length > 0;
  }

  #openFilters(isOpen) {
    $("filters").hidden = !isOpen;
    $("filter-button").ariaExpanded = isOpen;
  }

  // ---- large view

  async openItem(item) {
    try {
      const [member] = await this.pictures.membersOf([this.rowOf(item)]);
      if (member) this.#showLarge(member, item);
    } catch (error) {
      this.fail(error);
    }
  }

  #showLarge(member, item, { isAddressed = false } = {}) {
    const wasOpen = this.large.isOpen;
    this.large.show(member, this.selection.has(member.row));
    this.#showPlace(item);
    const params = toParams(this.query);
    // a name with bytes that are not UTF-8 can't stand in a URL
    if (!/\p{Surrogate}/u.test(member.name)) params.set("image", member.name);
    params.set("row", member.row);
    if (`#${params}` === location.hash) return;
    // the browser's Back closes what a click has opened
    if (wasOpen || isAddressed) history.replaceState(history.state, "", `#${params}`);
    else history.pushState({ isOpened: true }, "", `#${params}`);
  }

  // Says which of the found members is shown large.
  #showPlace(item) {
    this.item = item;
    if (item >= 0) this.grid.setActive(item, { focus: false });
    const count = numberText(this.found ? this.found.length : this.blob.length);
    $("large-place").textContent = item >= 0 ? `${numberText(item + 1)} of ${count}` : "not among those found";
    $("previous").disabled = item <= 0;
    $("next").disabled = item < 0 || item >= this.grid.count - 1;
  }

  #itemOf(row) {
    if (!this.found) return row;
    let [low, high] = [0, this.found.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.found[middle] < row) low = middle + 1;
      else high = middle;
    }
    return this.found[low] === row ? low : -1;
  }

  step(by) {
    const item = this.item + by;
    if (this.item >= 0 && item >= 0 && item < this.grid.count) this.openItem(item);
  }

  #closed() {
    const params = new URLSearchParams(location.hash.slice(1));
    if (params.has("row") || params.has("image")) {
      if (history.state?.isOpened) history.back();
      else history.replaceState(null, "", `#${toParams(this.query)}`);
    }
    $("grid").focus({ preventScroll: true });
  }

  // ---- selection

  #selectionChanged() {
    const { size } = this.selection;
    $("selection").hidden = size === 0;
    $("selected").textContent = `${numberText(size)} selected`;
    $("grid").classList.toggle("selecting", size > 0);
    this.grid.forEach((item, cell) => {
      cell.ariaSelected = this.selection.has(cell.row);
    });
    if (this.large.member) this.large.setSelected(this.selection.has(this.large.member.row));
  }

  *#rowsOf(first, last) {
    for (let item = first; item < last; item += 1) yield this.rowOf(item);
  }

  // Calls a function with batches of the selected members.
  async #withSelected(use) {
    try {
      await use(this.selection.members(this.pictures, this.blob));
    } catch (error) {
      this.fail(error);
    }
  }

  #saveList() {
    this.#withSelected(async (batches) => {
      const left = await saveList(batches);
      if (left) this.toast(`${numberText(left)} with a line break in the name left out of the list`);
    });
  }

  #showSubset() {
    const { size } = this.selection;
    const isAll = this.found ? size === this.found.length && this.found.every((row) => this.selection.has(row)) : size === this.blob.length;
    this.#withSelected(async (batches) => {
      const names = [];
      if (!isAll && size <= NAMES_IN_COMMAND) {
        for await (const members of batches) names.push(...members.map(({ name }) => name));
      }
      $("command-text").textContent = isAll ? subsetOfSearch(this.query, this.info) : subsetOfNames(names, this.info);
      $("command-note").hidden = isAll || names.length > 0;
      $("command").showModal();
    });
  }

  // ---- input

  #listen() {
    const grid = $("grid");
    grid.addEventListener("click", (event) => this.#clicked(event));
    grid.addEventListener("dblclick", (event) => event.preventDefault());
    this.#listenToTouch(grid);
    document.addEventListener("keydown", (event) => this.#pressed(event));
    $("search").addEventListener("input", () => this.#typed());
    $("filters").addEventListener("input", () => this.#typed());
    $("filters").addEventListener("submit", (event) => event.preventDefault());
    $("filters").addEventListener("reset", () => setTimeout(() => this.#navigate(this.#queryOfFields([]))));
    $("filter-button").onclick = () => this.#openFilters($("filters").hidden);
    $("smaller").onclick = () => this.#resize(-1);
    $("larger").onclick = () => this.#resize(1);
    $("help-button").onclick = () => $("help").showModal();
    $("save-offsets").onclick = () => this.#withSelected(saveOffsets);
    $("save-list").onclick = () => this.#saveList();
    $("show-subset").onclick = () => this.#showSubset();
    $("select-none").onclick = () => this.selection.clear();
    $("command-copy").onclick = () => this.copy($("command-text").textContent, "Copied");
    for (const button of document.querySelectorAll("[data-close]")) {
      button.onclick = () => button.closest("dialog").close();
    }
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    if (!cell) return;
    const from = this.grid.active;
    this.grid.setActive(cell.item);
    if (this.wasHeld) {
      this.wasHeld = false;
    } else if (event.shiftKey) {
      const [first, last] = [Math.min(from, cell.item), Math.max(from, cell.item)];
      this.selection.set(this.#rowsOf(first, last + 1), true);
    } else if (event.ctrlKey || event.metaKey || event.target.closest(".mark")) {
      this.selection.toggle(cell.row);
    } else this.openItem(cell.item);
  }

  // A finger that rests on an image selects it.
  #listenToTouch(grid) {
    let timer;
    grid.addEventListener("pointerdown", (event) => {
      const cell = event.pointerType === "touch" && event.target.closest(".cell");
      if (!cell) return;
      timer = setTimeout(() => {
        this.wasHeld = true;
        this.selection.toggle(cell.row);
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
      this.selection.set(this.#rowsOf(0, this.grid.count), true);
      event.preventDefault();
    }
    if (event.ctrlKey || event.metaKey) return;
    const isHandled = isTyping
      ? this.#pressedInField(event)
      : this.large.isOpen
        ? this.#pressedInLarge(event)
        : !document.querySelector("dialog[open]") && this.#pressedInGrid(event);
    if (isHandled) event.preventDefault();
  }

  #pressedInField({ key, target }) {
    if (target.id !== "search") return false;
    if (key === "Escape" && target.value) {
      target.value = "";
      this.#typed();
    } else if (["Escape", "Enter", "ArrowDown"].includes(key)) $("grid").focus();
    else return false;
    return true;
  }

  #pressedInLarge({ key, target }) {
    if (key === "ArrowLeft" || key === "ArrowRight") this.step(key === "ArrowLeft" ? -1 : 1);
    else if (key === " " && !target.closest("button")) this.selection.toggle(this.large.member.row);
    else if (key === "?") $("help").showModal();
    else return false;
    return true;
  }

  #pressedInGrid({ key, target }) {
    const isOnGrid = target.id === "grid" || target === document.body;
    const other = {
      "/": () => $("search").select(),
      "?": () => $("help").showModal(),
      f: () => this.#openFilters($("filters").hidden),
      "+": () => this.#resize(1),
      "=": () => this.#resize(1),
      "-": () => this.#resize(-1),
      Escape: () => (this.selection.size ? this.selection.clear() : this.#clearQuery()),
    }[key];
    if (other) other();
    else if (!isOnGrid || !this.grid.count) return false;
    else if (key === "Enter") this.openItem(this.grid.active);
    else if (key === " ") this.selection.toggle(this.rowOf(this.grid.active));
    else return this.grid.key(key);
    return true;
  }

  #resize(by) {
    const at = Math.max(0, Math.min(TILES.length - 1, TILES.indexOf(this.grid.tile) + by));
    this.grid.tile = TILES[at];
    this.grid.resize();
  }

  // ---- messages

  async copy(text, done) {
    try {
      await navigator.clipboard.writeText(text);
      this.toast(done);
    } catch {
      this.toast("This browser does not let the page copy: select the text instead");
    }
  }

  toast(text) {
    $("toast").textContent = text;
    $("toast").hidden = false;
    clearTimeout(this.toasting);
    this.toasting = setTimeout(() => ($("toast").hidden = true), TOAST_MS);
  }

  fail(error) {
    console.error(error);
    // whatever failed before or after: what was opened is gone
    if (error instanceof BlobChangedError) this.isGone = true;
    if (this.isGone) return showBanner("This blob was replaced since it was opened.", "Load again");
    if (error instanceof FactsMissingError) return this.toast(error.message);
    showBanner(error.message, "Try again", () => {
      $("banner").hidden = true;
      this.pictures.view(this.pictures.wanted);
    });
  }
}

function showBanner(text, action, act = () => location.reload()) {
  const button = element("button", action, { type: "button" });
  button.onclick = act;
  $("banner").replaceChildren(element("span", text), button);
  $("banner").hidden = false;
}

function followTheme() {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    // a page may be forbidden to store anything
    try {
      return localStorage.getItem("blobpack-theme");
    } catch {
      return null;
    }
  };
  const theme = kept();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  $("theme").onclick = () => {
    const now = root.dataset.theme ?? (isDark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("blobpack-theme", root.dataset.theme);
    } catch {
      // it holds until the page is left
    }
  };
}

async function main() {
  const { blobs } = JSON.parse($("settings").textContent);
  followTheme();
  const wanted = new URLSearchParams(location.search).get("blob");
  const info = blobs.find(({ name }) => name === wanted) ?? blobs[0];
  if (!info) return showBanner("There are no blobs here.", "Load again");
  $("title").textContent = info.name;
  document.title = info.name;
  if (blobs.length > 1) {
    $("blobs").replaceChildren(...blobs.map(({ name }) => new Option(name, name, false, name === info.name)));
    $("blobs").hidden = false;
    $("title").classList.add("visually-hidden");
    $("blobs").onchange = () => {
      location.href = `${location.pathname}?${new URLSearchParams({ blob: $("blobs").value })}`;
    };
  }
  $("status").textContent = "Opening…";
  try {
    if (location.protocol === "file:") {
      throw new StorageError("A browser reads no blob from a page on disk: put both on a web server that answers ranges, such as nginx, or run `blobpack serve`.");
    }
    new Gallery(await open(new URL(info.url, document.baseURI).href), info).start();
  } catch (error) {
    console.error(error);
    $("status").textContent = "";
    showBanner(error.message, "Load again");
  }
}

main();
