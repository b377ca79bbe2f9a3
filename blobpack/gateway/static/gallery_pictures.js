// The members in view: their facts, and the bytes of those that are pictures.
//
// Strategy: nothing is read during fast scrolling. When the view has rested for a moment, one call reads the facts of its
// rows, and as few GETs as possible read the payloads. Both stay in memory up to a limit; the least recently used are
// evicted first.

import { BlobChangedError } from "./blobpack.js";

const REST_MS = 60;
const KEPT_BYTES_MAX = 48 << 20;
const KEPT_MEMBERS_MAX = 4096;
const BATCH_BYTES_MAX = 8 << 20;
const PAINTED_AT_ONCE = 24; // in one task, so that scrolling stays smooth
export const TILE_BYTES_MAX = 16 << 20; // larger pictures are shown only in the large view

// types that at least one browser shows as pictures
const SHOWN = new Set(["jpeg", "png", "gif", "webp", "bmp", "avif", "svg+xml", "tiff", "heif", "jxl", "jp2"].map((kind) => `image/${kind}`));
const BY_SUFFIX = {
  jpg: "jpeg", jpeg: "jpeg", jpe: "jpeg", jfif: "jpeg", png: "png", apng: "png", gif: "gif", webp: "webp", bmp: "bmp",
  avif: "avif", svg: "svg+xml", tif: "tiff", tiff: "tiff", heic: "heif", heif: "heif", jxl: "jxl", jp2: "jp2", ico: "x-icon",
};

// Returns the media type of a member if a browser may show it as a picture; else "". If the index has no type for the
// member, the type comes from the name's suffix.
export function pictureType(member) {
  const type = member.mediaType ?? "";
  if (type) return SHOWN.has(type) ? type : "";
  const kind = BY_SUFFIX[suffixOf(member.name)];
  return kind && member.size ? `image/${kind}` : "";
}

export function suffixOf(name) {
  return /\.([^./]{1,12})$/.exec(name)?.[1].toLowerCase() ?? "";
}

// Makes an <img> of bytes. Its object URL is revoked as soon as the browser has read it.
export function imageOf(bytes, type, { onReady, onBroken }) {
  const image = new Image();
  image.decoding = "async";
  image.draggable = false;
  const url = URL.createObjectURL(new Blob([bytes], { type }));
  image.onload = () => {
    URL.revokeObjectURL(url);
    onReady(image);
  };
  image.onerror = () => {
    URL.revokeObjectURL(url);
    onBroken(image);
  };
  image.src = url;
  return image;
}

export class Pictures {
  // `onKnown(row, member)` is called when the facts of a row in view are known, `onBytes(row, bytes)` when its payload is;
  // instead of bytes, it may get an Error. `onFailure(error)` is called when the view can't be read.
  constructor(blob, { onKnown, onBytes, onFailure }) {
    this.blob = blob;
    this.onKnown = onKnown;
    this.onBytes = onBytes;
    this.onFailure = onFailure;
    this.members = new Map(); // row → member
    this.payloads = new Map(); // row → bytes or Error
    this.bytes = 0;
    this.reads = new Set(); // {rows, controller} of those under way
  }

  member(row) {
    return touched(this.members, row);
  }

  payload(row) {
    return touched(this.payloads, row);
  }

