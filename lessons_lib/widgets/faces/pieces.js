// What the faces of the panels share. A face is one function, face(root, ask, about): it fills the element root with
// controls and canvases, and asks for what it shows. ask(question, given) promises an answer, an object whose numbers
// may lie in typed arrays; in JupyterLab a kernel gives it, on the website a network in the page. about says what can
// be chosen. A face returns renew(), to be called when there is another picture; what it knows is at root.state.

// Fill an element; its parts by the name in their attribute data-part.
export function fill(root, html) {
    root.innerHTML = html;
    return Object.fromEntries([...root.querySelectorAll("[data-part]")].map(part => [part.dataset.part, part]));
}

export const best = values => values.indexOf(Math.max(...values));

export function short(value) {
    const digits = value === 0 ? 0 : Math.abs(value) < 0.0995 ? 3 : Math.abs(value) < 9.95 ? 2 : 1;
    return value.toFixed(digits).replace("-", "−");
}

export function options(select, names, chosen) {
    select.replaceChildren(...names.map(([value, name]) => new Option(name, value)));
    select.value = chosen;
}

// Words for those who listen: only what stays a moment.
export function say(part, words) {
    clearTimeout(part.timer);
    part.timer = setTimeout(() => { part.textContent = words; }, 300);
}

// A function that may be called as often as one likes: while a call is at work, of the later ones only the last waits.
export function latest(work) {
    let busy = null, again = false;
    return () => {
        again = true;
        return busy ??= (async () => {
            while (again) {
                again = false;
                await work();
            }
        })().finally(() => { busy = null; });
    };
}

// Pixels, as a canvas has them (red, green, blue, opacity), onto a canvas, with words for those who do not see it.
export function draw(canvas, pixels, width, height, words) {
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
    const context = canvas.getContext("2d");
    context.putImageData(new ImageData(new Uint8ClampedArray(pixels), width), 0, 0);
    canvas.setAttribute("aria-label", words);
    return context;
}

// Have a marker on a picture moved by dragging it, by pressing where it shall go, and by arrow keys (with Shift by
// one): put(row, column) is called with where, in pixels of the picture, and where() says where it is.
export function movable(stage, marker, size, where, put, step = 8) {
    const place = event => {
        const {left, top, width, height} = stage.getBoundingClientRect(), whole = size();
        return [(event.clientY - top) / height * whole.height, (event.clientX - left) / width * whole.width];
    };
    let held = null; // from the pointer to the marker, while it is dragged
    stage.addEventListener("pointerdown", event => {
        if (event.target !== marker && event.pointerType !== "mouse") return; // a finger there scrolls the page
        const [row, column] = place(event), now = where();
        held = event.target === marker ? [now.row - row, now.column - column] : [0, 0];
        stage.setPointerCapture(event.pointerId);
        put(row + held[0], column + held[1]);
    });
    stage.addEventListener("pointermove", event => {
        if (!held) return;
        const [row, column] = place(event);
        put(row + held[0], column + held[1]);
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { held = null; });
    stage.addEventListener("click", event => { if (event.target !== marker) put(...place(event)); });
    marker.addEventListener("keydown", event => {
        const way = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
        if (!way) return;
        event.preventDefault();
        const far = event.shiftKey ? 1 : step, now = where();
        put(now.row + far * way[0], now.column + far * way[1]);
    });
}

// Blue for −1, white for 0, red for 1: ColorBrewer's RdBu, as matplotlib has it.
const RED_BLUE = [
    [5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
    [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31],
];

function colour(value) {
    const place = 5 * (1 + Math.min(1, Math.max(-1, value))), low = Math.min(9, Math.floor(place));
    return RED_BLUE[low].map((shade, c) => shade + (place - low) * (RED_BLUE[low + 1][c] - shade));
}

// A map of rows × columns values, enlarged bilinearly to a picture's size. toRow and toColumn say at which place of
// the map a pixel lies.
export function enlarge(map, [rows, columns], [height, width], toRow, toColumn = toRow) {
    const places = (length, count, to) => Array.from({length}, (_, pixel) => {
        const place = Math.min(count - 1, Math.max(0, to(pixel))), low = Math.max(0, Math.min(count - 2, Math.floor(place)));
        return [low, place - low];
    });
    const across = places(width, columns, toColumn), out = new Float32Array(height * width);
    const right = Math.min(1, columns - 1), below = columns * Math.min(1, rows - 1);
    places(height, rows, toRow).forEach(([row, down], y) => across.forEach(([column, over], x) => {
        const [a, b, c, d] = [0, right, below, below + right].map(step => map[row * columns + column + step]);
        out[y * width + x] = (1 - down) * ((1 - over) * a + over * b) + down * ((1 - over) * c + over * d);
    }));
    return out;
}

// A picture in grey, and over it the colours of a map with a value for each pixel, the stronger the larger it is.
export function overlay(pixels, values, limit, strength = 0.75) {
    const out = new Uint8ClampedArray(pixels.length).fill(255);
    values.forEach((value, i) => {
        const grey = 0.299 * pixels[4 * i] + 0.587 * pixels[4 * i + 1] + 0.114 * pixels[4 * i + 2];
        const part = limit ? strength * Math.min(1, Math.abs(value / limit)) : 0;
        colour(limit ? value / limit : 0).forEach((shade, c) => { out[4 * i + c] = grey + part * (shade - grey); });
    });
    return out;
}

// The colours from −limit to limit, under a map.
export function scale(part, limit) {
    part.hidden = limit === null;
    if (limit === null) return;
    part.style.setProperty("--colours", RED_BLUE.map(shade => `rgb(${shade})`).join());
    part.replaceChildren(...[-limit, 0, limit].map(value => {
        return Object.assign(document.createElement("span"), {textContent: short(value)});
    }));
}
