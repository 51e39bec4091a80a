// @ts-check
/** Sound and watch on the wall. Patterns, not volumes: P1 two-tone without end, P2 three beeps per 10 s, supervision lost one low beep per 5 s. */
import { hooks, model } from "./page.js";

const LOUD = ["unacked", "returned_unacked", "latched_unacked"];
const dialog = /** @type {HTMLDialogElement} */ (document.getElementById("watch"));
const off = /** @type {HTMLElement} */ (document.getElementById("soundoff"));
/** @type {AudioContext | null} */
let audio = null;
/** Until when the sound already lies in the audio clock, so that late or doubled calls never overlap. */
let scheduled = 0;
let second = 0;

/** @param {number} at seconds of the audio clock @param {number} hertz @param {number} seconds */
function tone(at, hertz, seconds) {
  if (!audio) return;
  const [wave, volume] = [audio.createOscillator(), audio.createGain()];
  wave.type = "square";
  wave.frequency.value = hertz;
  volume.gain.setValueAtTime(0.0001, at);
  volume.gain.linearRampToValueAtTime(0.2, at + 0.01);
  volume.gain.setValueAtTime(0.2, at + seconds - 0.02);
  volume.gain.linearRampToValueAtTime(0.0001, at + seconds);
  wave.connect(volume).connect(audio.destination);
  wave.start(at);
  wave.stop(at + seconds);
}

/** One second of two-tone. @param {number} at */
function horn(at) {
  for (const i of [0, 1]) {
    tone(at + i * 0.5, 960, 0.25);
    tone(at + i * 0.5 + 0.25, 770, 0.25);
  }
}

/** @param {string} state wait, live or stale @returns {number} the worst priority that must sound; 9 supervision lost, 0 silence */
function loudest(state) {
  const loud = model.alarms.filter((/** @type {any} */ a) => LOUD.includes(a.state)).map((/** @type {any} */ a) => a.priority);
  const worst = Math.min(9, ...loud);
  if (worst <= 2) return worst;
  return state === "stale" || document.querySelector(".site.lost") || document.documentElement.classList.contains("unsupervised")
    ? 9
    : 0;
}

/** Lays the next second of sound; called by every tick and twice a second. @param {string} state */
function sound(state) {
  off.hidden = audio?.state === "running";
  if (!audio || audio.state !== "running" || audio.currentTime < scheduled - 0.3) return;
  const at = Math.max(audio.currentTime, scheduled);
  const what = loudest(state);
  if (what === 1) horn(at);
  if (what === 2 && second % 10 === 0) for (const i of [0, 1, 2]) tone(at + i * 0.3, 880, 0.15);
  if (what === 9 && second % 5 === 0) tone(at, 220, 0.4);
  second += 1;
  scheduled = at + 1;
}

/** Needs a person's gesture: browsers refuse sound before one. */
async function startWatch() {
  audio ??= new AudioContext();
  dialog.close();
  await Promise.allSettled([
    audio.resume(),
    navigator.wakeLock?.request("screen"),
    document.documentElement.requestFullscreen?.(),
  ]);
  sound("wait");
}

document.getElementById("watch-go")?.addEventListener("click", startWatch);
document.getElementById("watch-on")?.addEventListener("click", startWatch);
document.getElementById("watch-no")?.addEventListener("click", () => dialog.close());
document.getElementById("horn")?.addEventListener("click", async () => {
  audio ??= new AudioContext();
  await audio.resume();
  horn(audio.currentTime + 0.05);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && audio) navigator.wakeLock?.request("screen").catch(() => {}); // a hidden page loses its wake lock
});
hooks.tick.push(sound);
dialog.showModal();
