/**
 * Reads members of blobpack's blobs and collections directly from a web server or bucket.
 *
 * Strategy: the index lies in the blob, behind the tar, or beside the blob. One HEAD and one read of the last 128 KiB
 * bring the footer, the directory and the guide of a few million members; a right guess of the size makes the HEAD
 * needless. One read checks that the index fits the archive. To read a member by name, two more are needed: the block
 * that holds the name, and the payload. Neighbours come in one GET. A pass over all members reads
 * megabytes of blocks at a time, and pauses between blocks, so that a page stays responsive. This code follows
 * docs/format.md, which describes every byte.
 *
 * Wrong bytes are never returned: all answers must have the ETag of the first one, every part of the index has a
 * checksum, and each payload is compared with its CRC-32C. If-Match and `bytes=-n` would cost a preflight, so only
 * HEAD and `Range: bytes=a-b` are sent.
 * Browsers: Chrome 120, Firefox 124, Safari 17.4, or later. Node: 20 or later.
 */

const ROWS = 1024; // in a block
const PAGE_BYTES = 4096;
const PAGE_POSITIONS = 511;
const FOOTER_BYTES = 512;
const HEADER_BYTES = 512; // of the tar member that holds an index inside a blob
const BLOCK_HEADER_BYTES = 48;
const TAIL_BYTES = 128 << 10;
const KEPT_BYTES_MAX = 64 << 20; // of blocks and pages: about two million members
const GAP_BYTES_MAX = 64 << 10;
const READ_BYTES_MAX = 16 << 20; // of one GET that brings several payloads
const SCAN_BYTES_MAX = 2 << 20; // of one GET that brings several blocks
// A hostile index may claim any size. The largest part of a real one is a block of 1,024 names, or a list of blobs.
const PART_BYTES_MAX = 256 << 20;
const GUIDE_BYTES_MAX = 4 + (256 << 10);
const STALL_MS = 60_000;
const TASK_MS_MAX = 4; // a pass over many members lets the page draw this often
const RETRY_MS = 250;
const RETRY_AFTER_MS_MAX = 30_000;
const FACTS = ["mediaType", "width", "height", "crc32c", "mtime"];
const MAGIC = "BLOBIDX\n";
const APPEND_MARK = "blobpack: an append is at work here";
const EXPOSE = "expose ETag, Content-Length and Content-Range in the CORS rule of the server or bucket";

/** Media types by their codes in the index; "" is unknown. */
export const mediaTypes = Object.freeze(
  ` jpeg png gif webp bmp tiff avif heif jxl jp2 x-portable-anymap qoi x-exr vnd.radiance
  vnd.adobe.photoshop x-nrrd svg+xml`.split(/\s+/).map((name) => name && `image/${name}`),
);

/**
 * @typedef {object} Member One file in a blob.
 * @property {string} name Bytes that are not UTF-8 stand as lone surrogates U+DC80 to U+DCFF, as in Python.
 * @property {number} row Its place in the index, counted from 0.
 * @property {number} offsetStart The payload's first byte in its blob.
 * @property {number} offsetEnd One past the payload's last byte.
 * @property {number} size Bytes of the payload.
 * @property {string | null} mediaType Such as "image/png"; null if unknown.
 * @property {number | null} width Pixels as shown; null if unknown.
 * @property {number | null} height Pixels as shown; null if unknown.
 * @property {number | null} crc32c Checksum of the payload; null if the index has none.
 * @property {number | null} mtime Seconds since 1970 UTC; null if unknown.
 * @property {string} blob URL of the blob that holds it.
 */

/**
 * @typedef {object} Options
 * @property {string} [index] URL of the index file, if it is not inside the blob or beside it as `<blob>.idx`.
 * @property {number} [size] Bytes of the blob, as far as they are known. The right number saves a request; a wrong one
 *   does no harm.
 * @property {string[]} [allow] Places, beside its own folder, from which a collection's blobs may be read: URLs of
 *   hosts or folders.
 * @property {AbortSignal} [signal] Ends the opening.
 * @property {number} [requestsAtOnce] Most requests at a time; 6.
 * @property {number} [retries] How often a request is repeated after a failure that may pass; 4.
 * @property {number} [stallMs] A request of whose answer nothing has come for so many milliseconds is repeated; 60,000.
 * @property {RequestCredentials} [credentials] Whether cookies are sent; as fetch, only to the page's own origin.
 * @property {typeof fetch} [fetch] Sends the requests, in place of the global fetch.
 */

// ---- Errors: named as blobpack's in Python

/** Any failure that is not a wrong argument. Its `name` is the name of its class. */
export class BlobpackError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}
/** The bytes are no blob or collection that can be read here. */
export class FormatError extends BlobpackError {}
/** Bytes don't match their checksum. */
export class ChecksumError extends FormatError {}
/** The index belongs to another state of the blob. */
export class StaleIndexError extends BlobpackError {}
/** The tar has no index inside or beside it. */
export class MissingIndexError extends BlobpackError {}
/** There is no member with that name. */
export class MemberNotFoundError extends BlobpackError {}
/** A filter needs a fact that the index does not have. */
export class FactsMissingError extends BlobpackError {}
/** A collection names a blob outside of its folder and of the places that are allowed. */
export class UnsafeNameError extends BlobpackError {}
/** The server could not be reached, or its answer is wrong; `status` is the HTTP status, if there was an answer. */
export class StorageError extends BlobpackError {
  constructor(message, { status, ...options } = {}) {
    super(message, options);
    this.status = status;
  }
}
/** There is no such blob. */
export class BlobNotFoundError extends StorageError {}
/** The blob was replaced since it was opened. */
export class BlobChangedError extends StorageError {}

// a failure that may pass: the request is repeated
class Fault extends StorageError {
  constructor(message, options) {
    super(message, options);
    this.name = "StorageError";
    this.retryAfterMs = options?.retryAfterMs ?? 0;
  }
}

// ---- Bytes, names and globs

const CRC_TABLES = Array.from({ length: 8 }, () => new Int32Array(256));
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  CRC_TABLES[0][byte] = crc;
}
for (let byte = 0; byte < 256; byte++) {
  for (let table = 1; table < 8; table++) {
    const before = CRC_TABLES[table - 1][byte];
    CRC_TABLES[table][byte] = (before >>> 8) ^ CRC_TABLES[0][before & 255];
  }
}

/** Compute the CRC-32C of bytes; `before` is the checksum of the bytes before them. */
export function crc32c(bytes, before = 0) {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = CRC_TABLES;
  let crc = ~before;
  let at = 0;
  // eight bytes at a time ("slicing by 8") take a quarter of the time of one at a time
  for (; at + 8 <= bytes.length; at += 8) {
    crc ^= bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    crc = t7[crc & 255] ^ t6[(crc >>> 8) & 255] ^ t5[(crc >>> 16) & 255] ^ t4[crc >>> 24]
      ^ t3[bytes[at + 4]] ^ t2[bytes[at + 5]] ^ t1[bytes[at + 6]] ^ t0[bytes[at + 7]];
  }
  for (; at < bytes.length; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]) & 255];
  return ~crc >>> 0;
}

const viewOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const ascii = (bytes) => String.fromCharCode(...bytes);

function u64(view, at) {
  const high = view.getUint32(at + 4, true);
  if (high >= 1 << 21) throw new FormatError("a number in the index is 2⁵³ or more: JavaScript can't count that far");
  return high * 2 ** 32 + view.getUint32(at, true);
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Return a name as a string; bytes that are not UTF-8 become U+DC80 to U+DCFF (PEP 383). */
export function decodeName(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    let name = "";
    for (let at = 0; at < bytes.length; ) {
      const [point, size] = decodeChar(bytes, at, bytes.length);
      name += String.fromCodePoint(point);
      at += size;
    }
    return name;
  }
}

