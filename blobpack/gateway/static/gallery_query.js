// A query: its form in the page's address, and the rows that it finds.
//
// A query is {text, isGlob, types, limits}: `limits` maps options of the command line, such as "min-size", to numbers.

import { globMatcher, mediaTypes } from "./blobpack.js";

export const LIMITS = ["min-size", "max-size", "min-width", "max-width", "min-height", "max-height"];
const UNITS = { "": 1, k: 1e3, m: 1e6, g: 1e9, ki: 2 ** 10, mi: 2 ** 20, gi: 2 ** 30 };
const PROGRESS_MS = 100;

// Reads a size such as 500, 4k or 1.5Mi; returns null for anything else.
export function parseSize(text) {
  const found = /^(\d+(?:\.\d+)?) ?((?:[kmg]i?)?)b?$/i.exec(text.trim());
  return found && Math.round(Number(found[1]) * UNITS[found[2].toLowerCase()]);
}

export function queryOf(text, types = [], limits = {}) {
  return { text, isGlob: /[*?]|\[.+\]/.test(text), types, limits };
}

export function isEmpty(query) {
  return !query.text && !query.types.length && !Object.keys(query.limits).length;
}

export function countOfFilters(query) {
  return query.types.length + Object.keys(query.limits).length;
}

// Returns the fragment of the address that holds a query.
export function toParams(query) {
  const params = new URLSearchParams();
  if (query.text) params.set("q", query.text);
  for (const type of query.types) params.append("type", type);
  for (const [name, value] of Object.entries(query.limits)) params.set(name, value);
  return params;
}

// Reads a query from a fragment. Anybody may have written the fragment, so wrong parts of it are ignored.
export function fromParams(params) {
  const limits = {};
  for (const name of LIMITS) {
    const value = params.has(name) ? parseSize(params.get(name)) : null;
    if (value !== null) limits[name] = value;
  }
  const types = params.getAll("type").filter((type) => type && mediaTypes.includes(type));
  return queryOf(params.get("q") ?? "", types, limits);
}

// Finds the rows of a query. `onFound(rows, scanned, isDone)` is called after the first block, and then from time to time.
// The media types of all scanned members are added to the Set `types`.
export async function search(blob, query, types, { signal, onFound }) {
  const matches = matcherOf(query);
  const codes = new Uint8Array(256);
  let rows = new Uint32Array(1024);
  let count = 0;
  let scanned = 0;
  let said = 0;
  for await (const block of blob.scan({ signal })) {
    for (const at of matches(block)) {
      if (count === rows.length) {
        const grown = new Uint32Array(2 * count);
        grown.set(rows);
        rows = grown;
      }
      rows[count] = block.firstRow + at;
      count += 1;
    }
    scanned = block.firstRow + block.count;
    for (const code of block.mediaTypes ?? []) codes[code] = 1;
    if (performance.now() - said < PROGRESS_MS) continue;
    said = performance.now();
    onFound(rows.subarray(0, count), scanned, false);
  }
  codes.forEach((isThere, code) => isThere && mediaTypes[code] && types.add(mediaTypes[code]));
  onFound(rows.subarray(0, count), scanned, true);
}

// Returns a function from a block to the places in it that match.
function matcherOf({ text, isGlob, types, limits }) {
  const names = !text ? null : isGlob ? globPlaces(text) : textPlaces(text);
  const codes = new Set(types.map((type) => mediaTypes.indexOf(type)));
  const checks = [];
  if (codes.size) checks.push((block) => (at) => codes.has(block.mediaTypes[at]));
  for (const [option, value] of Object.entries(limits)) {
    const [side, fact] = option.split("-");
    const column = { size: "sizes", width: "widths", height: "heights" }[fact];
    // a width of 0 is unknown, and an unknown one passes no limit
    const passes =
      side === "min"
        ? (found) => found >= value && (fact === "size" || found > 0)
        : (found) => found <= value && (fact === "size" || found > 0);
    checks.push((block) => {
      const values = block[column];
      return (at) => passes(values[at]);
    });
  }
  return (block) => {
    const places = names ? names(block) : Array.from({ length: block.count }, (_, at) => at);
    const passed = checks.map((check) => check(block));
    return places.filter((at) => passed.every((check) => check(at)));
  };
}

function globPlaces(glob) {
  const matches = globMatcher(glob);
  return ({ names, nameEnds, count }) => {
    const places = [];
    for (let at = 0, start = 0; at < count; start = nameEnds[at], at += 1) {
      if (matches(names, start, nameEnds[at])) places.push(at);
    }
    return places;
  };
}

// Ignores case. A block of ASCII names is searched as one string, which takes a tenth of the time.
function textPlaces(text) {
  const wanted = text.toLowerCase();
  const latin = new TextDecoder("latin1");
  const utf8 = new TextDecoder();
  return ({ names, nameEnds, count }) => {
    const isAscii = names.every?.((byte) => byte < 128) ?? false;
    if (!isAscii) {
      const places = [];
      for (let at = 0, start = 0; at < count; start = nameEnds[at], at += 1) {
        if (utf8.decode(names.subarray(start, nameEnds[at])).toLowerCase().includes(wanted)) places.push(at);
      }
      return places;
    }
    const joined = latin.decode(names).toLowerCase();
    const places = [];
    let at = 0;
    for (let found = joined.indexOf(wanted); found >= 0; found = joined.indexOf(wanted, found)) {
      while (at < count && nameEnds[at] <= found) at += 1;
      if (at === count) break;
      if (found + wanted.length <= nameEnds[at]) {
        places.push(at);
        found = nameEnds[at];
      } else found += 1;
    }
    return places;
  };
}

