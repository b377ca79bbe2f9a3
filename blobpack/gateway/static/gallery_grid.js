// A grid of any number of members. Only the rows in view are in the document.
//
// Strategy: a scroll container holds one tall element. Browsers cap the height of an element (near 33 million pixels in
// Chromium and Safari, 17 million in Firefox), and a million members at phone width are taller. So the true position,
// `top`, is kept apart from the container's scrollTop. Small moves (wheel, keys, a finger) change both by the same number
// of pixels. Large jumps (the scroll bar) are mapped in proportion. When scrolling pauses, scrollTop is set to match `top`.

const HEIGHT_MAX = 8_000_000;
const PAUSE_MS = 120;
const ROWS_BESIDE = 1; // rows kept above and below the view
const CELLS_MAX = 330; // bounds the document's nodes on very large screens
const CAPTION_PX = 30;

export class Grid {
  // `scroller` is the container; `fill(cell, item)` fills a new cell; `onView(first, last)` is called when the items in
  // view have changed; `onMove(item)` when the active item has.
  constructor(scroller, { fill, onView, onMove }) {
    this.scroller = scroller;
    this.fill = fill;
    this.onView = onView;
    this.onMove = onMove;
    this.tall = scroller.firstElementChild;
    this.rows = new Map(); // number of a row → its element
    this.count = 0;
    this.active = 0;
    this.tile = 148;
    this.top = 0;
    this.scrollTop = 0;
    scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.resize()).observe(scroller);
  }

  // Shows another number of items; by default, from the first one on.
  show(count, { keep = false } = {}) {
    this.count = count;
    // the same places may hold other items now
    if (!keep) this.viewed = null;
    this.resize({ redraw: !keep });
    if (!keep) {
      this.setActive(0, { focus: false });
      this.#goTo(0);
    }
  }

  // Computes the layout anew, and keeps the first item in view where it is.
  resize({ redraw = false } = {}) {
    const { clientWidth: width, clientHeight: height } = this.scroller;
    if (!width || !height) return;
    const phone = width < 560;
    const first = this.columns ? Math.floor(this.top / this.rowHeight) * this.columns : 0;
    const within = this.columns ? this.top % this.rowHeight : 0;
    this.gap = phone ? 8 : 14;
    this.edge = phone ? 10 : 24;
    const inner = width - 2 * this.edge;
    const before = `${this.columns} ${this.tileWidth}`;
    let target = phone ? Math.min(this.tile, (inner - 2 * this.gap) / 3) : this.tile;
    for (;;) {
      this.columns = Math.max(1, Math.floor((inner + this.gap) / (target + this.gap)));
      this.tileWidth = Math.floor((inner + this.gap) / this.columns - this.gap);
      this.rowHeight = this.tileWidth + CAPTION_PX + this.gap;
      if ((height / this.rowHeight + 2 * ROWS_BESIDE + 1) * this.columns <= CELLS_MAX) break;
      target += 16;
    }
    this.height = height;
    this.rowCount = Math.ceil(this.count / this.columns);
    this.whole = this.rowCount * this.rowHeight + 2 * this.edge;
    this.tallHeight = Math.min(this.whole, HEIGHT_MAX);
    this.tall.style.height = `${this.tallHeight}px`;
    this.scroller.setAttribute("aria-rowcount", this.rowCount);
    this.scroller.setAttribute("aria-colcount", this.columns);
    if (redraw || before !== `${this.columns} ${this.tileWidth}`) {
      this.#clear();
      this.#goTo(Math.floor(first / this.columns) * this.rowHeight + (first ? within : this.top && within));
    }
    this.#draw();
  }

  // Makes an item the active one, and scrolls until it is in view.
  setActive(item, { focus = true } = {}) {
    this.#cell(this.active)?.classList.remove("active");
    this.active = Math.max(0, Math.min(this.count - 1, item));
    if (this.count) {
      const start = Math.floor(this.active / this.columns) * this.rowHeight + this.edge;
      if (start - this.edge < this.top) this.#goTo(start - this.edge);
      else if (start + this.rowHeight > this.top + this.height) {
        this.#goTo(start + this.rowHeight + this.edge - this.gap - this.height);
      }
      this.#cell(this.active)?.classList.add("active");
      this.scroller.setAttribute("aria-activedescendant", `item-${this.active}`);
    } else this.scroller.removeAttribute("aria-activedescendant");
    if (focus) this.scroller.focus({ preventScroll: true });
    this.onMove(this.active);
  }

  // Moves the active item; returns false if the key is not one that moves it.
  key(key) {
    const page = Math.max(1, Math.floor(this.height / this.rowHeight)) * this.columns;
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      PageUp: -page,
      PageDown: page,
      Home: -Infinity,
      End: Infinity,
    };
    if (!(key in steps)) return false;
    // if the active item was scrolled out of view, the move starts from an item in view
    const [first, last] = this.itemsInView;
    const isInView = this.active >= first && this.active < last;
    const wanted = (isInView ? this.active : first) + steps[key];
    // the last row may be short: down from the row above goes to its last item, up from the first row stays
    if (key === "ArrowUp" && wanted < 0) return true;
    this.setActive(wanted);
    return true;
  }

  // Calls a function with each item and cell in the document.
  forEach(use) {
    for (const row of this.rows.values()) for (const cell of row.children) use(cell.item, cell);
  }

  get tilePixels() {
    return this.tileWidth * devicePixelRatio;
  }

  #cell(item) {
    const row = this.rows.get(Math.floor(item / this.columns));
    return row?.children[item % this.columns];
  }

  // how far scrollTop and `top` can go
  get #scrollMax() {
    return Math.max(0, this.tallHeight - this.height);
  }

  get #topMax() {
    return Math.max(0, this.whole - this.height);
  }

  // At both ends, scrollTop and `top` move alike, so that the ends are reached smoothly; in between, in proportion.
  #mapped(from, fromMax, toMax) {
    const alike = Math.min(fromMax, toMax) / 40;
    if (fromMax === toMax || from <= alike) return from;
    if (from >= fromMax - alike) return toMax - (fromMax - from);
    return alike + ((from - alike) * (toMax - 2 * alike)) / (fromMax - 2 * alike);
  }

  #scrolled() {
    const { scrollTop } = this.scroller;
    const moved = scrollTop - this.scrollTop;
    if (moved === 0) return;
    this.scrollTop = scrollTop;
    const isJump = Math.abs(moved) > 2 * this.height;
    this.top =
      isJump || this.whole === this.tallHeight
        ? this.#mapped(scrollTop, this.#scrollMax, this.#topMax)
        : Math.max(0, Math.min(this.#topMax, this.top + moved));
    clearTimeout(this.pause);
    const isAtEnd = scrollTop <= this.height || scrollTop >= this.#scrollMax - this.height;
    if (isAtEnd) this.#align();
    else this.pause = setTimeout(() => this.#align(), PAUSE_MS);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.#draw();
    });
  }

  // Sets scrollTop to match `top`.
  #align() {
    const wanted = Math.round(this.#mapped(this.top, this.#topMax, this.#scrollMax));
    if (Math.abs(wanted - this.scroller.scrollTop) < 2) return;
    this.scroller.scrollTop = wanted;
    this.scrollTop = this.scroller.scrollTop;
    this.#draw();
  }

  #goTo(top) {
    this.top = Math.max(0, Math.min(this.#topMax, top));
    this.scroller.scrollTop = Math.round(this.#mapped(this.top, this.#topMax, this.#scrollMax));
    this.scrollTop = this.scroller.scrollTop;
    this.#draw();
  }

  #clear() {
    for (const row of this.rows.values()) row.remove();
    this.rows.clear();
  }

  #draw() {
    if (!this.rowHeight) return;
    const inView = [
      Math.max(0, Math.floor((this.top - this.edge) / this.rowHeight)),
      Math.min(this.rowCount, Math.ceil((this.top - this.edge + this.height) / this.rowHeight)),
    ];
    const first = Math.max(0, inView[0] - ROWS_BESIDE);
    const last = Math.min(this.rowCount, inView[1] + ROWS_BESIDE);
    for (const [number, row] of this.rows) {
      if (number >= first && number < last) continue;
      row.remove();
      this.rows.delete(number);
    }
    const shift = this.scrollTop - this.top;
    for (let number = first; number < last; number += 1) {
      let row = this.rows.get(number);
      // the last row grows while a search goes on
      if (row && row.children.length < Math.min(this.columns, this.count - number * this.columns)) {
        row.remove();
        row = null;
      }
      if (!row) {
        row = this.#newRow(number);
        this.rows.set(number, row);
        this.tall.append(row);
      }
      row.style.transform = `translateY(${this.edge + number * this.rowHeight + shift}px)`;
    }
    const items = [inView[0] * this.columns, Math.min(this.count, inView[1] * this.columns)];
    this.itemsInView = items;
    if (String(items) === this.viewed && this.viewedCount === this.count) return;
    this.viewed = String(items);
    this.viewedCount = this.count;
    this.onView(...items);
  }

  #newRow(number) {
    const row = document.createElement("div");
    row.className = "row";
    row.role = "row";
    row.ariaRowIndex = number + 1;
    row.style.height = `${this.tileWidth + CAPTION_PX}px`;
    row.style.gap = `${this.gap}px`;
    row.style.paddingInline = `${this.edge}px`;
    const first = number * this.columns;
    for (let item = first; item < Math.min(this.count, first + this.columns); item += 1) {
      const cell = document.createElement("div");
      cell.className = item === this.active ? "cell active" : "cell";
      cell.role = "gridcell";
      cell.id = `item-${item}`;
      cell.ariaColIndex = item - first + 1;
      cell.style.width = `${this.tileWidth}px`;
      cell.item = item;
      this.fill(cell, item);
      row.append(cell);
    }
    return row;
  }
}