/** Return the bytes of a name: the opposite of decodeName. */
export function encodeName(name) {
  if (name.isWellFormed?.() ?? !/\p{Surrogate}/u.test(name)) return new TextEncoder().encode(name);
  return Uint8Array.from([...name].flatMap((char) => {
    const point = char.codePointAt(0);
    if (point >= 0xdc80 && point < 0xdd00) return [point & 0xff];
    // names hold no other surrogates; Python encodes one as these bytes
    if (point >= 0xd800 && point < 0xe000) return [0xed, 0x80 | ((point >> 6) & 63), 0x80 | (point & 63)];
    return [...new TextEncoder().encode(char)];
  }));
}

// RFC 3629: the code point at a place, and its bytes
function decodeChar(bytes, at, end) {
  const first = bytes[at];
  if (first < 0x80) return [first, 1];
  const size = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first >= 0xc2 && first < 0xf5 && at + size <= end) {
    let point = first & (0x7f >> size);
    let next = at + 1;
    while (next < at + size && (bytes[next] & 0xc0) === 0x80) point = (point << 6) | (bytes[next++] & 63);
    const least = size === 4 ? 0x10000 : size === 3 ? 0x800 : 0x80;
    const isSurrogate = point >= 0xd800 && point < 0xe000;
    if (next === at + size && point >= least && point < 0x110000 && !isSurrogate) return [point, size];
  }
  return [0xdc00 | first, 1];
}

function compareBytes(one, other) {
  const shared = Math.min(one.length, other.length);
  for (let at = 0; at < shared; at++) if (one[at] !== other[at]) return one[at] - other[at];
  return one.length - other.length;
}

// the first place in an ascending list where a condition holds; it must then hold for all later places
function firstPlace(count, holds) {
  let low = 0;
  for (let high = count; low < high; ) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}

// A glob as tokens: bytes, "?", "*", or a set of ranges of code points.
function parseGlob(glob) {
  const chars = [...glob];
  const tokens = [];
  for (let at = 0; at < chars.length; at++) {
    const char = chars[at];
    const last = tokens.at(-1);
    const setEnd = char === "[" ? chars.indexOf("]", at + (chars[at + 1] === "!" ? 3 : 2)) : -1;
    if (char === "*") last === "*" || tokens.push("*");
    else if (char === "?") tokens.push("?");
    else if (setEnd > 0) {
      tokens.push(parseSet(chars.slice(at + 1, setEnd)));
      at = setEnd;
    } else if (Array.isArray(last)) last.push(...encodeName(char));
    else tokens.push([...encodeName(char)]);
  }
  return tokens;
}

function parseSet(chars) {
  const negated = chars[0] === "!";
  const ranges = [];
  for (let at = negated ? 1 : 0; at < chars.length; at++) {
    const isRange = at + 2 < chars.length && chars[at + 1] === "-";
    ranges.push([chars[at].codePointAt(0), chars[isRange ? at + 2 : at].codePointAt(0)]);
    if (isRange) at += 2;
  }
  return { has: (point) => ranges.some(([first, last]) => first <= point && point <= last) !== negated };
}

// number of bytes that a token other than a star matches at a place; -1 if it does not match
function step(token, bytes, at, end) {
  if (Array.isArray(token)) {
    if (token.length > end - at) return -1;
    for (let i = 0; i < token.length; i++) if (token[i] !== bytes[at + i]) return -1;
    return token.length;
  }
  if (at === end) return -1;
  const [point, size] = decodeChar(bytes, at, end);
  return token === "?" || token.has(point) ? size : -1;
}

/**
 * Compile a glob of blobpack's `select`: `*` (also matches "/"), `?`, `[seq]`, `[!seq]`. It must match the whole name.
 * @param {string} glob
 * @returns {(name: string | Uint8Array, start?: number, end?: number) => boolean} The name is a string, or the bytes
 *   from start to end of an array.
 */
export function globMatcher(glob) {
  const tokens = parseGlob(glob);
  const last = tokens.at(-1);
  return (name, start = 0, end = undefined) => {
    const bytes = typeof name === "string" ? encodeName(name) : name;
    const stop = end ?? bytes.length;
    // for most globs, the end of the name decides
    if (Array.isArray(last) && (last.length > stop - start || step(last, bytes, stop - last.length, stop) < 0)) {
      return false;
    }
    return walk(tokens, bytes, start, stop);
  };
}

// Only the last star is tried again: trying an earlier star again can't find another match.
function walk(tokens, bytes, at, end) {
  let token = 0;
  let star = -1;
  let starAt = 0;
  for (;;) {
    if (tokens[token] === "*") {
      star = token++;
      starAt = at;
      if (token === tokens.length) return true;
      continue;
    }
    if (token === tokens.length && at === end) return true;
    const took = token < tokens.length ? step(tokens[token], bytes, at, end) : -1;
    if (took >= 0) {
      at += took;
      token++;
      continue;
    }
    if (star < 0 || starAt === end) return false;
    starAt += bytes[starAt] < 0x80 ? 1 : decodeChar(bytes, starAt, end)[1];
    at = starAt;
    token = star + 1;
  }
}

// ---- Requests: one queue, retries, and checks of answers

function unlessAborted(promise, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Lets other tasks run. A timer would wait 4 ms or more, and scheduler.yield would go before timers and answers.
function pause() {
  return new Promise((resolve) => {
    if (globalThis.setImmediate) return setImmediate(resolve); // Node
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(port1.close());
    return port2.postMessage(null);
  });
}

let pausedAt = 0;

// Pauses if the code before it has run for long: a pass over many members calls it often.
async function pace() {
  if (performance.now() - pausedAt < TASK_MS_MAX) return;
  await pause();
  pausedAt = performance.now();
}

class Queue {
  #free;
  #waiting = [];

  constructor({ requestsAtOnce = 6, retries = 4, stallMs = STALL_MS, credentials, fetch }) {
    this.#free = requestsAtOnce;
    Object.assign(this, { retries, stallMs, credentials, fetch: fetch ?? globalThis.fetch.bind(globalThis) });
  }

  // Sends a request when its turn comes, and passes the answer to `take`. Repeats both after a Fault.
  async send(url, init, signal, take) {
    for (let failed = 0; ; failed++) {
      await this.#turn(signal);
      let fault;
      try {
        return await this.#once(url, init, signal, take);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (!(error instanceof Fault) || failed === this.retries) throw error;
        fault = error;
      } finally {
        this.#next();
      }
      const backoff = RETRY_MS * 2 ** failed * (0.5 + Math.random());
      await unlessAborted(wait(Math.max(backoff, Math.min(fault.retryAfterMs, RETRY_AFTER_MS_MAX))), signal);
    }
  }

  async #once(url, init, signal, take) {
    const stall = new AbortController();
    let timer;
    const progress = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stall.abort(), this.stallMs);
    };
    try {
      progress();
      return await this.#ask(url, init, AbortSignal.any([signal, stall.signal]), (answer) => take(answer, progress));
    } catch (error) {
      if (!stall.signal.aborted || signal.aborted) throw error;
      throw new Fault(`${url}: nothing came for ${this.stallMs / 1000} seconds`);
    } finally {
      clearTimeout(timer);
    }
  }

  async #ask(url, init, signal, take) {
    // no-store: Chromium's cache lets requests for one URL wait for each other, and may answer with an old version
    const request = { credentials: this.credentials, cache: "no-store", signal, ...init };
    const answer = await this.fetch(url, request).catch((error) => {
      throw new Fault(`${url}: no answer (${error.message}). If another origin serves it, its CORS rule must allow GET `
        + `and HEAD from this page's, and ${EXPOSE}`, { cause: error });
    });
    try {
      if (answer.status === 429 || (answer.status >= 500 && answer.status !== 501)) {
        const retryAfterMs = 1000 * Number(answer.headers.get("retry-after")) || 0;
        throw new Fault(`${url}: the server answered ${answer.status}`, { status: answer.status, retryAfterMs });
      }
      return await take(answer);
    } catch (error) {
      // ends the transfer: otherwise the rest of a large body would still be sent
      answer.body?.cancel().catch(() => {});
      throw error;
    }
  }

  async #turn(signal) {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    let go;
    const turn = new Promise((resolve) => this.#waiting.push((go = resolve)));
    await unlessAborted(turn, signal).catch((error) => {
      const place = this.#waiting.indexOf(go);
      if (place < 0) this.#next();
      else this.#waiting.splice(place, 1);
      throw error;
    });
  }

  #next() {
    const go = this.#waiting.shift();
    if (go) go();
    else this.#free++;
  }
}

