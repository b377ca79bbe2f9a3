// What the page says beside its pictures: a banner for what failed, a short note for what was done; and dark or light.

import { element } from "./gallery_large.js";

const TOAST_MS = 4000;

const $ = (id) => document.getElementById(id);

export function showBanner(text, action, act = () => location.reload()) {
  const button = element("button", action, { type: "button" });
  button.onclick = act;
  $("banner").replaceChildren(element("span", text), button);
  $("banner").hidden = false;
}

let toasting;

export function toast(text) {
  $("toast").textContent = text;
  $("toast").hidden = false;
  clearTimeout(toasting);
  toasting = setTimeout(() => ($("toast").hidden = true), TOAST_MS);
}

// Puts a text on the clipboard, and says so.
export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    toast("This browser does not let the page copy: select the text instead");
  }
}

// Follows the system, until the button is pressed.
export function followTheme() {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    // a page may be forbidden to store anything
    try {
      return localStorage.getItem("blobpack-theme");
    } catch {
      return null;
    }
  };
  const theme = kept();
  if (theme === "dark" || theme === "light") root.dataset.theme = theme;
  $("theme").onclick = () => {
    const now = root.dataset.theme ?? (isDark.matches ? "dark" : "light");
    root.dataset.theme = now === "dark" ? "light" : "dark";
    try {
      localStorage.setItem("blobpack-theme", root.dataset.theme);
    } catch {
      // it holds until the page is left
    }
  };
}
