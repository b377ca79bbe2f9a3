// The offsets file of selected members: byte for byte what `blobpack offsets` and Supervisely's SDK write.
//
// The file is a series of pickles of protocol 4. Each is a list of up to 10,000 BlobImageInfo (CPython, Modules/_pickle.c;
// PEP 3154).

export const BATCH_ROWS = 10_000; // in one pickle
const GROUP_ROWS = 1000; // members of one APPENDS
const FRAME_BYTES = 65_536; // a frame is closed once it holds this many
const encoder = new TextEncoder();

// Returns the parts of the file. `members` is an array of {name, nameBytes, offsetStart, offsetEnd}.
export function offsetsFile(members) {
  const parts = [];
  for (let first = 0; first < members.length; first += BATCH_ROWS) {
    parts.push(new Pickler().list(members.slice(first, first + BATCH_ROWS)));
  }
  return parts;
}

class Pickler {
  #bytes = new Uint8Array(1 << 16);
  #length = 0;
  #frameStart = 0;
  #memos = 0;
  // CPython keeps one object for "" and one for each Latin-1 character, so the pickler writes each of them once
  #singletons = new Map();

  list(members) {
    this.#put(0x80, 4);
    this.#openFrame();
    this.#put(0x5d);
    this.#memoize();
    members.forEach((member, row) => {
      if (row % GROUP_ROWS === 0 && members.length > 1) this.#put(0x28);
      this.#member(member);
      if (members.length === 1) this.#put(0x61);
      else if (row % GROUP_ROWS === GROUP_ROWS - 1 || row === members.length - 1) this.#put(0x65);
    });
    this.#put(0x2e);
    this.#closeFrame();
    return this.#bytes.slice(0, this.#length);
  }

  #member({ name, offsetStart, offsetEnd }) {
    this.#class();
    this.#boundary();
    this.#put(0x29, 0x81);
    this.#memoize();
    this.#boundary();
    this.#put(0x7d);
    this.#memoize();
    this.#put(0x28);
    this.#key("name", 6);
    this.#name(name);
    this.#key("offset_start", 8);
    this.#integer(offsetStart);
    this.#key("offset_end", 9);
    this.#integer(offsetEnd);
    this.#put(0x75, 0x62);
  }

  #class() {
    this.#boundary();
    if (this.#memos > 1) return this.#get(3);
    this.#text(encoder.encode("supervisely.api.image_api"));
    this.#text(encoder.encode("BlobImageInfo"));
    this.#put(0x93);
    this.#memoize();
  }

  #key(key, memo) {
    this.#boundary();
    if (this.#memos > memo) this.#get(memo);
    else this.#text(encoder.encode(key));
  }

  #name(name) {
    this.#boundary();
    const isSingleton = name.length === 0 || (name.length === 1 && name.charCodeAt(0) < 256);
    if (isSingleton && this.#singletons.has(name)) return this.#get(this.#singletons.get(name));
    if (isSingleton) this.#singletons.set(name, this.#memos);
    this.#text(surrogatePassed(name));
  }

  #text(bytes) {
    if (bytes.length < 256) this.#put(0x8c, bytes.length);
    else this.#put(0x58, ...little(bytes.length, 4));
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    this.#memoize();
  }

  #integer(value) {
    this.#boundary();
    if (value < 0x100) return this.#put(0x4b, value);
    if (value < 0x10000) return this.#put(0x4d, ...little(value, 2));
    if (value < 2 ** 31) return this.#put(0x4a, ...little(value, 4));
    let width = 5;
    while (width < 8 && value >= 2 ** (8 * width - 1)) width += 1;
    this.#put(0x8a, width, ...little(value, width));
  }

  #get(memo) {
    if (memo < 256) this.#put(0x68, memo);
    else this.#put(0x6a, ...little(memo, 4));
  }

  #memoize() {
    this.#put(0x94);
    this.#memos += 1;
  }

  // the pickler checks the frame's length before each object
  #boundary() {
    if (this.#length - this.#frameStart - 9 < FRAME_BYTES) return;
    this.#closeFrame();
    this.#openFrame();
  }

  #openFrame() {
    this.#frameStart = this.#length;
    this.#put(0x95, 0, 0, 0, 0, 0, 0, 0, 0);
  }

  #closeFrame() {
    this.#bytes.set(little(this.#length - this.#frameStart - 9, 8), this.#frameStart + 1);
  }

  #put(...bytes) {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #reserve(size) {
    if (this.#length + size <= this.#bytes.length) return;
    const grown = new Uint8Array(2 * this.#bytes.length + size);
    grown.set(this.#bytes);
    this.#bytes = grown;
  }
}

// Returns a whole number below 2**53, the lowest byte first.
function little(value, width) {
  const bytes = [];
  for (let i = 0; i < width; i += 1) {
    bytes.push(value % 256);
    value = Math.floor(value / 256);
  }
  return bytes;
}

// Returns a name in UTF-8 with each lone surrogate as its three bytes, as pickle writes them (surrogatepass).
function surrogatePassed(name) {
  const bytes = encoder.encode(name);
  if (!/\p{Surrogate}/u.test(name)) return bytes;
  const passed = [];
  for (const char of name) {
    const point = char.codePointAt(0);
    if (point >= 0xd800 && point <= 0xdfff) {
      passed.push(0xe0 | (point >> 12), 0x80 | ((point >> 6) & 0x3f), 0x80 | (point & 0x3f));
    } else passed.push(...encoder.encode(char));
  }
  return Uint8Array.from(passed);
}
