// The large view of one member: the picture, its facts, and code that fetches exactly this member.

import { imageOf, pictureType, suffixOf } from "./gallery_pictures.js";
import { fileNameOf, snippetsOf, visible } from "./gallery_snippets.js";
import { save } from "./gallery_selection.js";

const BYTES_MAX = 64 << 20; // larger payloads are read only after a click
const TEXT_BYTES_MAX = 1 << 18;
const TEXTS = new Set(["txt", "json", "jsonl", "csv", "tsv", "xml", "md", "yaml", "yml", "toml", "ini", "cls", "log"]);
// a picture with sides of at most so many pixels is enlarged, and one with very few pixels is drawn without smoothing
const SMALL_PIXELS = 256;
const TINY_PIXELS = 96;

export const sizeText = (bytes) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 999.5 && unit < units.length - 1; unit += 1) bytes /= 1000;
  return `${unit && bytes < 99.5 ? bytes.toFixed(1) : Math.round(bytes).toLocaleString("en")} ${units[unit]}`;
};

const $ = (id) => document.getElementById(id);

export function element(tag, text, properties = {}) {
  const made = document.createElement(tag);
  made.textContent = text ?? "";
  return Object.assign(made, properties);
}

export class LargeView {
  // `on` has the functions that the buttons call.
  constructor(pictures, blobInfo, on) {
    this.pictures = pictures;
    this.blobInfo = blobInfo;
    this.dialog = $("large");
    this.tab = 0;
    $("large-close").onclick = () => this.close();
    $("previous").onclick = () => on.step(-1);
    $("next").onclick = () => on.step(1);
    $("large-select").onclick = () => on.select(this.member.row);
    $("large-link").onclick = () => on.copy(location.href, "Link copied");
    $("large-save").onclick = () => this.#save(on.fail);
    $("copy").onclick = () => on.copy($("snippet").textContent, "Copied");
    this.dialog.addEventListener("close", () => {
      // the event comes later than the closing: meanwhile, a click may have opened the next image
      if (this.isOpen) return;
      this.controller?.abort();
      $("stage").replaceChildren();
      this.member = null;
      on.close();
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  close() {
    if (this.isOpen) this.dialog.close();
  }

  show(member, isSelected) {
    this.controller?.abort();
    this.controller = new AbortController();
    this.member = member;
    $("large-name").textContent = visible(member.name);
    this.setSelected(isSelected);
    this.#facts("not read yet");
    this.#snippets();
    if (!this.dialog.open) this.dialog.showModal();
    if (member.size > BYTES_MAX) this.#ask();
    else this.#read(this.controller.signal);
  }

  setSelected(isSelected) {
    $("large-select").ariaPressed = isSelected;
    $("large-select").textContent = isSelected ? "Selected" : "Select";
  }

  async #read(signal) {
    const { member } = this;
    const isText = TEXTS.has(suffixOf(member.name)) && member.size <= TEXT_BYTES_MAX;
    const type = pictureType(member);
    if (!type && !isText) return this.#note(`Browsers can't show this type as a picture: ${kindOf(member)}.`);
    $("stage").replaceChildren();
    let bytes;
    try {
      bytes = await this.pictures.bytesOf(member, signal);
    } catch (error) {
      if (!signal.aborted) this.#note(error.message);
      return;
    }
    if (signal.aborted) return;
    this.#facts(member.crc32c === null ? "" : "checked");
    if (!type) return $("stage").replaceChildren(element("pre", new TextDecoder().decode(bytes), { tabIndex: 0 }));
    const image = imageOf(bytes, type, {
      onReady: () => {
        const side = Math.max(image.naturalWidth, image.naturalHeight);
        image.classList.toggle("small", side <= SMALL_PIXELS);
        image.classList.toggle("tiny", side <= TINY_PIXELS);
      },
      onBroken: () => !signal.aborted && this.#note("The browser can't decode this picture."),
    });
    image.alt = visible(member.name);
    $("stage").replaceChildren(image);
  }

  #ask() {
    const button = element("button", `Show ${sizeText(this.member.size)}`, { type: "button" });
    button.onclick = () => this.#read(this.controller.signal);
    this.#note("", button);
  }

  #note(text, ...more) {
    const note = element("div", "", { className: "note" });
    note.append(element("p", visible(this.member.name)), element("p", text), ...more);
    $("stage").replaceChildren(note);
  }

  #facts(crc) {
    const { member } = this;
    const rows = [
      ["Type", member.mediaType ?? `unknown${suffixOf(member.name) && ` (${visible(suffixOf(member.name))})`}`],
      ["Pixels", member.width && `${member.width} × ${member.height}`],
      ["Size", `${member.size.toLocaleString("en")} bytes`],
      ["Bytes", `${member.offsetStart.toLocaleString("en")} – ${member.offsetEnd.toLocaleString("en")}`, "end not included"],
      ["CRC-32C", member.crc32c !== null && member.crc32c.toString(16).padStart(8, "0"), crc],
      ["Modified", member.mtime && new Date(member.mtime * 1000).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC")],
      ["Row", member.row.toLocaleString("en")],
      ["Blob", visible(decodeURI(new URL(member.blob).pathname).split("/").at(-1))],
    ];
    const shown = rows.filter(([, value]) => value);
    $("facts").replaceChildren(
      ...shown.flatMap(([title, value, note]) => {
        const cell = element("dd", value);
        if (note) cell.append(" ", element("em", note));
        return [element("dt", title), cell];
      }),
    );
  }

  #snippets() {
    const isOwn = new URL(this.blobInfo.url).href === this.member.blob;
    const blob = isOwn ? this.blobInfo : { url: this.member.blob, s3: "", endpoint: "" };
    const snippets = snippetsOf(this.member, blob);
    this.tab = Math.min(this.tab, snippets.length - 1);
    const choose = (at, focus) => {
      this.tab = at;
      $("snippet").textContent = snippets[at][1];
      [...$("tabs").children].forEach((tab, i) => {
        tab.ariaSelected = i === at;
        tab.tabIndex = i === at ? 0 : -1;
        if (i === at && focus) tab.focus();
      });
    };
    $("tabs").replaceChildren(
      ...snippets.map(([title], at) => {
        const tab = element("button", title, { type: "button", role: "tab" });
        tab.setAttribute("aria-controls", "snippet");
        tab.onclick = () => choose(at);
        tab.onkeydown = (event) => {
          const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
          if (!move) return;
          event.stopPropagation();
          choose((at + move + snippets.length) % snippets.length, true);
        };
        return tab;
      }),
    );
    choose(this.tab);
  }

  async #save(fail) {
    const { member } = this;
    try {
      save([await this.pictures.bytesOf(member)], fileNameOf(member.name));
    } catch (error) {
      fail(error);
    }
  }
}

export function kindOf(member) {
  const type = member.mediaType?.replace(/^image\/(x-|vnd\.)?/, "").replace("svg+xml", "svg");
  return (type || visible(suffixOf(member.name)) || "file").toUpperCase();
}