// A file or object that is read by ranges. The first answer pins its version.
class Store {
  #queue;
  #tail = { start: Infinity, bytes: new Uint8Array() };

  // size and version are those that a collection recorded; `open` finds the size, and the first answer the version
  constructor(queue, url, { size = 0, version = null } = {}) {
    this.#queue = queue;
    Object.assign(this, { url, size, version });
  }

  // whether the headers of an answer show that the blob was replaced
  get isPinned() {
    return this.version.etag.startsWith('"') || Boolean(this.version.modified);
  }

  // Runs code that decodes bytes of this store, and adds the store's URL to its errors.
  decode(run) {
    try {
      return run();
    } catch (error) {
      if (error instanceof FormatError) error.message = `${this.url}: ${error.message}`;
      throw error;
    }
  }

  // The footer of the index at the store's end; null if there is none.
  async footer(signal) {
    const packed = await this.peek(Math.max(0, this.size - FOOTER_BYTES), this.size, signal);
    return this.decode(() => decodeFooter(packed));
  }

  // Finds the size, and reads the last bytes; both in one request if the guess of the size is right.
  async open(signal, guess = 0) {
    if (guess > 0 && (await this.#openAs(guess, signal))) return this;
    this.size = await this.#queue.send(this.url, { method: "HEAD" }, signal, (answer) => this.#sizeIn(answer))
      // a presigned URL is for GET alone, and some servers compress what they answer to HEAD
      ?? await this.#queue.send(this.url, rangeInit(0, 1), signal, (answer) => this.#totalIn(answer));
    const start = Math.max(0, this.size - TAIL_BYTES);
    this.#tail = { start, bytes: await this.read(start, this.size, signal) };
    return this;
  }

  // Reads the last bytes of a store of that size. Returns false if it has another size, or the answer does not show it.
  async #openAs(size, signal) {
    const start = Math.max(0, size - TAIL_BYTES);
    return this.#queue.send(this.url, rangeInit(start, size), signal, async (answer, progress) => {
      if (answer.status !== 206 || answer.headers.get("content-range") !== `bytes ${start}-${size - 1}/${size}`) {
        answer.body?.cancel().catch(() => {});
        return false;
      }
      this.size = size;
      this.#checkVersion(answer);
      this.#tail = { start, bytes: await this.#body(answer, size - start, progress) };
      return true;
    });
  }

  #sizeIn(answer) {
    if ([403, 405, 501].includes(answer.status)) return null;
    this.#checkStatus(answer, 200);
    const length = answer.headers.get("content-length");
    return answer.headers.get("content-encoding") ? null : countIn(length);
  }

  #totalIn(answer) {
    if (answer.status === 416) return 0;
    this.#checkStatus(answer, 206);
    const total = countIn(answer.headers.get("content-range")?.split("/")[1]);
    if (total === null) throw new StorageError(`${this.url}: the answer does not show the blob's size: ${EXPOSE}`);
    answer.body?.cancel().catch(() => {});
    return total;
  }

  // Reads the bytes start to end, from the last bytes if they are in them.
  async peek(start, end, signal) {
    const { start: first, bytes } = this.#tail;
    return start >= first ? bytes.subarray(start - first, end - first) : this.read(start, end, signal);
  }

  async read(start, end, signal) {
    if (start === end) return new Uint8Array();
    return this.#queue.send(this.url, rangeInit(start, end), signal, async (answer, progress) => {
      // some servers answer a range that is the whole blob with 200, which RFC 9110, 14.2, allows
      this.#checkStatus(answer, start === 0 && end === this.size && answer.status === 200 ? 200 : 206);
      this.#checkRange(answer, start, end);
      this.#checkVersion(answer);
      return this.#body(answer, end - start, progress);
    });
  }

  #checkStatus({ status }, expected) {
    if (status === expected) return;
    if (status === 404 || status === 410) {
      throw new BlobNotFoundError(`${this.url}: there is no such blob (HTTP ${status})`, { status });
    }
    if (status === 416 || status === 412) {
      throw new BlobChangedError(`${this.url}: the blob was replaced since it was opened (HTTP ${status})`, { status });
    }
    throw new StorageError(status === 200
      ? `${this.url}: the server does not support ranged requests: it sent the whole file`
      : `${this.url}: the server answered ${status}`, { status });
  }

  #checkRange(answer, start, end) {
    const range = answer.headers.get("content-range");
    // on another origin, a header is hidden if it is not exposed; then only the length and the checksums are compared
    if (answer.status === 200 || (range === null && answer.type === "cors")) return;
    const [, first, last, total] = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(range ?? "") ?? [];
    if (Number(first) !== start || Number(last) !== end - 1) {
      throw new Fault(`${this.url}: ${range ?? "an unknown range"} came instead of bytes ${start} to ${end}`);
    }
    if (total !== "*" && Number(total) !== this.size) {
      throw new BlobChangedError(`${this.url}: the blob has ${total} bytes, and had ${this.size} when it was opened`);
    }
  }

  #checkVersion({ headers }) {
    const found = { etag: headers.get("etag") ?? "", modified: headers.get("last-modified") ?? "" };
    this.version ??= found;
    const { etag, modified } = this.version;
    // a strong ETag decides alone; a weak one may stay the same when the bytes change (RFC 9110, 8.8.1)
    const isModified = !etag.startsWith('"') && modified !== undefined && found.modified !== modified;
    if (found.etag === etag && !isModified) return;
    const hidden = etag && !found.etag ? ` If another origin serves it: ${EXPOSE}.` : "";
    throw new BlobChangedError(`${this.url}: the blob was replaced: its version is ${found.etag || found.modified
      || "not known"}, and was ${etag || modified || "not known"} when it was opened.${hidden}`);
  }

  async #body(answer, size, progress) {
    const bytes = this.#space(size);
    const reader = answer.body.getReader();
    let at = 0;
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        throw new Fault(`${this.url}: the answer was cut after ${at} of ${size} bytes`, { cause: error });
      });
      if (done) break;
      progress();
      if (value.length > size - at) {
        reader.cancel().catch(() => {});
        throw new Fault(`${this.url}: more than the ${size} bytes came that were asked for`);
      }
      bytes.set(value, at);
      at += value.length;
    }
    if (at < size) throw new Fault(`${this.url}: the answer was cut after ${at} of ${size} bytes`);
    return bytes;
  }

  #space(size) {
    try {
      return new Uint8Array(size);
    } catch (error) {
      throw new StorageError(`${this.url}: ${size} bytes are more than this program can hold`, { cause: error });
    }
  }
}

// a number of bytes in a header field; null if it is none, or larger than JavaScript counts
const countIn = (text) => (/^\d+$/.test(text ?? "") && Number.isSafeInteger(Number(text)) ? Number(text) : null);

const rangeInit = (start, end) => ({ headers: { Range: `bytes=${start}-${end - 1}` } });

// Merges ranges whose gaps are small into fetches: {start, end, places in the list}.
function planFetches(ranges, bytesMax) {
  const fetches = [];
  for (const place of [...ranges.keys()].sort((a, b) => ranges[a][0] - ranges[b][0])) {
    const [start, end] = ranges[place];
    const last = fetches.at(-1);
    if (last && start - last.end <= GAP_BYTES_MAX && Math.max(end, last.end) - last.start <= bytesMax) {
      last.end = Math.max(end, last.end);
      last.places.push(place);
    } else fetches.push({ start, end, places: [place] });
  }
  return fetches;
}

// ---- The index: footer, directory, guide, lookup, blocks

function checkSum(packed, what) {
  if (packed.length < 4 || viewOf(packed).getUint32(0, true) !== crc32c(packed.subarray(4))) {
    throw new ChecksumError(`the index is damaged: ${what} does not match its checksum`);
  }
}

// checks a page of the directory or the lookup, which contains its own number
function checkPage(packed, number, what) {
  checkSum(packed, what);
  if (viewOf(packed).getUint32(4, true) !== number) {
    throw new ChecksumError(`the index is damaged: ${what} is another page`);
  }
}

