// Runs jobs of tests with blobpack.js: in Node, a line of JSON each from standard input; in a page, by `run`.

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const AsyncFunction = (async () => {}).constructor;
const plain = (error) => ({ error: error.name, message: error.message, status: error.status });
const shown = (value) => (value instanceof Uint8Array ? hex(value) : value instanceof Error ? plain(value) : value);

const columns = (block) => ({
  firstRow: block.firstRow,
  count: block.count,
  names: Array.from({ length: block.count }, (_, place) => block.name(place)),
  ...Object.fromEntries(["offsetStarts", "sizes", "mediaTypes", "widths", "heights", "crcs"].map(
    (name) => [name, block[name] && Array.from(block[name])])),
});

// A call is [method, ...arguments]; its answer is {value}, or {error, message, status}.
async function call(reader, [method, ...args]) {
  if (method === "select" || method === "scan") {
    const found = [];
    for await (const one of reader[method](...args)) found.push(method === "scan" ? columns(one) : one);
    return found;
  }
  if (method === "get") return reader[args[0]];
  const value = await reader[method](...args);
  if (method === "screen" || method === "readMany") return value.map(([member, bytes]) => [member, shown(bytes)]);
  return shown(value);
}

// A job is {url, code}, which runs, or {url, options, calls}; its answer {opened} and {answers}, or the error of opening. Jobs of one `keep` share a
// reader, which stays open.
const kept = new Map();

export async function run(blobpack, { url, options = {}, calls = [], keep, text, only, code }) {
  if (code) return new AsyncFunction("blobpack", "url", code)(blobpack, url).then((value) => ({ value }), plain);
  if (text !== undefined) return textOf(blobpack, Uint8Array.from(text.match(/../g) ?? [], (byte) => parseInt(byte, 16)));
  // a world of one server: no other one has any file
  if (only) options.fetch = async (to, init) => (to.startsWith(only) ? fetch(to, init) : new Response(null, { status: 404 }));
  let reader = kept.get(keep);
  try {
    reader ??= await blobpack.open(url, options);
  } catch (error) {
    return plain(error);
  }
  if (keep) kept.set(keep, reader);
  const { length, etag, facts, payloadBytes, blobs } = reader;
  const answers = [];
  for (const one of calls) {
    answers.push(await call(reader, one).then((value) => ({ value: value ?? null }), plain));
  }
  if (!keep) reader.close();
  return { opened: { url: reader.url, length, etag, facts, payloadBytes, blobs }, answers };
}

function textOf({ crc32c, decodeName, encodeName }, bytes) {
  const name = decodeName(bytes);
  return { crc: crc32c(bytes), name, encoded: hex(encodeName(name)) };
}

if (globalThis.process?.argv?.[2]) {
  const { createInterface } = await import("node:readline");
  const blobpack = await import(process.argv[2]);
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await run(blobpack, JSON.parse(line)).catch((error) => ({ failed: String(error.stack) }));
    process.stdout.write(`${JSON.stringify(answer).replace(/[\u0080-\uffff]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)}\n`);
  }
}
