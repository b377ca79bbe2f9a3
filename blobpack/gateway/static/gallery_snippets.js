// Commands and code that fetch exactly one member, and commands that copy selected members. All names are quoted correctly.

// Characters that a terminal or a reader would not see: control characters, direction marks, zero-width spaces, and lone
// surrogates, which stand for bytes that are not UTF-8 (U+DC80 to U+DCFF, as Python decodes them).
const UNSEEN =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|\p{Surrogate}/gu;

// How many names a command holds before they move to a file.
export const NAMES_IN_COMMAND = 20;

// Returns a name as people may read it: unseen characters are written as escapes.
export function visible(name) {
  return name.replace(UNSEEN, (char) => {
    const point = char.codePointAt(0);
    if (point >= 0xdc80 && point <= 0xdcff) return `\\x${(point - 0xdc00).toString(16)}`;
    if (point === 10) return "\\n";
    return point < 256 ? `\\x${hex(point, 2)}` : `\\u${hex(point, 4)}`;
  });
}

// Returns a word for bash or zsh.
export function shellQuoted(text) {
  // zsh replaces =word by the path of the program of that name
  if (/^[\w@%+:,./-][\w@%+=:,./-]*$/.test(text)) return text;
  UNSEEN.lastIndex = 0;
  if (!UNSEEN.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  // $'…' works in bash, zsh and POSIX.1-2024. Bytes are octal, because \x takes any number of digits in some shells.
  const bytes = Array.from(encoded(text), (byte) =>
    byte < 32 || byte > 126 || byte === 39 || byte === 92
      ? `\\${byte.toString(8).padStart(3, "0")}`
      : String.fromCharCode(byte),
  );
  return `$'${bytes.join("")}'`;
}

// Returns a str literal of Python.
export function pythonQuoted(text) {
  const escaped = text
    .replaceAll("\\", "\\\\")
    .replaceAll('"', '\\"')
    .replace(UNSEEN, (char) => {
      const point = char.codePointAt(0);
      return point < 256 ? `\\x${hex(point, 2)}` : `\\u${hex(point, 4)}`;
    });
  return `"${escaped}"`;
}

// Returns the last part of a name, as a file that it can be saved to.
export function fileNameOf(name) {
  const last = name.slice(name.lastIndexOf("/") + 1).replaceAll("\0", "");
  return ["", ".", ".."].includes(last) ? "member" : last;
}

// Returns [title, code] of each way to fetch a member. `blob` is {url, s3, endpoint}.
export function snippetsOf(member, blob) {
  const { offsetStart: start, offsetEnd: end } = member;
  const name = fileNameOf(member.name);
  const file = shellQuoted(name);
  if (start === end) return [["curl", `: > ${file}   # an empty file`]];
  const range = `bytes=${start}-${end - 1}`;
  const found = [
    // a redirection, because curl's -o gives a special meaning to names that begin with - or contain #1
    ["curl", `curl -fgsS -r ${start}-${end - 1} \\\n  ${shellQuoted(blob.url)} \\\n  > ${file}`],
    [
      "Python",
      `from urllib.request import Request, urlopen\n\nurl = ${pythonQuoted(blob.url)}\n` +
        `request = Request(url, headers={"Range": "${range}"})\n` +
        "with urlopen(request) as response:\n    payload = response.read()",
    ],
    [
      "blobpack",
      `import blobpack\n\nwith blobpack.open_blob(${pythonQuoted(blob.s3 || blob.url)}) as blob:\n` +
        `    payload = blob.read(${pythonQuoted(member.name)})`,
    ],
  ];
  const place = s3PlaceOf(blob);
  if (place) {
    const endpoint = place.endpoint ? ` --endpoint-url ${shellQuoted(place.endpoint)}` : "";
    found.push([
      "S3",
      `aws s3api get-object${endpoint} \\\n  --bucket ${shellQuoted(place.bucket)} --key ${shellQuoted(place.key)} \\\n` +
        `  --range ${range} ${name.startsWith("-") ? `./${file}` : file}`,
    ]);
  }
  return found;
}

// Returns {bucket, key, endpoint} of a blob; null if they are not known.
function s3PlaceOf(blob) {
  if (blob.s3) {
    const [, bucket, key] = /^s3:\/\/([^/]+)\/(.*)$/s.exec(blob.s3);
    return { bucket, key, endpoint: blob.endpoint };
  }
  // AWS writes the bucket into the host's name or, in older URLs, into the path
  const { hostname, pathname } = new URL(blob.url);
  const host = /^(?:(.+)\.)?s3[.-][\w.-]*amazonaws\.com(?:\.cn)?$/.exec(hostname);
  if (!host) return null;
  const [, bucket, key] = host[1] ? [null, host[1], pathname.slice(1)] : /^\/([^/]*)\/(.*)$/.exec(pathname);
  return { bucket, key: decodeURIComponent(key), endpoint: "" };
}

// Returns the command that copies the members of these names into a new blob. Without names, it reads them from names.txt.
export function subsetOfNames(names, blob) {
  const command = `blobpack subset ${shellQuoted(blob.s3 || blob.url)} subset.tar`;
  // a list of names has one on each line
  if (names.some((name) => /[\r\n]|^\ufeff/.test(name))) {
    return command + names.map((name) => ` \\\n  --filter ${shellQuoted(globOf(name))}`).join("");
  }
  if (!names.length) return `${command} \\\n  --names-from names.txt`;
  return `printf '%s\\n' ${names.map(shellQuoted).join(" ")} |\n  ${command} \\\n  --names-from -`;
}

// Returns the command that copies the members that a search and its filters find into a new blob.
export function subsetOfSearch(query, blob) {
  const options = [];
  if (query.text) {
    options.push(
      query.isGlob
        ? `--filter ${shellQuoted(query.text)}`
        : `--regex ${shellQuoted(`(?i)${query.text.replace(/[\\^$.|?*+()[\]{}#&~\s-]/g, "\\$&")}`)}`,
    );
  }
  for (const type of query.types) options.push(`--media-type ${type}`);
  for (const [name, value] of Object.entries(query.limits)) options.push(`--${name} ${value}`);
  const command = `blobpack subset ${shellQuoted(blob.s3 || blob.url)} subset.tar`;
  return [command, ...options].join(" \\\n  ");
}

// Returns the glob that matches one name only.
function globOf(name) {
  return name.replace(/[*?[]/g, "[$&]");
}

// Returns the bytes of a name; a lone surrogate becomes the byte that it stands for. (blobpack.js has this function, too,
// but this module must not depend on it.)
function encoded(name) {
  const whole = new TextEncoder().encode(name);
  if (name.isWellFormed?.() ?? !/\p{Surrogate}/u.test(name)) return whole;
  const bytes = [];
  for (const char of name) {
    const point = char.codePointAt(0);
    if (point >= 0xdc80 && point <= 0xdcff) bytes.push(point - 0xdc00);
    else bytes.push(...new TextEncoder().encode(char));
  }
  return Uint8Array.from(bytes);
}

function hex(point, digits) {
  return point.toString(16).padStart(digits, "0");
}
