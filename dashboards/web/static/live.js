// @ts-check
/**
 * One stream per browser and view: the tab that holds the lock opens it and passes everything on; when it goes, the next tab
 * goes on from the last id. Without Web Locks (no secure context) each tab has its own.
 */

/** @typedef {{name: string, data: any, id: number}} Message */
const NAMES = ["event", "rows", "tick", "reset", "bye"];
const SILENT_MS = 15_000; // a half-open connection keeps its state; this much silence builds a new one

/**
 * Follows a view from log position `after`; `take` gets every message in order, none twice.
 * @param {URLSearchParams} view @param {number} after @param {(message: Message) => void} take
 */
export function follow(view, after, take) {
  const name = `manway-live ${view}`;
  const channel = new BroadcastChannel(name);
  let last = after;
  let leads = false;
  /** @type {Message | null} */
  let newest = null;

  /** @param {Message} message */
  function deliver(message) {
    if (message.name === "event") {
      if (message.id <= last) return;
      last = message.id;
    }
    if (message.name === "rows") newest = message;
    take(message);
  }

  channel.onmessage = ({ data }) => {
    if (data.name !== "hello") deliver(data);
    else if (leads && newest) channel.postMessage(newest); // a tab that came late gets the newest rows
  };

  function connect(tries = 0) {
    const source = new EventSource(`/api/v1/stream?after=${last}&${view}`);
    let heard = performance.now();
    const again = () => {
      clearInterval(watch);
      source.close();
      setTimeout(connect, Math.min(5000, 500 * 2 ** tries) + Math.random() * 250, tries + 1);
    };
    const watch = setInterval(() => performance.now() - heard > SILENT_MS && again(), 1000);
    for (const kind of NAMES) {
      source.addEventListener(kind, (event) => {
        heard = performance.now();
        tries = 0;
        const message = { name: kind, data: event.data ? JSON.parse(event.data) : null, id: Number(event.lastEventId) };
        channel.postMessage(message);
        deliver(message);
        if (kind === "bye") {
          clearInterval(watch);
          source.close();
        }
      });
    }
    source.onerror = () => source.readyState === EventSource.CLOSED && again();
  }

  const lead = () => {
    leads = true;
    connect();
    return new Promise(() => {}); // held until this tab goes
  };
  if (navigator.locks) navigator.locks.request(name, lead);
  else lead();
  channel.postMessage({ name: "hello" });
}