const expect = (right, what) => {
  if (!right) throw new FormatError(`the index is damaged: ${what}`);
};

// null if the bytes are no footer
function decodeFooter(packed) {
  if (packed.length < FOOTER_BYTES || ascii(packed.subarray(-8)) !== MAGIC) return null;
  checkSum(packed, "its footer");
  const view = viewOf(packed);
  const version = view.getUint32(4, true);
  const flags = view.getUint32(116, true);
  if (version !== 2) throw new FormatError(`the index is of version ${version} of the format; this reads version 2`);
  const number = (at) => u64(view, at);
  const footer = {
    regionBytes: number(8), archiveBytes: view.getBigUint64(16, true), tailCrc: view.getUint32(24, true),
    rowCount: number(32), payloadBytes: Number(view.getBigUint64(40, true)), lastEnd: number(48),
    blockCount: number(56), directory: number(64), lookup: number(72), lookupPages: number(80),
    seed: view.getBigUint64(88, true), guide: number(96), guideBytes: number(104),
    facts: FACTS.filter((_, bit) => (view.getUint32(112, true) >> bit) & 1), isTied: (flags & 2) !== 0,
    version: decodeName(packed.subarray(192, 320)).replace(/\0+$/, ""), blobs: number(320), blobsBytes: number(328),
    scannedBytes: flags & 1 ? number(120) : null, endBlocks: flags & 1 ? number(128) : 0,
  };
  if (flags >>> 17 || (flags >>> 16 === 1) !== footer.blobsBytes > 0) {
    throw new FormatError(`the index has flags 0x${flags.toString(16)}, of a later version of blobpack`);
  }
  checkFooter(footer);
  return footer;
}

// a hostile writer can write right checksums, too
function checkFooter(footer) {
  const { regionBytes, rowCount, blockCount, scannedBytes, endBlocks, isTied, archiveBytes } = footer;
  const sections = [
    [footer.lookup, footer.lookupPages * PAGE_BYTES], [footer.guide, footer.guideBytes],
    [footer.directory, (Math.floor(blockCount / PAGE_POSITIONS) + 1) * PAGE_BYTES], [footer.blobs, footer.blobsBytes],
  ];
  expect(
    sections.every(([start, size]) => start + size <= regionBytes - FOOTER_BYTES)
      && footer.guideBytes <= GUIDE_BYTES_MAX && footer.blobsBytes <= PART_BYTES_MAX
      && blockCount === Math.ceil(rowCount / ROWS)
      && blockCount * BLOCK_HEADER_BYTES + rowCount - blockCount <= regionBytes
      && (scannedBytes === null || (scannedBytes >= footer.lastEnd && scannedBytes % 512 === 0 && endBlocks <= 2
        && (!isTied || BigInt(scannedBytes) + 512n * BigInt(endBlocks) <= archiveBytes))),
    "the numbers in its footer contradict each other",
  );
}

/**
 * A block of up to 1,024 members, as columns.
 *
 * `firstRow` and `count`. `names`: the bytes of all names, one behind the other; each ends at its place in `nameEnds`.
 * `sizes` and `offsetStarts`. `mediaTypes` (codes), `widths`, `heights` and `crcs`; each is null if the index lacks it.
 */
class Block {
  constructor(packed, number, footer) {
    checkSum(packed, `block ${number}`);
    expect(packed.length >= BLOCK_HEADER_BYTES, `block ${number}`);
    const view = viewOf(packed);
    this.count = view.getUint32(4, true);
    this.firstRow = number * ROWS;
    const [namesBytes, unit] = [view.getUint32(32, true), view.getUint32(36, true)];
    expect(this.count === Math.min(ROWS, footer.rowCount - this.firstRow) && u64(view, 8) === this.firstRow
      && (unit === 1 || unit === 512), `block ${number}`);
    const columns = [];
    let at = BLOCK_HEADER_BYTES;
    for (let column = 0; column < 8; column++) {
      const width = packed[40 + column];
      expect(isWidth(column, width, this.count) && at + width * this.count <= packed.length, `block ${number}`);
      columns.push(columnOf(packed, at, width, this.count, column === 7));
      at += Math.ceil((width * this.count) / 8) * 8;
    }
    expect(at + namesBytes <= packed.length, `block ${number}`);
    this.names = packed.subarray(at, at + namesBytes);
    const fact = (place) => (footer.facts.includes(FACTS[place]) ? columns[3 + place] : null);
    [this.nameEnds, this.starts, this.sizes] = columns;
    [this.mediaTypes, this.widths, this.heights, this.crcs, this.times] = FACTS.map((_, place) => fact(place));
    Object.assign(this, { unit, base: u64(view, 16), timeBase: view.getBigInt64(24, true) });
    this.#check(number, footer.lastEnd);
  }

  #check(number, lastEnd) {
    let before = 0;
    for (let place = 0; place < this.count; place++) {
      const end = this.nameEnds[place];
      expect(end >= before && end <= this.names.length, `the names of block ${number}`);
      expect(this.start(place) + this.sizes[place] <= lastEnd, `the offsets of block ${number}`);
      before = end;
    }
  }

  start(place) {
    return this.base + this.starts[place] * this.unit;
  }

  get offsetStarts() {
    return Float64Array.from(this.starts, (_, place) => this.start(place));
  }

  nameBytes(place) {
    return this.names.subarray(place ? this.nameEnds[place - 1] : 0, this.nameEnds[place]);
  }

  /** The name at a place in the block, as a string. */
  name(place) {
    return decodeName(this.nameBytes(place));
  }

  // the last place with a name, or -1
  find(name) {
    let place = this.count - 1;
    while (place >= 0 && compareBytes(this.nameBytes(place), name) !== 0) place--;
    return place;
  }

  member(place, blob) {
    const offsetStart = this.start(place);
    const size = this.sizes[place];
    const time = this.times && Number(BigInt.asIntN(64, this.timeBase + BigInt(this.times[place])));
    return {
      name: this.name(place), row: this.firstRow + place, offsetStart, offsetEnd: offsetStart + size, size,
      mediaType: mediaTypes[this.mediaTypes?.[place]] || null, width: this.widths?.[place] || null,
      height: this.heights?.[place] || null, crc32c: this.crcs?.[place] ?? null, mtime: time || null, blob,
    };
  }
}

function isWidth(column, width, count) {
  if (column === 0 && width === 0) return count === 1;
  if (column === 3) return width <= 1;
  return [0, 1, 2, 4].includes(width) || (width === 8 && [1, 2, 7].includes(column));
}

