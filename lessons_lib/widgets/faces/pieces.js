// What the faces of the panels share. A face is one function, face(root, ask, about): it fills the element root with
// controls and canvases, and asks for what it shows. ask(question, given) promises an answer, an object whose numbers
// may lie in typed arrays; in JupyterLab a kernel gives it, on the website a network in the page. about says what can
// be chosen. A face returns renew(), to be called when there is another picture; what it knows is at root.state.

// Fill an element; its parts by the name in their attribute data-part.
export function fill(root, html) {
    root.innerHTML = html;
    for (const canvas of root.querySelectorAll("canvas")) canvas.setAttribute("aria-label", "Nothing is drawn yet");
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

// Colours from the least to the largest value. Blue for less than 0, white for 0, red for more: ColorBrewer's RdBu, as
// matplotlib has it; and matplotlib's magma, for what is never less than 0.
export const RED_BLUE = [
    [5, 48, 97], [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
    [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43], [103, 0, 31],
];
export const MAGMA = [
    [0, 0, 4], [20, 14, 54], [59, 15, 112], [100, 26, 128], [140, 41, 129], [183, 55, 121], [222, 73, 104],
    [247, 112, 92], [254, 159, 109], [254, 207, 146], [252, 253, 191],
];

// The colour of a value from 0 to 1.
export function colour(value, colours) {
    const last = colours.length - 1, place = last * Math.min(1, Math.max(0, value));
    const low = Math.min(last - 1, Math.floor(place));
    return colours[low].map((shade, c) => shade + (place - low) * (colours[low + 1][c] - shade));
}

// Values as pixels, from low to high in these colours.
export function coloured(values, low, high, colours) {
    const pixels = new Uint8ClampedArray(4 * values.length).fill(255);
    const part = value => high > low ? (value - low) / (high - low) : 0;
    values.forEach((value, i) => pixels.set(colour(part(value), colours), 4 * i));
    return pixels;
}

// A map of rows × columns values, enlarged bilinearly to a picture's size. toRow and toColumn say at which place of
// the map a pixel lies.
export function enlarge(map, [rows, columns], [height, width], toRow, toColumn = toRow) {
    const places = (length, count, to) => Array.from({length}, (_, pixel) => {
        const place = Math.min(count - 1, Math.max(0, to(pixel)));
        const low = Math.max(0, Math.min(count - 2, Math.floor(place)));
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
        const shades = colour(limit ? 0.5 + value / limit / 2 : 0.5, RED_BLUE);
        shades.forEach((shade, c) => { out[4 * i + c] = grey + part * (shade - grey); });
    });
    return out;
}

// The colours from −limit to limit, or from low to it, under a map.
export function scale(part, limit, low = -limit, colours = RED_BLUE) {
    part.hidden = limit === null;
    if (limit === null) return;
    part.style.setProperty("--colours", colours.map(shade => `rgb(${shade})`).join());
    part.replaceChildren(...[low, (low + limit) / 2, limit].map(value => {
        return Object.assign(document.createElement("span"), {textContent: short(value)});
    }));
}

// A slider over names: what stands at its value is told beside it and to those who listen.
export function steps(slider, names, chosen) {
    Object.assign(slider, {max: names.length - 1, value: chosen});
    slider.setAttribute("aria-valuetext", names[chosen]);
    slider.parentNode.nextElementSibling.textContent = names[chosen];
}

// A field for a number: choose(number) is called while one types, and what was chosen stands there afterwards.
export function numbered(field, choose, chosen) {
    field.addEventListener("input", () => { if (field.value !== "") choose(Math.round(Number(field.value))); });
    field.addEventListener("change", () => { field.value = chosen(); });
}

// Probabilities as bars in a list: names, values, and where a line marks another value, if that is told.
export function bars(list, rows) {
    list.replaceChildren(...rows.map(([name, value, other]) => {
        const item = document.createElement("li");
        item.innerHTML = "<span class=name></span> <span class=number></span><span class=bar><i></i><b></b></span>";
        item.querySelector(".name").textContent = name;
        item.querySelector(".number").textContent = short(value);
        item.querySelector("i").style.width = `${100 * value}%`;
        const line = item.querySelector("b");
        if (other === undefined) line.remove();
        else line.style.left = `${100 * other}%`;
        return item;
    }));
}

const SMALLEST_TILE = 24; // pixels of the screen
const BETWEEN_TILES = "#bfbfbf";

// A mosaic of tiles, one of which is chosen and framed: choose(number) is called when another is pressed or reached by
// arrow keys. What this returns shows tiles: their pixels, one tile after the other, how many there are, their width
// and height, which is chosen, and words for those who do not see them.
export function mosaic(stage, what, choose) {
    stage.innerHTML = "<div><canvas role=img aria-label='Nothing is drawn yet'></canvas>"
        + "<div class=tile tabindex=0 role=slider hidden></div></div>";
    const [canvas, frame] = stage.firstChild.children;
    let tiles = null, columns = 1;
    frame.setAttribute("aria-label", what);

    function show() {
        const room = stage.clientWidth;
        if (!room || !tiles) return;
        const {pixels, count, width, height, chosen, words} = tiles;
        columns = Math.max(1, Math.min(tilesInRow(count), Math.floor(room / SMALLEST_TILE)));
        const side = Math.round(room * devicePixelRatio / columns), high = Math.round(side * height / width);
        const rows = Math.ceil(count / columns), strip = new OffscreenCanvas(width, count * height);
        strip.getContext("2d").putImageData(new ImageData(pixels, width), 0, 0);
        Object.assign(canvas, {width: columns * side, height: rows * high});
        const context = canvas.getContext("2d"), gap = Math.round(devicePixelRatio);
        context.imageSmoothingEnabled = side < 2 * width; // larger tiles show their pixels
        context.fillStyle = BETWEEN_TILES;
        for (let i = 0; i < count; i++) {
            const [left, top] = [i % columns * side, Math.floor(i / columns) * high];
            context.fillRect(left, top, side, high);
            context.drawImage(strip, 0, i * height, width, height, left, top, side - gap, high - gap);
        }
        canvas.setAttribute("aria-label", words);
        frame.hidden = false;
        const part = (at, of) => `${100 * at / of}%`;
        Object.assign(frame.style, {
            left: part(chosen % columns, columns), top: part(Math.floor(chosen / columns), rows),
            width: part(1, columns), height: part(1, rows),
        });
        Object.assign(frame, {ariaValueMin: 0, ariaValueMax: count - 1, ariaValueNow: chosen});
    }

    stage.addEventListener("click", event => {
        if (!tiles) return;
        const {left, top, width, height} = canvas.getBoundingClientRect(), rows = Math.ceil(tiles.count / columns);
        const row = Math.floor((event.clientY - top) / height * rows);
        const tile = row * columns + Math.min(columns - 1, Math.floor((event.clientX - left) / width * columns));
        if (tile >= tiles.count) return;
        frame.focus({preventScroll: true});
        choose(tile);
    });
    frame.addEventListener("keydown", event => {
        const {chosen, count} = tiles;
        const to = {
            ArrowLeft: chosen - 1, ArrowRight: chosen + 1, ArrowUp: chosen - columns, ArrowDown: chosen + columns,
            Home: 0, End: count - 1,
        }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        if (to < 0 || to >= count) return;
        choose(to);
        frame.scrollIntoView({block: "nearest"});
    });
    let before = 0;
    new ResizeObserver(() => {
        if (stage.clientWidth === before) return;
        before = stage.clientWidth;
        show();
    }).observe(stage);
    return next => {
        tiles = next;
        show();
    };
}

// How many tiles stand in a row if there is room: about as many as there are rows, and if it can be, without a rest.
function tilesInRow(count) {
    const least = Math.ceil(Math.sqrt(count));
    for (let n = least; n <= 2 * least; n++) if (count % n === 0) return n;
    return least;
}

// A list of so many pictures, each with a caption.
export function pictures(list, count) {
    while (list.children.length > count) list.lastChild.remove();
    while (list.children.length < count) {
        const item = document.createElement("li");
        item.innerHTML = "<canvas role=img></canvas><span></span>";
        list.append(item);
    }
    return [...list.children].map(item => ({item, canvas: item.firstChild, caption: item.lastChild}));
}
