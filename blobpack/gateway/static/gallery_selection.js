// The members that are selected, and what can be saved of them.
//
// Strategy: one bit for each member, so that a selection of millions is small. Names and offsets are read when they are
// saved: from the blocks of a few rows, or in one pass over the index for many.

import { offsetsFile } from "./gallery_offsets.js";
import { decodeName } from "./blobpack.js";

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

  // Returns {name, offsetStart, offsetEnd, blob} of all that are selected, in the order of the archive.
  async members(pictures, blob) {
    if (this.size <= FEW) return pictures.membersOf([...this]);
    const found = [];
    for await (const block of blob.scan()) {
      for (let at = 0; at < block.count; at += 1) {
        if (!this.has(block.firstRow + at)) continue;
        const name = decodeName(block.names.subarray(at ? block.nameEnds[at - 1] : 0, block.nameEnds[at]));
        const offsetStart = block.offsetStarts[at];
        found.push({ name, offsetStart, offsetEnd: offsetStart + block.sizes[at], blob: blobOf(blob, block.firstRow + at) });
      }
    }
    return found;
  }
}

function blobOf(blob, row) {
  return blob.blobs?.find(({ rowEnd }) => row < rowEnd)?.url ?? blob.url;
}

// Saves the offsets of members as `blobpack offsets` does: one file for each blob.
export function saveOffsets(members) {
  const blobs = new Map();
  for (const member of members) {
    if (!blobs.has(member.blob)) blobs.set(member.blob, []);
    blobs.get(member.blob).push(member);
  }
  for (const [url, some] of blobs) {
    const name = decodeURIComponent(new URL(url).pathname.split("/").at(-1));
    save(offsetsFile(some), `${name.replace(/(.)\.[^.]*$/, "$1")}_offsets.pkl`);
  }
}

// Saves the names of members, one on each line; returns how many can't stand on one line.
export function saveList(encodedNames) {
  const fit = encodedNames.filter((name) => !name.includes(10));
  save(fit.flatMap((name) => [name, "\n"]), "names.txt");
  return encodedNames.length - fit.length;
}

export function save(parts, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(parts, { type: "application/octet-stream" }));
  link.download = name;
  link.click();
  // the browser reads it when this task has ended
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