  // Reads what is in view, once it rests.
  view(rows) {
    clearTimeout(this.timer);
    this.wanted = rows;
    this.timer = setTimeout(() => this.#load(rows), REST_MS);
  }

  // Returns the members of ascending rows.
  async membersOf(rows, signal) {
    const missing = rows.filter((row) => !this.members.has(row));
    for (const [first, last] of runsOf(missing)) {
      for (const member of await this.blob.rows(first, last, { signal })) this.#keepMember(member);
    }
    return rows.map((row) => this.members.get(row)).filter(Boolean);
  }

  // Returns the bytes of one member.
  async bytesOf(member, signal) {
    const kept = this.payload(member.row);
    if (kept && !(kept instanceof Error)) return kept;
    const [[, bytes]] = await this.blob.readMany([member], { signal });
    this.#keepPayload(member.row, bytes);
    if (bytes instanceof Error) throw bytes;
    return bytes;
  }

  async #load(rows) {
    for (const read of this.reads) {
      if (!rows.some((row) => read.rows.has(row))) read.controller.abort();
    }
    const controller = new AbortController();
    const read = { rows: new Set(rows), controller };
    this.reads.add(read);
    try {
      const members = await this.membersOf(rows, controller.signal);
      for (const member of members) {
        this.onKnown(member.row, member);
        const kept = this.payloads.get(member.row);
        if (kept) this.onBytes(member.row, kept);
      }
      for (const batch of this.#batchesOf(members, read)) {
        if (controller.signal.aborted) return;
        const payloads = await this.#readBatch(batch, controller.signal);
        for (const [member, bytes] of payloads) this.#keepPayload(member.row, bytes);
        for (let at = 0; at < payloads.length; at += PAINTED_AT_ONCE) {
          for (const [member, bytes] of payloads.slice(at, at + PAINTED_AT_ONCE)) this.onBytes(member.row, bytes);
          await new Promise(setTimeout);
        }
      }
    } catch (error) {
      if (!controller.signal.aborted) this.onFailure(error);
    } finally {
      this.reads.delete(read);
    }
  }

  // Cuts the pictures that are missing into batches of a bounded size.
  #batchesOf(members, own) {
    const reads = [...this.reads];
    const earlier = reads.slice(0, reads.indexOf(own)).filter((read) => !read.controller.signal.aborted);
    const batches = [];
    let bytes = Infinity;
    for (const member of members) {
      if (this.payloads.has(member.row) || !pictureType(member) || member.size > TILE_BYTES_MAX) continue;
      // that read brings it
      if (earlier.some((read) => read.rows.has(member.row))) continue;
      if (bytes + member.size > BATCH_BYTES_MAX) {
        batches.push([]);
        bytes = 0;
      }
      batches.at(-1).push(member.row);
      bytes += member.size;
    }
    return batches;
  }

  #readBatch(rows, signal) {
    const [first, last] = [rows[0], rows.at(-1) + 1];
    if (last - first === rows.length) return this.blob.screen(first, last, { signal });
    return this.blob.readMany(rows, { signal });
  }

  #keepMember(member) {
    this.members.set(member.row, member);
    dropOldest(this.members, () => this.members.size > KEPT_MEMBERS_MAX);
  }

  #keepPayload(row, bytes) {
    if (bytes instanceof BlobChangedError) this.onFailure(bytes);
    if (bytes.length > TILE_BYTES_MAX) return;
    this.bytes += (bytes.length ?? 0) - (this.payloads.get(row)?.length ?? 0);
    this.payloads.set(row, bytes);
    dropOldest(this.payloads, (dropped) => {
      this.bytes -= dropped?.length ?? 0;
      return this.bytes > KEPT_BYTES_MAX;
    });
  }
}

// Removes the oldest entries of a Map while a condition holds. The condition is called with the value removed last.
function dropOldest(map, isTooMuch) {
  let dropped;
  while (isTooMuch(dropped) && map.size > 1) {
    const [[key, value]] = map;
    map.delete(key);
    dropped = value;
  }
}

// Returns the value of a key, and makes it the most recently used.
function touched(map, key) {
  const value = map.get(key);
  if (value !== undefined) {
    map.delete(key);
    map.set(key, value);
  }
  return value;
}

// Cuts ascending rows into runs of neighbours: [first, one past the last].
export function runsOf(rows) {
  const runs = [];
  for (const row of rows) {
    const run = runs.at(-1);
    if (run?.[1] === row) run[1] += 1;
    else runs.push([row, row + 1]);
  }
  return runs;
}
