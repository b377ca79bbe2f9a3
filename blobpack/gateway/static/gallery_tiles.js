// The tiles in the grid: a picture, or text in its place, a name, and a mark for the selection.

import { element, kindOf, sizeText } from "./gallery_large.js";
import { TILE_BYTES_MAX, imageOf, pictureType } from "./gallery_pictures.js";
import { visible } from "./gallery_snippets.js";

const TINY_PIXELS = 96; // a picture with sides of at most so many pixels is drawn without smoothing
const numberText = (number) => number.toLocaleString("en");
const TEMPLATE = document.createElement("template");
TEMPLATE.innerHTML = '<div class="thumb"></div><div class="caption"></div><div class="mark" aria-hidden="true"><svg><use href="#icon-check"/></svg></div>';

export class Tiles {
  constructor(grid, pictures, selection) {
    this.grid = grid;
    this.pictures = pictures;
    this.selection = selection;
  }

  // Fills a new cell with the facts of its row that are known.
  fill(cell, row) {
    cell.row = row;
    cell.replaceChildren(TEMPLATE.content.cloneNode(true));
    cell.ariaSelected = this.selection.has(cell.row);
    const member = this.pictures.member(cell.row);
    cell.ariaLabel = member ? visible(member.name) : `Member ${numberText(cell.row + 1)}`;
    if (!member) return;
    this.#label(cell, member);
    const bytes = this.pictures.payload(cell.row);
    if (bytes) this.#paint(cell, member, bytes);
  }

  // Shows the name of a row.
  label(row, member) {
    this.#cellsOf(row, (cell) => this.#label(cell, member));
  }

  // Shows the picture of a row; instead of its bytes, there may be an Error.
  paint(row, bytes) {
    const member = this.pictures.member(row);
    if (member) this.#cellsOf(row, (cell) => this.#paint(cell, member, bytes));
  }

  // Shows which rows are selected.
  select() {
    this.grid.forEach((item, cell) => {
      cell.ariaSelected = this.selection.has(cell.row);
    });
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
}
