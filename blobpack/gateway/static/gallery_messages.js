// Messages of the page: a banner for an error, and a short note for something that was done. Also the dark or light theme.

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

// Copies a text to the clipboard, and shows the note `done`.
export async function copy(text, done) {
  try {
    await navigator.clipboard.writeText(text);
    toast(done);
  } catch {
    toast("This browser doesn't let the page copy: select the text and copy it yourself");
  }
}

// Follows the system's theme, until the button is pressed.
export function followTheme() {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)");
  const kept = () => {
    // a browser may forbid a page to store anything
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
      // then the theme lasts until the page is closed
    }
  };
}
