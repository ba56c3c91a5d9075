// A face's home in JupyterLab: a kernel answers its questions. widgets/face.py puts the pieces and a face before this.

export default {
    render({model, el}) {
        const waiting = new Map();
        const ask = (question, given) => new Promise((resolve, reject) => {
            const id = Math.random(); // the same panel may be shown twice
            waiting.set(id, {resolve, reject});
            model.send({id, question, given});
        });
        const message = Object.assign(document.createElement("p"), {role: "alert"});
        const root = document.createElement("div");
        root.className = "face";
        root.addEventListener("keydown", event => { // JupyterLab would go to another cell, or add one for a B
            if (!event.ctrlKey && !event.metaKey && event.key !== "Enter") event.stopPropagation();
        });
        el.append(root, message);
        const listen = ({id, answer, error}, buffers) => {
            if (!waiting.has(id)) return;
            const {resolve, reject} = waiting.get(id);
            waiting.delete(id);
            message.textContent = error ?? "";
            if (error) return reject(new Error(error));
            for (const [name, {type, buffer}] of Object.entries(answer.arrays)) {
                // a view, which need not begin where an array may
                const {buffer: bytes, byteOffset, byteLength} = buffers[buffer];
                answer.values[name] = new globalThis[type](bytes.slice(byteOffset, byteOffset + byteLength));
            }
            resolve(answer.values);
        };
        model.on("msg:custom", listen);
        face(root, ask, model.get("about"));
        return () => model.off("msg:custom", listen);
    },
};