function columnOf(packed, at, width, count, isTime) {
  if (width === 0) return new Uint8Array(count);
  // columns begin at multiples of 8, so these share the block's memory
  const place = packed.byteOffset + at;
  if (width < 8) return new { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[width](packed.buffer, place, count);
  if (isTime) return new BigUint64Array(packed.buffer, place, count);
  const view = viewOf(packed);
  return Float64Array.from({ length: count }, (_, row) => u64(view, at + 8 * row));
}

function hashOf(name, seed) {
  const mask = (1n << 64n) - 1n;
  const mix = (x) => {
    x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & mask;
    x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & mask;
    return x ^ (x >> 31n);
  };
  const padded = new Uint8Array((Math.floor(name.length / 8) + 1) * 8);
  padded.set(name);
  const view = viewOf(padded);
  let hash = (BigInt(name.length) * 0x9e3779b97f4a7c15n) & mask;
  for (let at = 0; at < padded.length; at += 8) hash = mix(hash ^ view.getBigUint64(at, true));
  return mix(hash ^ seed);
}

// The parts of one index, each read when it is first needed; the least recently used ones are forgotten.
class Index {
  #kept = new Map();
  #keptBytes = 0;

  constructor(store, start, footer, signal) {
    Object.assign(this, { store, start, footer, signal });
  }

  async #read(start, end) {
    this.store.decode(() => {
      expect(start <= end && end <= this.footer.regionBytes, "a position is outside of it");
      expect(end - start <= PART_BYTES_MAX, `a part of it has ${end - start} bytes`);
    });
    return this.store.peek(this.start + start, this.start + end, this.signal);
  }

  // Decodes a part. If it does not match its checksum, it is read once more, because the answer may have been damaged.
  async #decoded(packed, start, end, decode) {
    try {
      return this.store.decode(() => decode(packed));
    } catch (error) {
      if (!(error instanceof ChecksumError)) throw error;
      const again = await this.store.read(this.start + start, this.start + end, this.signal);
      return this.store.decode(() => decode(again));
    }
  }

  // Returns parts, by number. Those that are not kept are read, near ones in one GET.
  // No caller's signal ends these reads, because others may wait for the same part.
  async #parts(kind, numbers, boundsOf, decode) {
    const isMissing = (number) => !this.#kept.has(kind + number);
    const asked = numbers.filter(isMissing);
    const boundsOfAsked = new Map((await Promise.all(asked.map(boundsOf))).map((found, i) => [asked[i], found]));
    // in the meantime, another caller may have begun to read some of them
    const missing = asked.filter(isMissing);
    const bounds = missing.map((number) => boundsOfAsked.get(number));
    const fetched = new Map();
    for (const { start, end, places } of planFetches(bounds, SCAN_BYTES_MAX)) {
      const packed = this.#read(start, end);
      let before = packed;
      for (const place of places) {
        const [first, last] = bounds[place];
        // one after the other, with pauses: decoding megabytes at once would hold up the page
        const part = before.then(pace, pace).then(async () => {
          const own = (await packed).slice(first - start, last - start);
          return this.#decoded(own, first, last, (bytes) => decode(bytes, missing[place]));
        });
        before = part;
        fetched.set(missing[place], part);
        this.#keep(kind + missing[place], part, last - first);
      }
    }
    return Promise.all(numbers.map((number) => fetched.get(number) ?? this.#use(kind + number)));
  }

  #keep(key, part, bytes) {
    const drop = (dropped) => {
      this.#keptBytes -= this.#kept.get(dropped)?.bytes ?? 0;
      this.#kept.delete(dropped);
    };
    drop(key);
    this.#kept.set(key, { part, bytes });
    this.#keptBytes += bytes;
    part.catch(() => this.#kept.get(key)?.part === part && drop(key));
    for (const oldest of this.#kept.keys()) {
      if (this.#keptBytes <= KEPT_BYTES_MAX) break;
      drop(oldest);
    }
  }

  #use(key) {
    const kept = this.#kept.get(key);
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    return kept.part;
  }

  // where a block begins; for the number behind the last block, where the last block ends
  async #position(block) {
    const number = Math.floor(block / PAGE_POSITIONS);
    const start = this.footer.directory + number * PAGE_BYTES;
    const [page] = await this.#parts("directory", [number], () => [start, start + PAGE_BYTES], (packed) => {
      checkPage(packed, 2 ** 31 + number, "a page of its directory");
      const view = viewOf(packed);
      const positions = Array.from({ length: PAGE_POSITIONS }, (_, place) => u64(view, 8 + 8 * place));
      expect(Math.max(...positions) <= this.footer.regionBytes, "its directory holds a position outside of it");
      return positions;
    });
    return page[block % PAGE_POSITIONS];
  }

  async blocks(numbers) {
    const { blockCount } = this.footer;
    this.store.decode(() => {
      expect(numbers.every((number) => number < blockCount), "its lookup points at a row that is not there");
    });
    const boundsOf = async (number) => {
      const bounds = await Promise.all([this.#position(number), this.#position(number + 1)]);
      this.store.decode(() => expect(bounds[0] <= bounds[1], "its directory has a block that ends before it starts"));
      return bounds;
    };
    return this.#parts("block", numbers, boundsOf, (packed, number) => new Block(packed, number, this.footer));
  }

  // the last row with a name, as [block, place]; null if there is none
  async find(name) {
    const { rowCount, guideBytes, lookupPages } = this.footer;
    if (rowCount === 0) return null;
    // somebody has made names that collide
    if (!guideBytes && !lookupPages) return this.#findByScan(name);
    const blocks = await this.blocks(await (guideBytes ? this.#blockByGuide(name) : this.#blocksByLookup(name)));
    // if several rows have one name, the last row counts
    const block = blocks.sort((a, b) => b.firstRow - a.firstRow).find((one) => one.find(name) >= 0);
    return block ? [block, block.find(name)] : null;
  }

  async #findByScan(name) {
    let found = null;
    for await (const block of this.scan(0, this.footer.blockCount, this.signal)) {
      if (block.find(name) >= 0) found = [block, block.find(name)];
    }
    return found;
  }

  async firstNames() {
    const { guide, guideBytes, blockCount } = this.footer;
    const [names] = await this.#parts("guide", [0], () => [guide, guide + guideBytes], (packed) => {
      checkSum(packed, "its guide");
      const at = 4 + 4 * blockCount;
      expect(at <= packed.length, "its guide is too short");
      const ends = new Uint32Array(packed.buffer, 4, blockCount);
      return Array.from(ends, (end, place) => packed.subarray(at + (place ? ends[place - 1] : 0), at + end));
    });
    return names;
  }

  async #blockByGuide(name) {
    const names = await this.firstNames();
    const behind = firstPlace(names.length, (place) => compareBytes(names[place], name) > 0);
    return behind ? [behind - 1] : [];
  }

  async #blocksByLookup(name) {
    const { seed, lookup, lookupPages } = this.footer;
    const hash = hashOf(name, seed);
    const number = Number(((hash >> 32n) * BigInt(lookupPages)) >> 32n);
    const start = lookup + number * PAGE_BYTES;
    const [page] = await this.#parts("page", [number], () => [start, start + PAGE_BYTES], (packed) => {
      checkPage(packed, number, "a page of its lookup");
      return new Uint32Array(packed.buffer);
    });
    const [fingerprint, firstLine] = [Number((hash >> 16n) & 0xffffffffn), Number(((hash & 0xffffn) * 63n) >> 16n)];
    const found = new Set();
    // 8 slots of two numbers in each of the lines 1 to 63, from the hash's line on
    for (let slot = 8 * firstLine; slot < 8 * (firstLine + 63); slot++) {
      const [print, row] = page.subarray(16 + 2 * (slot % 504));
      if (print === 0xffffffff && row === 0xffffffff) break;
      if (print === fingerprint) found.add(Math.floor(row / ROWS));
    }
    return [...found];
  }

  // Yields the blocks first to last, in order. Each GET reads many blocks; meanwhile, the next GET is on its way.
  async *scan(first, last, signal) {
    for (let next = this.#run(first, last); ; ) {
      const blocks = await unlessAborted(next, signal);
      if (!blocks.length) return;
      next = this.#run(blocks.at(-1).firstRow / ROWS + 1, last);
      next.catch(() => {}); // it is awaited in the next round
      for (const block of blocks) {
        signal.throwIfAborted();
        yield block;
        await pace();
      }
    }
  }

  // as many of the blocks first to last as one GET brings; none if first is last
  async #run(first, last) {
    if (first >= last) return [];
    const start = await this.#position(first);
    let end = first + 1;
    while (end < last && (await this.#position(end + 1)) - start <= SCAN_BYTES_MAX) end++;
    return this.blocks(Array.from({ length: end - first }, (_, i) => first + i));
  }
}

// ---- Opening: find the index inside or beside a blob, and check that it fits the blob

/**
 * Open a blob, or a collection's file.
 * @param {string} url An http(s) URL, or a URL relative to the page. A folder's URL, which ends with "/", stands
 *   for the `collection.idx` in this folder.
 * @param {Options} [options]
 * @returns {Promise<Reader>}
 */
