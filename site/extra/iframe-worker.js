// Search runs in a worker, and browsers start none for a page that is opened from a folder (file://).
// There the same script runs in a hidden frame, under the name by which Material's search looks for it.
if (location.protocol === "file:") {
  const load = (page, source) => new Promise((resolve, reject) => {
    page.body.append(Object.assign(page.createElement("script"), { src: source, onload: resolve, onerror: reject }));
  });
  const emptyFrame = () => new Promise(resolve => {
    const frame = Object.assign(document.createElement("iframe"), { hidden: true, srcdoc: "<body></body>" });
    frame.onload = () => resolve(frame.contentWindow);
    document.body.append(frame);
  });
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.started = this.start(url);
    }
    async start(url) {
      const inside = await emptyFrame();
      inside.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...sources) => {
        for (const source of sources) await load(inside.document, source);
      };
      await load(inside.document, url);
      return inside;
    }
    async postMessage(data) {
      const inside = await this.started;
      inside.dispatchEvent(new inside.MessageEvent("message", { data }));
    }
  };
}
