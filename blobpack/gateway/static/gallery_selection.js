// The selected members, and the files that can be saved of them.
//
// Strategy: one bit for each member, so that a selection of millions is small. Names and offsets are read only when they
// are saved. For a few rows, the blocks of these rows are read. For many, the whole index is read, batch by batch.

import { encodeName } from "./blobpack.js";
import { BATCH_ROWS, offsetsFile } from "./gallery_offsets.js";

const FEW = 4096;

export class Selection {
  constructor(count, onChange) {
    this.bits = new Uint8Array(Math.ceil(count / 8));
    this.size = 0;
    this.onChange = onChange;
  }

  has(row) {
    return (this.bits[row >> 3] & (1 << (row & 7))) !== 0;
  }

  set(rows, wanted) {
    for (const row of rows) {
      if (this.has(row) === wanted) continue;
      this.bits[row >> 3] ^= 1 << (row & 7);
      this.size += wanted ? 1 : -1;
    }
    this.onChange();
  }

  toggle(row) {
    this.set([row], !this.has(row));
  }

  clear() {
    this.bits.fill(0);
    this.size = 0;
    this.onChange();
  }

  *[Symbol.iterator]() {
    for (let byte = 0; byte < this.bits.length; byte += 1) {
      for (let bit = 0; this.bits[byte] >> bit; bit += 1) {
        if (this.bits[byte] & (1 << bit)) yield byte * 8 + bit;
      }
    }
  }

  // Yields arrays of {name, offsetStart, offsetEnd, blob} of all that are selected, in the order of the archive.
  async *members(pictures, blob) {
    if (this.size <= FEW) {
      yield await pictures.membersOf([...this]);
      return;
    }
    const { blobs } = blob;
    for await (const block of blob.scan()) {
      const found = [];
      // computed when it is asked for
      const { offsetStarts } = block;
      for (let at = 0; at < block.count; at += 1) {
        const row = block.firstRow + at;
        if (!this.has(row)) continue;
        const offsetStart = offsetStarts[at];
        const { url } = blobs.find(({ rowEnd }) => row < rowEnd);
        found.push({ name: block.name(at), offsetStart, offsetEnd: offsetStart + block.sizes[at], blob: url });
      }
      yield found;
    }
  }
}

// Saves the offsets of members as `blobpack offsets` does: one file for each blob. `batches` yields arrays of members.
export async function saveOffsets(batches) {
  const blobs = new Map(); // URL → {parts, waiting}
  for await (const members of batches) {
    for (const member of members) {
      if (!blobs.has(member.blob)) blobs.set(member.blob, { parts: [], waiting: [] });
      const file = blobs.get(member.blob);
      file.waiting.push(member);
      if (file.waiting.length === BATCH_ROWS) file.parts.push(...offsetsFile(file.waiting.splice(0)));
    }
  }
  for (const [url, { parts, waiting }] of blobs) {
    const name = decodeURIComponent(new URL(url).pathname.split("/").at(-1));
    save([...parts, ...offsetsFile(waiting)], `${name.replace(/(.)\.[^.]*$/, "$1")}_offsets.pkl`);
  }
}

// Saves the names of members, one on each line; returns the number of names that were left out because of a line break.
export async function saveList(batches) {
  const parts = [];
  let left = 0;
  for await (const members of batches) {
    const fit = members.filter(({ name }) => !name.includes("\n"));
    left += members.length - fit.length;
    parts.push(new Blob(fit.flatMap(({ name }) => [encodeName(name), "\n"])));
  }
  save(parts, "names.txt");
  return left;
}

export function save(parts, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  // the browser reads it when this task has ended
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