export async function open(url, options = {}) {
  const where = new URL(url, globalThis.document?.baseURI);
  if (!/^https?:$/.test(where.protocol)) throw new TypeError(`url must be http(s)://, not ${where.protocol}//`);
  const { size = 0 } = options;
  if (!(Number.isSafeInteger(size) && size >= 0)) throw new TypeError(`size must be a number of bytes, not ${size}`);
  if (where.pathname.endsWith("/")) where.pathname += "collection.idx";
  const closing = new AbortController();
  const signal = options.signal ? AbortSignal.any([options.signal, closing.signal]) : closing.signal;
  const queue = new Queue(options);
  const store = await new Store(queue, where.href).open(signal, size);
  const found = await findIndex(store, queue, options.index && new URL(options.index, where), signal);
  const index = new Index(found.store, found.start, found.footer, closing.signal);
  const blobs = await blobsOf(index);
  if (!store.isPinned && !found.footer.facts.includes("crc32c")) {
    throw new StorageError(`${store.url}: a replaced blob could not be noticed: the server's answers have no ETag or `
      + `Last-Modified, and the index has no checksums; if another origin serves it: ${EXPOSE}`);
  }
  const allow = (options.allow ?? []).map((place) => new URL(place, where));
  return new Reader({ store, index, blobs, queue, closing, allow });
}

// finds the index's {store, start, footer}
async function findIndex(store, queue, given, signal) {
  const footer = await store.footer(signal);
  if (footer?.regionBytes === store.size) {
    if (footer.blobsBytes) return { store, start: 0, footer };
    throw new FormatError(`${store.url}: this is the index of one blob: open the blob itself`);
  }
  if (new URL(store.url).pathname.endsWith(".idx")) {
    throw noIndexFile(store.url);
  }
  if (footer && !given) return insideIndex(store, footer, signal);
  const tail = await store.peek(Math.max(0, store.size - FOOTER_BYTES), store.size, signal);
  // a seekable zstd file ends with this number
  if (ascii(tail.subarray(-4)) === "\xb1\xea\x92\x8f") throw compressed(store.url, "zstd");
  const place = given ?? new URL(store.url);
  if (!given) place.pathname += ".idx";
  try {
    return await besideIndex(store, await new Store(queue, place.href).open(signal), signal);
  } catch (error) {
    // S3 answers 403 and not 404 for a missing object, if the caller may not list the bucket
    const isMissing = error instanceof BlobNotFoundError || error.status === 403;
    if (given || !(isMissing || error instanceof FormatError)) throw error;
    throw (await otherFormat(store, signal)) ?? (isMissing ? missingIndex(store.url, tail) : error);
  }
}

async function insideIndex(store, footer, signal) {
  const end = store.size - HEADER_BYTES - footer.regionBytes;
  if (footer.blobsBytes || !footer.isTied || footer.archiveBytes !== BigInt(end)) {
    throw stale(store, "the index at its end is for another archive: it was changed or joined with another");
  }
  const start = end + HEADER_BYTES;
  const begin = new Uint8Array(HEADER_BYTES + MAGIC.length);
  begin.set(memberHeader(footer.regionBytes));
  begin.set(new TextEncoder().encode(MAGIC), HEADER_BYTES);
  const read = await store.peek(Math.max(0, end - PAGE_BYTES), start + MAGIC.length, signal);
  const behind = read.subarray(-begin.length);
  await checkTail(store, footer, end, read.subarray(0, -begin.length), signal);
  // a tool that appends to the tar overwrites this header first
  if (compareBytes(behind, begin) !== 0) throw stale(store, "something has written over the beginning of its index");
  return { store, start, footer };
}

async function besideIndex(store, sidecar, signal) {
  const footer = await sidecar.footer(signal);
  if (footer?.regionBytes !== sidecar.size) throw noIndexFile(sidecar.url);
  if (footer.blobsBytes) throw new FormatError(`${sidecar.url}: this is a collection, not the index of one blob`);
  if (!footer.isTied) throw stale(store, `${sidecar.url} is tied to no blob, so it can't be checked`);
  await checkIdentity(store, footer, signal);
  return { store: sidecar, start: 0, footer };
}

// compares a blob with what an index or a collection recorded about its archive
async function checkIdentity(store, footer, signal) {
  const end = Number(footer.archiveBytes);
  if (store.size !== end && !(await isIndexBehind(store, end, signal))) {
    throw stale(store, `it has ${store.size} bytes, and had ${end} when the index was made`);
  }
  if (footer.version && footer.version === store.version?.etag) return;
  await checkTail(store, footer, end, await store.peek(Math.max(0, end - PAGE_BYTES), end, signal), signal);
}

async function isIndexBehind(store, end, signal) {
  if (store.size < end) return false;
  const footer = await store.footer(signal);
  return footer !== null && end + HEADER_BYTES + footer.regionBytes === store.size;
}

// `tail`: the archive's last 4,096 bytes as they are now
async function checkTail(store, footer, end, tail, signal) {
  if (crc32c(tail) !== footer.tailCrc) throw stale(store, "the end of its archive has changed");
  // tar -r writes new members over the zeros at the end of an archive; the end of the file may then stay the same
  const scanned = footer.scannedBytes ?? end;
  if (scanned < end - tail.length && (await store.peek(scanned, scanned + 512, signal)).some((byte) => byte)) {
    throw stale(store, `its archive ended at byte ${scanned}, and now has more bytes there`);
  }
}

const noIndexFile = (url) => new FormatError(`${url}: this is not an index file of blobpack`);

const stale = (store, what) => new StaleIndexError(
  `${store.url}: the index does not fit the blob as it is now: ${what}; make it again with \`blobpack index\``);

const compressed = (url, format) => new FormatError(`${url}: this is compressed by ${format}, so its members can't `
  + "be read here: make a plain blob of it with `blobpack repack`, or read it with Python");

// the tar header of the member that holds an index of that size
function memberHeader(regionBytes) {
  const header = new Uint8Array(512);
  const put = (at, text) => header.set(new TextEncoder().encode(text), at);
  put(0, ".blobpack/index");
  put(100, `0000644\0${"0000000\0".repeat(2)}`);
  if (regionBytes < 2 ** 33) put(124, regionBytes.toString(8).padStart(11, "0"));
  else {
    header[124] = 0x80;
    viewOf(header).setBigUint64(128, BigInt(regionBytes));
  }
  put(136, `00000000000\0${" ".repeat(8)}0`);
  put(257, "ustar\x0000blobpack");
  put(148, `${header.reduce((sum, byte) => sum + byte).toString(8).padStart(6, "0")}\0 `);
  return header;
}

// the first bytes of other kinds of files, in lower case, and the names of these kinds
const COMPRESSED = [["\x28\xb5\x2f\xfd", "zstd"], ["\x1f\x8b", "gzip"], ["bzh", "bzip2"], ["\xfd7zxz", "xz"]];
const OTHERS = [
  ["<!doctype html", "an HTML page, perhaps an error or a login page"], ["<html", "an HTML page, perhaps an error"],
  ["<?xml", "an XML document, perhaps the server's error"], ["blobidx\n", "a part of an index: open the blob itself"],
  ["\x80\x04", "a pickle, perhaps an offsets file: open the blob itself"], ["pk\x03\x04", "a zip archive"],
  ["par1", "a Parquet file"], ["\xff\xd8\xff", "a JPEG image"], ["\x89png", "a PNG image"], ["gif8", "a GIF image"],
  ["version https://git-lfs", "a pointer of Git LFS: `git lfs pull` gets the file"],
];

// the error for a file that does not begin like a tar; null if it may be a tar
async function otherFormat(store, signal) {
  const head = await store.peek(0, Math.min(HEADER_BYTES, store.size), signal);
  const begins = ascii(head).toLowerCase();
  const format = COMPRESSED.find(([magic]) => begins.startsWith(magic));
  if (format) return compressed(store.url, format[1]);
  const other = OTHERS.find(([magic]) => begins.startsWith(magic));
  if (other) return new FormatError(`${store.url}: this is ${other[1]}, not a tar`);
  const sum = head.reduce((before, byte, at) => before + (at >= 148 && at < 156 ? 32 : byte), 0);
  const isTar = head.length === 512 && (sum === 256 || sum === parseInt(ascii(head.subarray(148, 156)), 8));
  return isTar ? null : new FormatError(`${store.url}: this is not a tar`);
}

