// Search runs in a worker, and browsers start none for a page that is opened from a folder (file://).
// There the same script runs in a hidden frame, under the name by which Material's search looks for it.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.ready = new Promise(resolve => frame.addEventListener("load", () => resolve(frame.contentWindow)));
      const begin = () => {
        document.body.append(frame);
        const inside = frame.contentWindow;
        inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
        inside.importScripts = (...scripts) => scripts.reduce(
          (before, script) => before.then(() => load(inside.document, script)), Promise.resolve());
        this.ready = load(inside.document, url).then(() => inside);
      };
      const load = (page, source) => new Promise((resolve, reject) => {
        const script = page.createElement("script");
        Object.assign(script, { src: source, onload: resolve, onerror: reject });
        page.body.append(script);
      });
      this.ready = new Promise(resolve => {
        const start = () => { begin(); resolve(this.ready); };
        document.body ? start() : addEventListener("DOMContentLoaded", start);
      });
    }
    postMessage(data) {
      this.ready.then(inside => inside.dispatchEvent(new inside.MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
