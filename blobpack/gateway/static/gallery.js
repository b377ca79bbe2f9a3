// The gallery: opens a blob, and ties search, grid, large view, selection and the address together.
//
// Strategy: the address holds the search, the filters and the open member, so every view can be bookmarked and shared.
// All text from a blob, such as a name, is set by textContent. Pictures are shown only in <img>.

import { open, BlobChangedError, FactsMissingError, StorageError } from "./blobpack.js";
import { Grid } from "./gallery_grid.js";
import { Input } from "./gallery_input.js";
import { LargeView, element, sizeText } from "./gallery_large.js";
import { copy, followTheme, showBanner, toast } from "./gallery_messages.js";
import { Pictures } from "./gallery_pictures.js";
import { LIMITS, countOfFilters, fromParams, isEmpty, parseSize, queryOf, search, toParams } from "./gallery_query.js";
import { Selection, saveList, saveOffsets } from "./gallery_selection.js";
import { NAMES_IN_COMMAND, subsetOfNames, subsetOfSearch, visible } from "./gallery_snippets.js";
import { Tiles } from "./gallery_tiles.js";

const TYPING_MS = 180;
const TILES = [96, 120, 148, 184, 232, 300];
const $ = (id) => document.getElementById(id);
const numberText = (number) => number.toLocaleString("en");
const isImageIn = (hash) => /[#&](image|row)=/.test(hash);

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
      onBytes: (row, bytes) => this.tiles.paint(row, bytes),
      onFailure: (error) => this.fail(error),
    });
    this.grid = new Grid($("grid"), {
      fill: (cell, item) => this.tiles.fill(cell, this.rowOf(item)),
      onView: (first, last) => this.#view(first, last),
      onMove: (item) => this.#moved(item),
    });
    this.tiles = new Tiles(this.grid, this.pictures, this.selection);
    this.large = new LargeView(this.pictures, this.info, {
      step: (by) => this.step(by),
      select: (row) => this.selection.toggle(row),
      copy,
      fail: (error) => this.fail(error),
      close: () => this.#closed(),
    });
  }

  start() {
    const { blob } = this;
    this.grid.show(blob.length);
    new Input(this).listen();
    this.#showStatus();
    addEventListener("hashchange", () => this.#addressChanged());
    this.#readAddress();
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

  #known(row, member) {
    if (member.mediaType && !this.types.has(member.mediaType)) {
      this.types.add(member.mediaType);
      this.#showTypes();
    }
    this.tiles.label(row, member);
  }

  #moved(item) {
    this.active = item;
  }

  // ---- the address

  #addressChanged() {
    if (!this.isGoingBack) return this.#readAddress();
    this.isGoingBack = false;
    return this.#writeAddress();
  }

  #readAddress() {
    const params = new URLSearchParams(location.hash.slice(1));
    const query = fromParams(params);
    $("search").value = query.text;
    for (const name of LIMITS) $("filters").elements[name].value = query.limits[name] ?? "";
    for (const type of query.types) this.types.add(type);
    if (String(toParams(query)) !== String(toParams(this.query))) this.find(query);
    this.#showTypes();
    if (countOfFilters(query)) this.openFilters(true);
    const name = params.get("image");
    const row = /^\d+$/.test(params.get("row") ?? "") ? Number(params.get("row")) : -1;
    if (name !== null || row >= 0) return this.#open(() => this.#memberOf(name, row));
    this.opening = null;
    return this.large.close();
  }

  async #memberOf(name, row) {
    const [member] = row >= 0 && row < this.blob.length ? await this.pictures.membersOf([row]) : [];
    // several members may have one name, so the row counts; if the blob was packed again since, the name counts
    return name === null || member?.name === name ? member : this.blob.find(name);
  }

  // Writes the query and the open member into the address.
  #writeAddress() {
    // the address still is the one that is left; when the browser has gone back, this is called again
    if (this.isGoingBack) return;
    const params = toParams(this.query);
    const { member } = this.large;
    // a name with bytes that are not UTF-8 can't stand in a URL
    if (member && !/\p{Surrogate}/u.test(member.name)) params.set("image", member.name);
    if (member) params.set("row", member.row);
    const hash = String(params) && `#${params}`;
    if (hash === location.hash) return;
    // the browser's Back closes what a click has opened
    if (member && !isImageIn(location.hash)) history.pushState({ isOpened: true }, "", hash);
    else history.replaceState(history.state, "", hash || "#");
  }

  // ---- search and filters

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
      // the images found before stay until there are new ones to show
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
    again.onclick = () => this.clearQuery();
    $("empty").replaceChildren(
      element("h2", isAll ? "This blob has no members" : `Nothing found${this.query.text ? ` for “${visible(this.query.text)}”` : ""}`),
      ...(isAll ? [] : [element("p", "A word finds the names that contain it. With * or ?, the whole name must match."), again]),
    );
  }

  clearQuery() {
    $("search").value = "";
    $("filters").reset();
    this.#navigate(queryOf(""));
  }

  typed() {
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

  clearFilters() {
    this.#navigate(this.#queryOfFields([]));
  }

  // Searches, and writes the query into the address.
  #navigate(query) {
    if (String(toParams(query)) === String(toParams(this.query))) return;
    this.find(query);
    this.#writeAddress();
    this.#showTypes();
  }

  #showTypes() {
    const facts = new Set(this.blob.facts);
    const missing = ["mediaType", "width", "height"].filter((fact) => !facts.has(fact));
    $("no-facts").hidden = !missing.length;
    $("no-facts").textContent = "The index does not have all of these facts; `blobpack index --facts` adds them.";
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
    $("types").replaceChildren(...(chips.length ? chips : [element("span", "unknown")]));
    for (const name of LIMITS.slice(2)) $("filters").elements[name].disabled = missing.length > 0;
  }

  openFilters(isOpen) {
    $("filters").hidden = !isOpen;
    $("filter-button").ariaExpanded = isOpen;
  }

  // ---- large view

  openItem(item) {
    // a step that follows at once starts here
    this.item = item;
    return this.#open(async () => (await this.pictures.membersOf([this.rowOf(item)]))[0]);
  }

  // Shows the member that a function finds, unless meanwhile another one was asked for, or this one was closed.
  async #open(find) {
    this.opening = find;
    const wasOpen = this.large.isOpen;
    try {
      const member = await find();
      const isWanted = this.opening === find && (this.large.isOpen || !wasOpen);
      if (member && isWanted) this.#showLarge(member);
    } catch (error) {
      this.fail(error);
    }
  }

  #showLarge(member) {
    this.large.show(member, this.selection.has(member.row));
    this.#showPlace(this.#itemOf(member.row));
    this.#writeAddress();
  }

  // Shows the number of the large member among those found.
  #showPlace(item) {
    this.item = item;
    if (item >= 0) this.grid.setActive(item, { focus: false });
    const count = numberText(this.found ? this.found.length : this.blob.length);
    $("large-place").textContent = item >= 0 ? `${numberText(item + 1)} of ${count}` : "not among the images found";
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
    if (isImageIn(location.hash) && history.state?.isOpened && !this.isGoingBack) {
      // the browser goes back later; until then, a click may open another image
      this.isGoingBack = true;
      history.back();
    } else this.#writeAddress();
    $("grid").focus({ preventScroll: true });
  }

  // ---- selection

  #selectionChanged() {
    const { size } = this.selection;
    $("selection").hidden = size === 0;
    $("selected").textContent = `${numberText(size)} selected`;
    $("grid").classList.toggle("selecting", size > 0);
    this.tiles.select();
    if (this.large.member) this.large.setSelected(this.selection.has(this.large.member.row));
  }

  *rowsOf(first, last) {
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

  saveOffsets() {
    this.#withSelected(saveOffsets);
  }

  saveList() {
    this.#withSelected(async (batches) => {
      const left = await saveList(batches);
      if (left) toast(`Left out of the list, because of a line break in the name: ${numberText(left)}`);
    });
  }

  showSubset() {
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

  resize(by) {
    const at = Math.max(0, Math.min(TILES.length - 1, TILES.indexOf(this.grid.tile) + by));
    this.grid.tile = TILES[at];
    this.grid.resize();
  }

  // ---- messages

  fail(error) {
    console.error(error);
    // once the blob is replaced, no other error matters
    if (error instanceof BlobChangedError) this.isGone = true;
    if (this.isGone) return showBanner("This blob was replaced since it was opened.", "Load again");
    if (error instanceof FactsMissingError) return toast(error.message);
    showBanner(error.message, "Try again", () => {
      $("banner").hidden = true;
      this.pictures.view(this.pictures.wanted);
    });
  }
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
      throw new StorageError("A page that is opened from the disk can't read a blob. Put the page and the blob on a web server that answers ranges, such as nginx, or run `blobpack serve`.");
    }
    const url = new URL(info.url, document.baseURI).href;
    new Gallery(await open(url, { size: info.size }), info).start();
  } catch (error) {
    console.error(error);
    $("status").textContent = "";
    showBanner(error.message, "Load again");
  }
}

main();