const missingIndex = (url, tail) => new MissingIndexError(`${url}: ${ascii(tail).startsWith(APPEND_MARK)
  ? "an append to this blob is running, or was interrupted: repeat it, or run `blobpack index`"
  : "this tar has no index, neither inside nor beside it as <name>.idx: `blobpack index` makes one. "
    + "An offsets file can't be read here."}`);

// the blobs of an index: one, or those of a collection
async function blobsOf({ store, start, footer, signal }) {
  const { rowCount, blobs, blobsBytes } = footer;
  if (!blobsBytes) return [{ rowEnd: rowCount }];
  const packed = await store.peek(start + blobs, start + blobs + blobsBytes, signal);
  return store.decode(() => decodeBlobs(packed, rowCount));
}

function decodeBlobs(packed, rowCount) {
  checkSum(packed, "its section of blobs");
  const view = viewOf(packed);
  const count = view.getUint32(4, true);
  const names = 8 + 52 * count;
  expect(names <= packed.length, "its section of blobs");
  const large = (column, blob) => u64(view, 8 + 8 * (column * count + blob));
  const small = (column, blob) => view.getUint32(8 + 32 * count + 4 * (column * count + blob), true);
  const last = (column) => (count ? small(column, count - 1) : 0);
  const text = (begin, column, blob) => decodeName(
    packed.subarray(begin + (blob ? small(column, blob - 1) : 0), begin + small(column, blob)));
  const found = Array.from({ length: count }, (_, blob) => ({
    rowEnd: large(0, blob), size: large(1, blob), archiveBytes: BigInt(large(3, blob)), tailCrc: small(0, blob),
    isCompressed: (small(2, blob) & 1) === 1, name: text(names, 3, blob), version: text(names + last(3), 4, blob),
    nameEnd: small(3, blob), versionEnd: small(4, blob),
  }));
  const isAscending = found.every((blob, i) => i === 0 || (blob.rowEnd >= found[i - 1].rowEnd
    && blob.nameEnd >= found[i - 1].nameEnd && blob.versionEnd >= found[i - 1].versionEnd));
  expect(isAscending && (count ? found[count - 1].rowEnd : 0) === rowCount
    && names + last(3) + last(4) === packed.length, "the numbers in its section of blobs contradict each other");
  return found;
}

// ---- Reading

/** An open blob or collection. Methods take a member by its name (the last member with it), its row, or as a Member. */
class Reader {
  #store; #index; #queue; #closing; #allow; #blobs;
  #stores = new Map();

  constructor({ store, index, blobs, queue, closing, allow }) {
    [this.#store, this.#index, this.#queue, this.#closing, this.#allow] = [store, index, queue, closing, allow];
    /** URL of the blob, or of the collection's file. */
    this.url = store.url;
    /** Number of members. */
    this.length = index.footer.rowCount;
    /** Sum of the members' sizes, in bytes. */
    this.payloadBytes = index.footer.payloadBytes;
    /** Facts that the index has: some of "mediaType", "width", "height", "crc32c", "mtime". */
    this.facts = index.footer.facts;
    /** True for a collection. */
    this.isCollection = index.footer.blobsBytes > 0;
    this.#blobs = blobs;
    if (!this.isCollection) this.#stores.set(0, Promise.resolve(store));
  }

  /** The blobs: {url, name, firstRow, rowEnd, size} of each. A single blob has one. */
  get blobs() {
    return this.#blobs.map(({ name = "", rowEnd, size = this.#store.size }, number) => (
      { url: this.#urlOf(number), name, size, rowEnd, firstRow: number ? this.#blobs[number - 1].rowEnd : 0 }));
  }

  // made when it is asked for: 10,000 URLs at once would hold up the page
  #urlOf(number) {
    const blob = this.#blobs[number];
    return (blob.url ??= this.isCollection ? blobUrl(this.url, blob.name) : this.url);
  }

  /** ETag of the blob or of the collection's file; "" if the server sends or shows none. */
  get etag() {
    return this.#store.version.etag;
  }

  /** End all requests; later calls reject with StorageError. */
  close() {
    this.#closing.abort(new StorageError(`${this.url}: the reader is closed`));
  }

  #signal(signal) {
    this.#closing.signal.throwIfAborted();
    return signal ? AbortSignal.any([signal, this.#closing.signal]) : this.#closing.signal;
  }

  #blobOf(row) {
    return firstPlace(this.#blobs.length, (number) => this.#blobs[number].rowEnd > row);
  }

  #member(block, place) {
    return block.member(place, this.#urlOf(this.#blobOf(block.firstRow + place)));
  }

  /**
   * Find the last member of a name.
   * @param {string} name
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Member | null>} null if there is none.
   */
  async find(name, { signal } = {}) {
    if (typeof name !== "string") throw new TypeError(`name must be a string, not ${name}`);
    const encoded = encodeName(name);
    // a string that no name decodes to
    if (decodeName(encoded) !== name) return null;
    const found = await unlessAborted(this.#index.find(encoded), this.#signal(signal));
    return found && this.#member(...found);
  }

  /**
   * Return the members of the rows from a up to, but not including, b. Any a and b are allowed, as in Array.slice.
   * @returns {Promise<Member[]>}
   */
  async rows(a, b = this.length, { signal } = {}) {
    const bound = (row) => Math.max(0, Math.min(this.length, row < 0 ? row + this.length : row));
    const first = bound(a);
    return this.#membersAt(Array.from({ length: Math.max(0, bound(b) - first) }, (_, i) => first + i), signal);
  }

  async #membersAt(rows, signal) {
    const bad = rows.find((row) => !(Number.isInteger(row) && row >= 0 && row < this.length));
    if (bad !== undefined) throw new RangeError(`no row ${bad} among ${this.length} rows`);
    const numbers = [...new Set(rows.map((row) => Math.floor(row / ROWS)))];
    const blocks = await unlessAborted(this.#index.blocks(numbers), this.#signal(signal));
    const byNumber = new Map(numbers.map((number, i) => [number, blocks[i]]));
    return rows.map((row) => this.#member(byNumber.get(Math.floor(row / ROWS)), row % ROWS));
  }

  /**
   * Read a member's payload, and compare it with its checksum.
   * @param {string | number | Member} which
   * @param {{signal?: AbortSignal}} [options]
   * @returns {Promise<Uint8Array>}
   */
  async read(which, { signal } = {}) {
    const found = typeof which === "string" ? await this.find(which, { signal }) : which;
    if (found === null) throw new MemberNotFoundError(`${this.url}: there is no member ${JSON.stringify(which)}`);
    const [[, bytes]] = await this.readMany([found], { signal });
    if (bytes instanceof Error) throw bytes;
    return bytes;
  }

  /**
   * Read the payloads of the rows from a up to, but not including, b. Neighbours come in one GET.
   * @returns {Promise<[Member, Uint8Array | ChecksumError][]>} An error in place of each payload that does not match
   *   its checksum. Any other failure rejects the promise.
   */
  async screen(a, b, { signal } = {}) {
    return this.readMany(await this.rows(a, b, { signal }), { signal });
  }

  /**
   * Read the payloads of rows or members, in the order given, like `screen`. Near payloads come in one GET.
   * @param {(number | Member)[]} several
   * @returns {Promise<[Member, Uint8Array | ChecksumError][]>}
   */
  async readMany(several, { signal } = {}) {
    const own = this.#signal(signal);
    const members = await this.#membersAt(several.map((which) => which.row ?? which), signal);
    // a Member may come from another blob, or from this one before it was replaced
    const isOther = ({ name, offsetStart, offsetEnd }, i) => name !== undefined && (members[i].name !== name
      || members[i].offsetStart !== offsetStart || members[i].offsetEnd !== offsetEnd);
    const other = several.find(isOther);
    if (other) throw new MemberNotFoundError(`${this.url}: ${JSON.stringify(other.name)} is a member of another blob`);
    const payloads = Array(members.length);
    const byBlob = new Map();
    for (const [i, { row }] of members.entries()) {
      const blob = this.#blobOf(row);
      if (!byBlob.has(blob)) byBlob.set(blob, []);
      byBlob.get(blob).push(i);
    }
    await Promise.all([...byBlob].map(async ([blob, places]) => {
      const store = await this.#open(blob, own);
      this.#checkEnds(store, places.map((i) => members[i]));
      const fetches = planFetches(places.map((i) => [members[i].offsetStart, members[i].offsetEnd]), READ_BYTES_MAX);
      await Promise.all(fetches.map(async (fetch) => {
        const bytes = await store.read(fetch.start, fetch.end, own);
        for (const place of fetch.places) {
          const i = places[place];
          await pace();
          payloads[i] = await this.#checked(store, members[i], bytes, fetch.start, own);
        }
      }));
    }));
    return members.map((member, i) => [member, payloads[i]]);
  }

  #checkEnds(store, members) {
    const behind = members.find((member) => member.offsetEnd > store.size);
    if (!behind) return;
    throw new FormatError(`${this.url}: the index is damaged: ${JSON.stringify(behind.name)} ends at byte `
      + `${behind.offsetEnd} of ${store.url}, which has ${store.size} bytes`);
  }

  // a member's payload from the bytes of a fetch; a ChecksumError if it does not match its checksum
  async #checked(store, member, bytes, start, signal) {
    const { offsetStart, offsetEnd, crc32c: expected } = member;
    const payload = bytes.slice(offsetStart - start, offsetEnd - start);
    if (expected === null || (await crcOf(payload)) === expected) return payload;
    // the answer may have been damaged on its way
    const again = await store.read(offsetStart, offsetEnd, signal);
    const found = await crcOf(again);
    if (found === expected) return again;
    const [came, said] = [found, expected].map((crc) => crc.toString(16).padStart(8, "0"));
    return new ChecksumError(`${store.url}: the bytes ${offsetStart} to ${offsetEnd} of ${JSON.stringify(member.name)} `
      + `are damaged, or the blob was replaced: their CRC-32C is ${came}, the index says ${said}`);
  }

  // the store of a blob of a collection, which is opened when its first member is read
  #open(number, signal) {
    if (!this.#stores.has(number)) {
      const opening = this.#openBlob(this.#urlOf(number), this.#blobs[number]);
      opening.catch(() => this.#stores.delete(number));
      this.#stores.set(number, opening);
    }
    return unlessAborted(this.#stores.get(number), signal);
  }

  async #openBlob(url, blob) {
    checkPlace(this.url, blob.name, url, this.#allow);
    if (blob.isCompressed) throw compressed(url, "zstd");
    // the collection recorded size and ETag; each answer is compared with them
    if (blob.version) return new Store(this.#queue, url, { size: blob.size, version: { etag: blob.version } });
    const store = await new Store(this.#queue, url).open(this.#closing.signal, blob.size);
    await checkIdentity(store, { ...blob, version: "" }, this.#closing.signal);
    return store;
  }

  /**
   * Yield the blocks that hold the rows from a up to b, or all blocks: 1,024 members each, as columns. Use it to search
   * or filter all members. It sends few large GETs, and pauses often, so that a page stays responsive.
   * @param {{a?: number, b?: number, signal?: AbortSignal}} [options]
   * @returns {AsyncGenerator<Block>}
   */
  async *scan({ a = 0, b = this.length, signal } = {}) {
    yield* this.#index.scan(Math.floor(a / ROWS), Math.ceil(Math.min(b, this.length) / ROWS), this.#signal(signal));
  }

  /**
   * Yield the names that match a glob, in order of their rows, as they are found.
   * @param {string | string[]} glob If there are several, one of them must match.
   * @param {{minSize?: number, maxSize?: number, mediaType?: string | string[], minWidth?: number, maxWidth?: number,
   *   minHeight?: number, maxHeight?: number, exclude?: string | string[], signal?: AbortSignal}} [conditions] All must
   *   hold. A member of unknown width does not pass a condition on width.
   * @returns {AsyncGenerator<string>}
   */
  async *select(glob = "*", { signal, ...conditions } = {}) {
    const passes = this.#conditions(glob, conditions);
    const [first, last] = await this.#blocksOf(glob);
    for await (const block of this.#index.scan(first, last, this.#signal(signal))) {
      for (let place = 0; place < block.count; place++) if (passes(block, place)) yield block.name(place);
    }
  }

  #conditions(glob, { minSize, maxSize, mediaType, minWidth, maxWidth, minHeight, maxHeight, exclude = [] }) {
    const tests = [];
    const need = (fact) => {
      if (!this.facts.includes(fact)) throw new FactsMissingError(`${this.url}: the index has no ${fact}`);
    };
    const within = (column, fact, least, most) => {
      if (least === undefined && most === undefined) return;
      if (fact) need(fact);
      // 0 stands for unknown in width and height
      const [low, high] = [Math.max(least ?? 0, fact ? 1 : 0), most ?? Infinity];
      tests.push((block, place) => block[column][place] >= low && block[column][place] <= high);
    };
    within("sizes", null, minSize, maxSize);
    within("widths", "width", minWidth, maxWidth);
    within("heights", "height", minHeight, maxHeight);
    if (mediaType !== undefined) {
      need("mediaType");
      const globs = [mediaType].flat().map(globMatcher);
      const wanted = mediaTypes.map((type) => type !== "" && globs.some((matches) => matches(type)));
      if (!wanted.includes(true)) throw new TypeError(`no media type is ${mediaType}: ${mediaTypes.join(" ")}`);
      tests.push((block, place) => wanted[block.mediaTypes[place]]);
    }
    const byName = (globs, right) => {
      const matchers = globs.map(globMatcher);
      if (matchers.length) tests.push((block, place) => matchers.some((one) => one(block.nameBytes(place))) === right);
    };
    byName([glob].flat(), true);
    byName([exclude].flat(), false);
    return (block, place) => tests.every((test) => test(block, place));
  }

  // the blocks that may hold matching names: if names ascend, those with names that begin like the glob
  async #blocksOf(glob) {
    const { guideBytes, blockCount } = this.#index.footer;
    const first = Array.isArray(glob) ? undefined : parseGlob(glob)[0];
    if (!guideBytes || !Array.isArray(first)) return [0, blockCount];
    const names = await this.#index.firstNames();
    const from = firstPlace(names.length, (place) => compareBytes(names[place], first) >= 0);
    const behind = (place) => compareBytes(names[place].subarray(0, first.length), first) > 0;
    return [Math.max(0, from - 1), firstPlace(names.length, behind)];
  }
}

// A large payload's checksum is computed in pieces, because a task of over 50 ms would block the page.
async function crcOf(bytes, piece = 4 << 20) {
  let crc = 0;
  for (let at = 0; at < bytes.length; at += piece) {
    if (at) await pause();
    crc = crc32c(bytes.subarray(at, at + piece), crc);
  }
  return crc;
}

// the URL of a blob that a collection names: relative to the collection's folder, unless it is a whole URL
function blobUrl(collection, name) {
  if (name.includes("://")) return name;
  if (name.startsWith("/")) return `file://${name}`;
  const [, address, query] = /^([^?#]*)(.*)$/.exec(collection);
  return new URL(address.slice(0, address.lastIndexOf("/") + 1) + name + query).href;
}

// a collection may come from somebody else, so it must not choose which hosts and folders are read
function checkPlace(collection, name, url, allow) {
  const path = decodePath(/^https?:\/\/[^/]+(.*)/.exec(url)?.[1] ?? "..");
  const isBelow = ({ origin, pathname }) => {
    const place = decodePath(pathname);
    const found = decodePath(new URL(url).pathname);
    return new URL(url).origin === origin && (found === place || found.startsWith(place.replace(/\/?$/, "/")));
  };
  // a server may resolve "..", also if it is written as %2e%2e; URL() resolves both, so the name is checked, too
  const hasParent = [path, decodePath(name)].some((text) => text.split(/[/\\]/).includes(".."));
  if (hasParent || !URL.canParse(url) || ![new URL(".", collection), ...allow].some(isBelow)) {
    throw new UnsafeNameError(`${collection}: names a blob at ${JSON.stringify(name)}, which is not below the `
      + "collection's own folder: `allow` names other hosts and folders to read from");
  }
}

function decodePath(path) {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
